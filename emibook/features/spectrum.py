"""``deepspectrum``: spectrograms as images, rendered with a colour map, through a network trained on photographs.

    sound -> mel spectrogram, decibels -> windows of a second -> colours (viridis), 224x224 -> AlexNet -> 4,096

Source: Amiriparian et al., "Snore Sound Classification Using Image-Based Deep Spectrum Features" (2017): AlexNet's
second fully connected layer on plots of spectrograms, viridis the best of their colour maps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from emibook import InputError
from emibook.device import seeded
from emibook.features.image_encoder import BATCH, imagenet_normalised
from emibook.features.store import FeatureSequence
from emibook.features.waveform import as_float
from emibook.features.weights import Weights, load_state, tensors
from emibook.preprocess.media import SAMPLE_RATE

LAST = "classifier.6."  # the layer of ImageNet's thousand classes, which is left out


def alexnet() -> nn.Module:
    """Torchvision's AlexNet up to its second fully connected layer: (picture, 3, 224, 224) to (picture, 4096)."""
    from torchvision.models import alexnet

    network = alexnet(weights=None)
    network.classifier[6] = nn.Identity()
    return network


class DeepSpectrum:
    """4,096 features of each second of sound, 10 rows per second; a row's time is the middle of its second.

    The image shows ``floor`` to 0 dBFS on 128 mel bands up to 8 kHz, low ones at the bottom; before and after the sound
    there is silence.

    ``pretrained``: torchvision's weights, trained on ImageNet. ``untrained``: random ones from a seed.
    """

    name, version, width = "deepspectrum", "1", 4096
    settings = {"n_fft": 1024, "win_length": 400, "hop_length": 160, "n_mels": 128}
    columns, step = 101, 10  # of the spectrogram, 10 ms each: in an image, and from one to the next
    floor, pixels = -80.0, 224

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        if weights.file:
            network = alexnet()
            network.load_state_dict(load_state(weights.path(folder)))
        else:
            with seeded(weights.seed):
                network = alexnet()
        self.network = network.eval().requires_grad_(False).to(device)
        self.label, self.device = weights.label, device
        self.batch = BATCH[torch.device(device).type]

    @staticmethod
    def convert(path: Path) -> dict[str, Tensor]:
        """The tensors to keep of torchvision's AlexNet."""
        state, kept = tensors(load_state(path), path), {}
        with torch.device("meta"):
            expected = alexnet().state_dict()
        for key, value in expected.items():
            if key not in state or state[key].shape != value.shape:
                raise InputError(f"{path}: no {key} of shape {tuple(value.shape)}, which AlexNet has; expected "
                                 "torchvision's file")
            kept[key] = state[key].float().contiguous()
        if unknown := [key for key in state if key not in expected and not key.startswith(LAST)]:
            raise InputError(f"{path}: {unknown[0]} is no part of AlexNet; expected torchvision's file")
        return kept

    @cached_property
    def colours(self) -> np.ndarray:
        """(256, 3) uint8 RGB, dark to bright."""
        from matplotlib import colormaps

        return (colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)

    def pictures(self, samples: np.ndarray | None) -> np.ndarray:
        """The network's input for each second: (row, 224, 224, 3) uint8 RGB."""
        return np.concatenate([np.zeros((0, self.pixels, self.pixels, 3), np.uint8), *self._batches(samples)])

    def _batches(self, samples: np.ndarray | None) -> Iterator[np.ndarray]:
        """The same in batches of ``batch``, because those of a quarter of an hour would be gigabytes."""
        import librosa

        sound, half = as_float(samples), self.columns // 2
        if not len(sound):
            return
        padded = np.pad(sound, (0, max(0, self.settings["n_fft"] - len(sound))))
        # With n_fft as the scale a full-scale sine has about 0 dB in its band.
        power = librosa.feature.melspectrogram(y=padded, sr=SAMPLE_RATE, norm=None, **self.settings)
        power = power[:, : 1 + len(sound) // self.settings["hop_length"]] / (self.settings["win_length"] / 4) ** 2
        levels = 10 * np.log10(np.maximum(power, 10 ** (self.floor / 10)))
        bytes_ = np.clip(255 * (1 - levels / self.floor), 0, 255).round().astype(np.uint8)[::-1]
        bytes_ = np.pad(bytes_, ((0, 0), (half, half)))
        starts = range(0, bytes_.shape[1] - 2 * half, self.step)
        for first in range(0, len(starts), self.batch):
            yield np.stack([self._picture(bytes_[:, start : start + self.columns])
                            for start in starts[first : first + self.batch]])

    def _picture(self, levels: np.ndarray) -> np.ndarray:
        return cv2.resize(self.colours[levels], (self.pixels, self.pixels), interpolation=cv2.INTER_LINEAR)

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray | None) -> FeatureSequence:
        """The features of one clip's sound, int16 (sample,) at 16 kHz, or None."""
        rows = [np.zeros((0, self.width), np.float32)]
        for pictures in self._batches(samples):
            batch = torch.from_numpy(pictures).to(self.device)
            rows.append(self.network(imagenet_normalised(batch)).cpu().numpy())
        values = np.concatenate(rows)
        times = np.arange(len(values)) * self.step * self.settings["hop_length"] / SAMPLE_RATE
        return FeatureSequence(values, times, self.names, self.name, self.label, self.version)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{index:04d}" for index in range(self.width))
