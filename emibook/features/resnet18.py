"""``resnet18``: torchvision's ResNet-18 up to its global average, on aligned face crops.

Source: the paper, section 3.2.1 (512 features; crops of 112x112 pixels go into ResNet-18 as they are). The built-in
weights alone are fitted on, and read, the middle of the crop at a smaller size (``builtin_input``).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import interpolate

from emibook.features.image_encoder import (
    ImageEncoder,
    built,
    imagenet_normalised,
    layout,
    matched,
    plain_state,
    without_batch_norm,
)
from emibook.features.weights import Weights

# Where the published AffectNet checkpoints put torchvision's conv1, bn1 and layer1 to layer4: they wrap the trunk's
# children in one Sequential, whose members are numbered. Source: yaoing/DAN and ihp-lab/LibreFace.
NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
LAYOUTS = {"model_state_dict": "features.", "model": "encoder."}
BUILTIN_ROWS, BUILTIN_COLUMNS = slice(14, 110), slice(14, 98)
"""What the built-in weights read of a crop: forehead to chin, and the same of its mirror image."""
BUILTIN_SIZE = (64, 56)
"""Rows and columns that this is reduced to: 0.29 of the crop's pixels, and of the arithmetic."""


class ResNet18(ImageEncoder):
    """Global averages of ResNet-18's last convolution, 512 features per face."""

    name, version, width = "resnet18", "2", 512

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        trunk = built(resnet18_trunk, weights, read_resnet18(weights.path(folder)) if weights.file else None)
        prepare = builtin_input if weights.kind == "builtin" else imagenet_normalised
        super().__init__(without_batch_norm(without_identities(trunk).eval()), prepare, weights, device)

    @staticmethod
    def convert(path: Path) -> dict[str, Tensor]:
        """The tensors to keep of a checkpoint that a user gives."""
        return read_resnet18(path)


def resnet18_trunk() -> nn.Module:
    """Torchvision's ResNet-18 without its fully connected layer: (face, 3, height, width) to (face, 512)."""
    from torchvision.models import resnet18

    trunk = resnet18(weights=None)
    trunk.fc = nn.Identity()
    return trunk


def builtin_input(images: Tensor) -> Tensor:
    """(face, 112, 112, 3) bytes as the input (face, 3, 64, 56) of the built-in weights."""
    middle = imagenet_normalised(images)[..., BUILTIN_ROWS, BUILTIN_COLUMNS]
    return interpolate(middle, size=BUILTIN_SIZE, mode="bilinear", antialias=True)


def without_identities(trunk: nn.Module) -> nn.Module:
    """``trunk`` (changed in place) without residual blocks that return their input, as in the built-in weights."""
    for name in ("layer1", "layer2", "layer3", "layer4"):
        blocks = getattr(trunk, name)
        setattr(trunk, name, nn.Sequential(*(block for block in blocks if block.downsample is not None
                                             or block.bn2.weight.any() or block.bn2.bias.any())))
    return trunk


def read_resnet18(path: Path | str) -> dict[str, Tensor]:
    """The trunk in a ResNet-18 checkpoint, under torchvision's keys, float32.

    Takes the three layouts in which AffectNet weights are published: DAN's (``model_state_dict`` with
    ``features.0``...), LibreFace's (``model`` with ``encoder.0``...) and torchvision's own keys. Keys beyond the trunk
    (heads, attention) are left out.

    Raises:
        InputError: the file holds anything but tensors where the weights are, lacks a trunk key, or has one of another
            shape.
    """
    path = Path(path)
    renamed = {}
    for key, value in plain_state(path, *LAYOUTS).items():
        for prefix in LAYOUTS.values():
            number, dot, rest = key.removeprefix(prefix).partition(".")
            if key.startswith(prefix) and number in NUMBERED:
                key = f"{NUMBERED[number]}{dot}{rest}"
        renamed[key] = value
    what = "ResNet-18 (in torchvision's layout, DAN's or LibreFace's)"
    return matched(renamed, layout(resnet18_trunk), path, what)
