"""Ridge regression on time averages, its penalty tuned by cross-validation over training participants."""

from __future__ import annotations

import numpy as np
import pandas

from emibook.metrics import pearson
from emibook.models.ridge import time_averages
from emibook.sequences.packed import Sequences

PENALTIES = np.geomspace(1, 1e6, 13)
"""In clips: the effect of a penalty equals that of as many clips without signal."""
FOLDS = 5


def ridge(training: Sequences, *others: Sequences) -> list[np.ndarray]:
    """(clip, target) predictions for each of ``others``, by ridge regression on time averages of ``training``.

    Each target has its own penalty: the one with the best correlation on held-out training participants, in ``FOLDS``
    folds. A clip without a step is predicted as the training mean.
    """
    present = training.present
    inputs, targets = time_averages(training)[present], training.targets[present].astype(np.float64)
    participants = pandas.factorize(np.asarray(training.participants)[present])[0]
    held_out = np.empty((len(PENALTIES), *targets.shape))
    for fold in range(FOLDS):
        out = participants % FOLDS == fold
        held_out[:, out] = _predictions(inputs[~out], targets[~out], inputs[out])
    chosen = np.argmax([pearson(targets, predicted) for predicted in held_out], axis=0)  # (target,)
    predictions = []
    for clips in others:
        values = np.nan_to_num(time_averages(clips), nan=0.0)
        predicted = np.take_along_axis(_predictions(inputs, targets, values), chosen[None, None], axis=0)[0]
        predictions.append(np.where(clips.present[:, None], predicted, targets.mean(axis=0)))
    return predictions


def _predictions(inputs: np.ndarray, targets: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(penalty, clip, target) predictions of ``others``."""
    centre, scale = inputs.mean(axis=0), inputs.std(axis=0)
    inputs, others = (inputs - centre) / scale, (others - centre) / scale
    eigenvalues, eigenvectors = np.linalg.eigh(inputs.T @ inputs)
    projected = eigenvectors.T @ (inputs.T @ (targets - targets.mean(axis=0)))  # (direction, target)
    shrunk = projected / (eigenvalues[:, None] + PENALTIES[:, None, None])  # (penalty, direction, target)
    return others @ eigenvectors @ shrunk + targets.mean(axis=0)
