"""Late fusion: the average of the predictions of separately trained branches, and alternatives with fitted weights.

The average has no parameters. The alternatives are cross-fitted: fitted on one half of the clips and scored on the
other.
Source: paper section 3.5, equation (5); Bates and Granger (1969), Operational Research Quarterly 20, 451-468, for
fitted weights.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from emibook import InputError
from emibook.metrics import pearson

GRID = 20  # shared weights are searched in steps of 1/20


def late_fusion(*predictions: ArrayLike, present: Sequence[ArrayLike] | None = None) -> np.ndarray:
    """The average of the branches' predictions, clip by clip.

    Args:
        predictions: each branch's predictions, (clip, emotion), of the same clips in the same order. A row of NaN is a
            missing prediction.
        present: for each branch (clip,), true where the clip has data in its modality; the branch's predictions for
            the other clips (the training mean) are then left out.

    Returns:
        (clip, emotion) float64. Where a branch has no data for a clip, the other branches are averaged. Where none has,
        the average is over what all branches predict nevertheless: the training mean, or NaN where they predict NaN.

    Raises:
        InputError: no branch, or branches of different shapes.

    Example:
        >>> late_fusion([[0.2, 0.4]], [[0.4, 0.0]])
        array([[0.3, 0.2]])
    """
    if not predictions:
        raise InputError("late fusion needs at least one branch's predictions")
    branches = [np.asarray(prediction, np.float64) for prediction in predictions]
    shapes = {branch.shape for branch in branches}
    if len(shapes) > 1 or branches[0].ndim != 2:
        raise InputError(f"branches of shapes {', '.join(map(str, shapes))}; all must be (clip, emotion) of one shape")
    stacked = np.stack(branches)  # (branch, clip, emotion)
    used = ~np.isnan(stacked).all(axis=2)  # (branch, clip)
    if present is not None:
        available = np.asarray([np.asarray(mask, bool) for mask in present])
        if available.shape != used.shape:
            raise InputError(f"present has shape {available.shape}, expected (branch, clip) {used.shape}")
        available &= used
        used = np.where(available.any(axis=0), available, used)
    weights = used / np.maximum(used.sum(axis=0), 1)  # (branch, clip), each clip's sum to one
    fused = (np.where(used[..., None], stacked, 0.0) * weights[..., None]).sum(axis=0)
    return np.where(used.any(axis=0)[:, None], fused, np.nan)


def equal_variance(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(branch, emotion) weights that give every branch the same variance; ``truth`` is not used."""
    deviation = predictions.std(axis=1)
    return 1 / np.where(deviation > 0, deviation, 1.0) / len(predictions)


def shared_weights(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(branch, emotion) one weight per branch for all emotions, with the best mean correlation."""
    grid = [steps for steps in itertools.product(range(GRID + 1), repeat=len(predictions)) if sum(steps) == GRID]
    blends = (np.tensordot(np.array(steps) / GRID, predictions, axes=1) for steps in grid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an emotion that is constant in half of a small partition
        best = int(np.argmax([np.nan_to_num(pearson(truth, blend)).mean() for blend in blends]))
    return np.repeat(np.array(grid[best])[:, None] / GRID, truth.shape[1], axis=1)


def per_emotion_least_squares(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(branch, emotion) for each emotion the weights of least squared error: the best linear combination."""
    centred, labels = predictions - predictions.mean(axis=1, keepdims=True), truth - truth.mean(axis=0)
    by_emotion = [np.linalg.lstsq(centred[:, :, emotion].T, labels[:, emotion], rcond=None)[0]
                  for emotion in range(truth.shape[1])]
    return np.stack(by_emotion, axis=1)


FUSION_ALTERNATIVES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "equal variance": equal_variance,
    "shared weights": shared_weights,
    "per-emotion least squares": per_emotion_least_squares,
}
"""Alternatives to the average, by name: from predictions (branch, clip, emotion) and labels (clip, emotion) to weights
(branch, emotion)."""


def cross_fitted_fusion(
    alternative: str,
    *predictions: ArrayLike,
    truth: ArrayLike,
    half: ArrayLike,
    present: Sequence[ArrayLike] | None = None,
) -> np.ndarray:
    """Predictions fused with the weights of an alternative, fitted for each clip on the half that it is not in.

    The halves are fused with different weights and lie at different levels: correlate within each, never over both.

    Args:
        alternative: a key of ``FUSION_ALTERNATIVES``.
        predictions: each branch's predictions, (clip, emotion), of the same clips in the same order.
        truth: (clip, emotion) labels.
        half: (clip,) 0 or 1; no participant in both (``evaluation.halves``).
        present: as in ``late_fusion``. A clip without data in one branch is not fitted on; the others are averaged.

    Returns:
        (clip, emotion) float64, centred at the mean of the clips that the weights were fitted on; NaN where fewer than
        two of these have data in all branches.

    Raises:
        InputError: no such alternative, or branches of different shapes.
    """
    if alternative not in FUSION_ALTERNATIVES:
        raise InputError(f"no fusion named {alternative!r}; there are {', '.join(FUSION_ALTERNATIVES)}")
    late_fusion(*predictions, present=present)  # checks the shapes
    stacked, truth, half = np.asarray(predictions, np.float64), np.asarray(truth, np.float64), np.asarray(half)
    available = np.ones(stacked.shape[:2], bool) if present is None else np.asarray(present, bool)
    complete = available.all(axis=0) & np.isfinite(stacked).all(axis=(0, 2))
    fused = np.full(truth.shape, np.nan)
    for number in (0, 1):
        fitted, scored = complete & (half != number), half == number
        if fitted.sum() < 2:
            continue
        weights = FUSION_ALTERNATIVES[alternative](stacked[:, fitted], truth[fitted])  # (branch, emotion)
        centred = stacked[:, scored] - stacked[:, fitted].mean(axis=1, keepdims=True)
        scaled = len(stacked) * weights[:, None] * centred
        fused[scored] = late_fusion(*scaled, present=available[:, scored])
    return fused
