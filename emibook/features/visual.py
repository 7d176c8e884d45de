"""Networks that look at aligned face crops: one row of features a face.

``resnet18`` is torchvision's trunk with the final fully connected layer removed, so that global averaging ends it;
``vit`` is a Vision Transformer read at its class token.
Source: the paper, section 3.2.1 (512 and 384 features; crops of 112x112 pixels go into the network as they are).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from emibook import InputError
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


def read_resnet18(path: Path | str) -> dict[str, Tensor]:
    """The trunk in a ResNet-18 checkpoint, under torchvision's keys, float32.

    Takes the three layouts in which AffectNet weights are published: DAN's (``model_state_dict`` with
    ``features.0``...), LibreFace's (``model`` with ``encoder.0``...) and torchvision's own keys; keys beyond the trunk
    (heads, attention) are left out. Raises ``InputError`` for a file that holds anything but tensors where the weights
    are, or lacks a trunk key, or has one of another shape.
    """
    path = Path(path)
    state = load_state(path)
    for outer in LAYOUTS:
        if isinstance(state.get(outer), dict):
            state = state[outer]
            break
    state = tensors(state, path)
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("module.")  # left behind by DataParallel
        for prefix in LAYOUTS.values():
            number, dot, rest = key.removeprefix(prefix).partition(".")
            if key.startswith(prefix) and number in NUMBERED:
                key = f"{NUMBERED[number]}{dot}{rest}"
        renamed[key] = value
    trunk = {}
    for key, expected in resnet18_trunk().state_dict().items():
        if key not in renamed:
            if key.endswith("num_batches_tracked"):  # counts training steps; older checkpoints lack it
                trunk[key] = expected
                continue
            raise InputError(f"{path}: no {key}, which ResNet-18 needs; expected torchvision's keys, or DAN's or "
                             "LibreFace's checkpoint")
        if renamed[key].shape != expected.shape:
            raise InputError(f"{path}: {key} has shape {tuple(renamed[key].shape)}, ResNet-18's is "
                             f"{tuple(expected.shape)}")
        trunk[key] = renamed[key].to(expected.dtype).contiguous().clone()
    return trunk


def native_precision(device: str) -> str:
    """The fastest precision that ``device`` computes in natively: ``bfloat16`` where it can, else ``float32``."""
    if torch.device(device).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        native = any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))
    return "bfloat16" if native else "float32"


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
        trunk = resnet18_trunk()
        trunk.load_state_dict(read_resnet18(weights.path(folder)))
        super().__init__(without_batch_norm(trunk.eval()), imagenet_normalised, weights, device)

    @staticmethod
    def convert(path: Path) -> dict[str, Tensor]:
        """The tensors to keep of a checkpoint that a user gives."""
        return read_resnet18(path)


class ViT(VisualEncoder):
    """The class token of a Vision Transformer's last hidden state, 384 a face, through transformers.

    ``untrained``: two layers and 112-pixel input instead of twelve and 224, the true width and patch, random weights
    from a seed. It shows that the row runs, and is the control that a trained encoder has to beat.
    """

    name, width = "vit", 384
    layers, pixels = 2, 112

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        from transformers import ViTConfig, ViTImageProcessor, ViTModel

        config = ViTConfig(hidden_size=self.width, num_hidden_layers=self.layers, num_attention_heads=6,
                           intermediate_size=4 * self.width, image_size=self.pixels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights.seed)
            model = ViTModel(config, add_pooling_layer=False)
        self.processor = ViTImageProcessor(size={"height": self.pixels, "width": self.pixels})
        super().__init__(model, self.processed, weights, device)

    def processed(self, images: Tensor) -> Tensor:
        """(face, height, width, 3) bytes as the model wants them: its own size, its own mean and deviation."""
        planes = images.permute(0, 3, 1, 2)
        return self.processor(images=planes, return_tensors="pt", device=self.device)["pixel_values"]

    def pooled(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).last_hidden_state[:, 0]
