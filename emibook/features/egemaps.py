"""The extended Geneva minimalistic acoustic parameter set, version 2, through opensmile (``pip install opensmile``).

opensmile's licence allows research and no commercial use, whatever its package says.
Source: Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and Affective
Computing" (2016): 25 low-level descriptors every 10 ms, and 88 statistics of them for a whole recording.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emibook import InputError
from emibook.features.store import FeatureSequence
from emibook.features.waveform import as_float
from emibook.features.weights import Weights
from emibook.preprocess.media import SAMPLE_RATE

SHORTEST = 0.1  # seconds; shorter sound is padded with zeros, because pitch needs 60 ms


def feature_set(level: str) -> Any:
    """opensmile's extractor of ``level`` (``LowLevelDescriptors`` or ``Functionals``), or an ``InputError``."""
    try:
        import opensmile
    except ImportError:
        raise InputError("egemaps needs opensmile: pip install opensmile (its licence allows research only)") from None
    return opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, getattr(opensmile.FeatureLevel, level))


class EGeMAPS:
    """25 descriptors of pitch, loudness, spectrum and voice quality, 100 rows per second.

    opensmile's window is 60 ms from i x 10 ms on for pitch and what depends on it, 20 ms or 25 ms for the others, and
    it smooths over three rows. The time of row i is midway between the centres of the two windows, 20 ms after their
    start, so that none is off by more than 10 ms. The sound is padded with zeros, so that its end has rows.
    """

    name, version, width = "egemaps", "1", 25
    level = "LowLevelDescriptors"
    hop, centre, after = 0.01, 0.02, 0.04  # seconds: between rows; from a row's start to its time; of padding

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        self.label = weights.label

    @cached_property
    def smile(self) -> Any:
        """opensmile's extractor."""
        return feature_set(self.level)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(self.smile.feature_names)

    def __call__(self, samples: np.ndarray | None) -> FeatureSequence:
        """The features of one clip's sound, int16 (sample,) at 16 kHz, or None."""
        values, sound = np.zeros((0, self.width), np.float32), as_float(samples)
        if len(sound):
            more = max(round(self.after * SAMPLE_RATE), round(SHORTEST * SAMPLE_RATE) - len(sound))
            padded = np.pad(sound, (0, more))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of recordings in which nothing is voiced
                values = self.smile.process_signal(padded, SAMPLE_RATE).to_numpy(np.float32)
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)  # statistics without any voiced row
        values = self.kept(values, len(sound))
        times = np.arange(len(values)) * self.hop + self.centre
        return FeatureSequence(values, times, self.names, self.name, self.label, self.version)

    def kept(self, values: np.ndarray, samples: int) -> np.ndarray:
        """The rows whose centre lies in the sound, and at least one where there is any sound."""
        return values[: max(1, int((samples / SAMPLE_RATE - self.centre) / self.hop) + 1)] if samples else values


class EGeMAPSFunctionals(EGeMAPS):
    """88 statistics of the descriptors over the whole clip: one row, at time 0."""

    name, version, width = "egemaps_functionals", "1", 88
    level = "Functionals"
    centre = after = 0.0

    def kept(self, values: np.ndarray, samples: int) -> np.ndarray:
        return values
