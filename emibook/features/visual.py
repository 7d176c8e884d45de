"""Networks that look at aligned face crops: one row of features a face.

``resnet18`` is torchvision's trunk with the final fully connected layer removed, so that global averaging ends it;
``facenet`` is a network that was trained to tell people apart.
Source: the paper, section 3.2.1 (512 features; crops of 112x112 pixels go into ResNet-18 as they are) and section 2
(FaceNet).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from emibook import InputError
from emibook.device import native_precision, seeded
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights, load_state, tensors

BATCH = {"cpu": 32, "cuda": 512}  # faces; on a CPU more is slower, because the layers' outputs leave the cache
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

# Where the published AffectNet checkpoints put torchvision's conv1, bn1 and layer1 to layer4: they wrap the trunk's
# children in one Sequential, whose members are numbered. Source: yaoing/DAN and ihp-lab/LibreFace.
NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
LAYOUTS = {"model_state_dict": "features.", "model": "encoder."}


def resnet18_trunk() -> nn.Module:
    """Torchvision's ResNet-18 without its fully connected layer: (face, 3, height, width) to (face, 512)."""
    from torchvision.models import resnet18

    trunk = resnet18(weights=None)
    trunk.fc = nn.Identity()
    return trunk


def imagenet_normalised(images: Tensor) -> Tensor:
    """(face, height, width, 3) bytes as (face, 3, height, width), standardised with ImageNet's mean and deviation."""
    mean, deviation = (torch.tensor(values, device=images.device) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return ((images / 255 - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def resized(images: Tensor, pixels: int) -> Tensor:
    """(face, height, width, 3) bytes as (face, 3, pixels, pixels) floats in 0..255, bilinear."""
    planes = images.permute(0, 3, 1, 2).float()
    return interpolate(planes, size=(pixels, pixels), mode="bilinear", antialias=True)


def plain_state(path: Path, *wrappers: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, from under the first of ``wrappers`` that it has, without DataParallel's prefix.

    Raises ``InputError`` where anything but tensors is there.
    """
    state = load_state(path)
    inner = next((state[wrapper] for wrapper in wrappers if isinstance(state.get(wrapper), dict)), state)
    return {key.removeprefix("module."): value for key, value in tensors(inner, path).items()}


def matched(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, what: str) -> dict[str, Tensor]:
    """What ``state`` has for every key of ``expected``, in its type; other keys are left out.

    Raises ``InputError`` for a key that is missing or has another shape. A count of training steps may be missing, as
    it is in older checkpoints.
    """
    found = {}
    for key, value in expected.items():
        if key not in state:
            if key.endswith("num_batches_tracked"):
                found[key] = torch.zeros(value.shape, dtype=value.dtype)
                continue
            raise InputError(f"{path}: no {key}, which {what} needs")
        if state[key].shape != value.shape:
            raise InputError(f"{path}: {key} has shape {tuple(state[key].shape)}, {what} has {tuple(value.shape)}")
        found[key] = state[key].to(value.dtype).contiguous().clone()
    return found


def read_resnet18(path: Path | str) -> dict[str, Tensor]:
    """The trunk in a ResNet-18 checkpoint, under torchvision's keys, float32.

    Takes the three layouts in which AffectNet weights are published: DAN's (``model_state_dict`` with
    ``features.0``...), LibreFace's (``model`` with ``encoder.0``...) and torchvision's own keys; keys beyond the trunk
    (heads, attention) are left out. Raises ``InputError`` for a file that holds anything but tensors where the weights
    are, or lacks a trunk key, or has one of another shape.
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


def without_batch_norm(model: nn.Module) -> nn.Module:
    """``model`` (changed in place) with each batch normalisation that follows a convolution folded into its weights."""
    for module in list(model.modules()):
        for (first, before), (second, after) in pairwise(list(module.named_children())):
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(before, after))
                setattr(module, second, nn.Identity())
    return model


def repeats(images: np.ndarray) -> np.ndarray:
    """(face,) true where a face is, pixel for pixel, the one before: a picture that stands for two on the clock."""
    return np.array([False, *((image == before).all() for before, image in pairwise(images))][: len(images)], bool)


def layout(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The names, shapes and types of the tensors of ``build()``, without their numbers."""
    with torch.device("meta"):
        return build().state_dict()


def built(build: Callable[[], nn.Module], weights: Weights, state: dict[str, Tensor] | None) -> nn.Module:
    """``build()`` with the numbers in ``state``, or where there is none with random ones from the weights' seed."""
    if state is None:
        with seeded(weights.seed):
            return build()
    with torch.device("meta"):
        model = build()
    model.load_state_dict(state, assign=True)
    return model


class VisualEncoder:
    """Turns face crops into a ``FeatureSequence``, in batches; what is beside a face changes its row by rounding only.

    Called with ``images`` (face, 112, 112, 3) uint8 RGB, ``times`` (face,) seconds and ``landmarks`` (face, 5, 2) in
    crop pixels, which a network does not look at. The network computes in ``weights.precision``, channels last; a face
    that is repeated is encoded once.
    """

    name: str
    version = "1"
    width: int
    precision_on = staticmethod(native_precision)  # what extraction takes for a new feature set

    def __init__(self, model: nn.Module, prepare: Callable[[Tensor], Tensor], weights: Weights, device: str) -> None:
        self.dtype = getattr(torch, weights.precision)
        model = model.eval().requires_grad_(False)
        self.model = model.to(device, self.dtype, memory_format=torch.channels_last)
        self.prepare, self.label, self.device = prepare, weights.label, device
        self.batch = BATCH[torch.device(device).type]

    def pooled(self, pixels: Tensor) -> Tensor:
        """(face, 3, height, width) to (face, feature)."""
        return self.model(pixels)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, times: np.ndarray, landmarks: np.ndarray) -> FeatureSequence:
        new = ~repeats(images)
        seen, rows = images[new], [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(seen), self.batch):
            batch = torch.from_numpy(np.ascontiguousarray(seen[start : start + self.batch])).to(self.device)
            pixels = self.prepare(batch).to(self.dtype, memory_format=torch.channels_last)
            rows.append(self.pooled(pixels).float().cpu().numpy())
        values = np.concatenate(rows)[np.cumsum(new) - 1]
        return FeatureSequence(values, np.asarray(times, np.float64), self.names, self.name, self.label, self.version)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{index:03d}" for index in range(self.width))


class ResNet18(VisualEncoder):
    """Global averages of ResNet-18's last convolution, 512 a face."""

    name, width = "resnet18", 512

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        trunk = built(resnet18_trunk, weights, read_resnet18(weights.path(folder)) if weights.file else None)
        super().__init__(without_batch_norm(trunk.eval()), imagenet_normalised, weights, device)

    @staticmethod
    def convert(path: Path) -> dict[str, Tensor]:
        """The tensors to keep of a checkpoint that a user gives."""
        return read_resnet18(path)


class FaceNet(VisualEncoder):
    """What InceptionResnetV1 tells people apart by: 512 a face, of length one; through facenet-pytorch.

    The crop is enlarged to the 160 pixels, and its bytes mapped to -1..1, as that network was trained. It was trained
    on upright boxes around the face, though, and ours are turned and scaled by the landmarks.
    Source: Schroff et al., "FaceNet" (2015); facenet-pytorch 2.5.3.
    """

    name, width = "facenet", 512
    pixels = 160
    # Its random weights tell faces apart by a hundredth of a row's length, which bfloat16 rounds away.
    precision_on = staticmethod(lambda device: "float32")

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        model = built(self.network, weights, self.convert(weights.path(folder)) if weights.file else None)
        super().__init__(without_batch_norm(model.eval()), self.standardised, weights, device)

    @staticmethod
    def network() -> nn.Module:
        """The network without numbers of its own: (face, 3, 160, 160) to (face, 512)."""
        from facenet_pytorch import InceptionResnetV1

        return InceptionResnetV1(pretrained=None)

    def standardised(self, images: Tensor) -> Tensor:
        """(face, height, width, 3) bytes as (face, 3, 160, 160), each mapped as facenet-pytorch maps it."""
        from facenet_pytorch.models.mtcnn import fixed_image_standardization

        return fixed_image_standardization(resized(images, self.pixels))

    @classmethod
    def convert(cls, path: Path) -> dict[str, Tensor]:
        """The tensors to keep of the file that facenet-pytorch downloads: all but its last layer."""
        return matched(plain_state(path, "state_dict"), layout(cls.network), path, "InceptionResnetV1")
