"""The baseline without a network: ridge regression on each feature's mean over the clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emibook.puppet.builtin import PENALTIES, ridge
from emibook.sequences.packed import Sequences

FOLDS = 5  # of the cross-validation over training participants that chooses each target's penalty


@dataclass(frozen=True, eq=False)
class RidgeOnAverages:
    """Fitted numbers: ``slopes`` (feature, target) for features standardised by ``mean`` and ``scale`` (feature,), and
    ``offsets`` (target,), the training means."""

    slopes: np.ndarray
    offsets: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, train: Sequences, penalties: tuple[float, ...] = PENALTIES) -> RidgeOnAverages:
        """Fit on the clips that have any step; a participant is never in two folds."""
        averages = time_averages(train)[train.present]
        targets = train.targets[train.present].astype(np.float64)
        known = np.asarray(train.participants)[train.present]
        clips = np.arange(len(known)).astype(str)
        _, person = np.unique(np.where(known == "", clips, known), return_inverse=True)
        mean, scale = averages.mean(axis=0), averages.std(axis=0)
        scale = np.where(scale > 1e-6 * np.abs(mean), scale, 1.0)
        slopes, offsets = ridge((averages - mean) / scale, targets, person % FOLDS, penalties)
        return cls(slopes, offsets, mean, scale)

    def predict(self, sequences: Sequences) -> np.ndarray:
        """(clip, target); a clip without a step is predicted as the training mean."""
        standardised = (time_averages(sequences) - self.mean) / self.scale
        return np.nan_to_num(standardised) @ self.slopes + self.offsets


def time_averages(sequences: Sequences) -> np.ndarray:
    """(clip, feature) float64: each feature's mean over the clip's steps; NaN where a clip has none."""
    averages = np.full((len(sequences), len(sequences.names)), np.nan)
    for clip in np.flatnonzero(sequences.present):
        rows = sequences.rows(*sequences.offsets[clip : clip + 2])
        averages[clip] = np.nanmean(rows, axis=0, dtype=np.float64)  # a row of NaN is a gap
    return averages
