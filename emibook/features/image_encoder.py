"""What all encoders of aligned face crops share: batches, precision, preparation of pixels, reading of checkpoints."""

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
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageEncoder:
    """Turns face crops into a ``FeatureSequence`` in batches; the other faces of a batch change a row by rounding only.

    The network computes in ``weights.precision``, channels last. A crop that equals the one before it is encoded once.

    Args:
        model: maps (face, 3, height, width) to (face, feature).
        prepare: maps bytes (face, height, width, 3) to the network's input (face, 3, height, width).
        weights: the identity of the model's numbers.
        device: ``cpu`` or ``cuda``.
    """

    name: str
    version = "1"
    width: int
    precision_on = staticmethod(native_precision)
    """The precision of a new feature set on a device."""

    def __init__(self, model: nn.Module, prepare: Callable[[Tensor], Tensor], weights: Weights, device: str) -> None:
        self.dtype = getattr(torch, weights.precision)
        model = model.eval().requires_grad_(False)
        self.model = model.to(device, self.dtype, memory_format=torch.channels_last)
        self.prepare, self.label, self.device = prepare, weights.label, device
        self.batch = BATCH[torch.device(device).type]

    def pooled(self, pixels: Tensor) -> Tensor:
        """The features of prepared pixels: (face, 3, height, width) to (face, feature)."""
        return self.model(pixels)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray, times: np.ndarray, landmarks: np.ndarray) -> FeatureSequence:
        """The features of one clip's faces.

        Args:
            images: aligned crops (face, 112, 112, 3), uint8 RGB.
            times: seconds of each face (face,).
            landmarks: five points in crop pixels (face, 5, 2); not used by networks.
        """
        new = ~repeats(images)
        unique, rows = images[new], [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(unique), self.batch):
            batch = torch.from_numpy(np.ascontiguousarray(unique[start : start + self.batch])).to(self.device)
            pixels = self.prepare(batch).to(self.dtype, memory_format=torch.channels_last)
            rows.append(self.pooled(pixels).float().cpu().numpy())
        values = np.concatenate(rows)[np.cumsum(new) - 1]
        return FeatureSequence(values, np.asarray(times, np.float64), self.names, self.name, self.label, self.version)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(f"{self.name}_{index:03d}" for index in range(self.width))


def imagenet_normalised(images: Tensor) -> Tensor:
    """(face, height, width, 3) bytes as (face, 3, height, width), with ImageNet's mean and deviation removed."""
    mean, deviation = (torch.tensor(values, device=images.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((images / 255 - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def resized(images: Tensor, pixels: int) -> Tensor:
    """(face, height, width, 3) bytes as (face, 3, pixels, pixels) floats in 0..255, bilinear."""
    planes = images.permute(0, 3, 1, 2).float()
    return interpolate(planes, size=(pixels, pixels), mode="bilinear", antialias=True)


def repeats(images: np.ndarray) -> np.ndarray:
    """(face,) true where a crop equals the one before it, as where one picture of the video fills two clock frames."""
    return np.array([False, *((image == before).all() for before, image in pairwise(images))][: len(images)], bool)


def plain_state(path: Path, *wrappers: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, from under the first of ``wrappers`` that it has, without DataParallel's prefix.

    Raises:
        InputError: the checkpoint holds anything but tensors there.
    """
    state = load_state(path)
    inner = next((state[wrapper] for wrapper in wrappers if isinstance(state.get(wrapper), dict)), state)
    return {key.removeprefix("module."): value for key, value in tensors(inner, path).items()}


def matched(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of ``state`` for every key of ``expected``, in its type; other keys are left out.

    A count of training steps may be missing, as it is in older checkpoints.

    Raises:
        InputError: a key is missing or has another shape.
    """
    result = {}
    for key, value in expected.items():
        if key not in state:
            if key.endswith("num_batches_tracked"):
                result[key] = torch.zeros(value.shape, dtype=value.dtype)
                continue
            raise InputError(f"{path}: no {key}, which {what} needs")
        if state[key].shape != value.shape:
            raise InputError(f"{path}: {key} has shape {tuple(state[key].shape)}, {what} has {tuple(value.shape)}")
        result[key] = state[key].to(value.dtype).contiguous().clone()
    return result


def without_batch_norm(model: nn.Module) -> nn.Module:
    """``model`` (changed in place) with each batch normalisation that follows a convolution folded into its weights."""
    for module in list(model.modules()):
        for (first, before), (second, after) in pairwise(list(module.named_children())):
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(before, after))
                setattr(module, second, nn.Identity())
    return model


def layout(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The names, shapes and types of the tensors of ``build()``, without their numbers."""
    with torch.device("meta"):
        return build().state_dict()


def built(build: Callable[[], nn.Module], weights: Weights, state: dict[str, Tensor] | None) -> nn.Module:
    """``build()`` with the numbers in ``state``, or without one with random numbers from the weights' seed."""
    if state is None:
        with seeded(weights.seed):
            return build()
    with torch.device("meta"):
        model = build()
    model.load_state_dict(state, assign=True)
    return model
