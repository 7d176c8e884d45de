"""Late fusion: branches trained apart, their predictions averaged; and what could stand in the average's place.

The average has nothing to fit. Its rivals have, and are fitted on one half of the clips and scored on the other.
Source: paper section 3.5, equation (5); Bates and Granger (1969), Operational Research Quarterly 20, 451-468, for
weights that are fitted.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from emibook import InputError
from emibook.metrics import pearson

PARTS = 20  # a weight for all emotions is a number of twentieths


def late_fusion(*predictions: ArrayLike, present: Sequence[ArrayLike] | None = None) -> np.ndarray:
    """The average of the branches' predictions, clip by clip.

    Args:
        predictions: each branch's predictions, (clip, emotion), of the same clips in the same order. A row of NaN says
            that the branch has nothing to say of the clip.
        present: for each branch (clip,), true where the clip has something in its modality; what the branch says of
            the other clips (the training mean) is then left out.

    Returns:
        (clip, emotion) float64. A clip that one branch lacks is carried by the others. A clip that all of them lack
        is the average of what they say of it nevertheless: the training mean, or NaN where they say NaN.

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
    said = ~np.isnan(stacked).all(axis=2)  # (branch, clip)
    if present is not None:
        there = np.asarray([np.asarray(mask, bool) for mask in present])
        if there.shape != said.shape:
            raise InputError(f"present has shape {there.shape}, expected (branch, clip) {said.shape}")
        there &= said
        said = np.where(there.any(axis=0), there, said)
    weights = said / np.maximum(said.sum(axis=0), 1)  # (branch, clip), each clip's sum to one
    fused = (np.where(said[..., None], stacked, 0.0) * weights[..., None]).sum(axis=0)
    return np.where(said.any(axis=0)[:, None], fused, np.nan)


def one_spread(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(branch, emotion) weights that give every branch the same spread. No label is looked at."""
    spread = predictions.std(axis=1)
    return 1 / np.where(spread > 0, spread, 1.0) / len(predictions)


def one_weight(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(branch, emotion) a weight a branch, the same for all emotions, with the best mean correlation."""
    shares = [share for share in itertools.product(range(PARTS + 1), repeat=len(predictions)) if sum(share) == PARTS]
    blends = (np.tensordot(np.array(share) / PARTS, predictions, axes=1) for share in shares)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an emotion that half of a small partition never shows
        best = int(np.argmax([np.nan_to_num(pearson(truth, blend)).mean() for blend in blends]))
    return np.repeat(np.array(shares[best])[:, None] / PARTS, truth.shape[1], axis=1)


def weight_an_emotion(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(branch, emotion) the weights of least squared error, an emotion at a time: the best linear combination."""
    centred, labels = predictions - predictions.mean(axis=1, keepdims=True), truth - truth.mean(axis=0)
    by_emotion = [np.linalg.lstsq(centred[:, :, emotion].T, labels[:, emotion], rcond=None)[0]
                  for emotion in range(truth.shape[1])]
    return np.stack(by_emotion, axis=1)


RIVALS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "one spread": one_spread, "one weight": one_weight, "a weight an emotion": weight_an_emotion,
}
"""What could stand in the average's place, by name: from predictions (branch, clip, emotion) and labels (clip, emotion)
to weights (branch, emotion)."""


def rival_fusion(
    rival: str,
    *predictions: ArrayLike,
    truth: ArrayLike,
    half: ArrayLike,
    present: Sequence[ArrayLike] | None = None,
) -> np.ndarray:
    """Predictions fused with the weights of ``rival``, each clip's fitted on the half that it does not belong to.

    The halves are fused by different weights and lie at different levels: correlate within each, never over both.

    Args:
        rival: a key of ``RIVALS``.
        predictions: each branch's predictions, (clip, emotion), of the same clips in the same order.
        truth: (clip, emotion) labels.
        half: (clip,) 0 or 1; no participant in both (``evaluation.halves``).
        present: as in ``late_fusion``. A clip that a branch lacks is fitted on by none and carried by the others.

    Returns:
        (clip, emotion) float64, centred at the mean of the clips that the weights were fitted on; NaN where fewer than
        two of these have all branches.

    Raises:
        InputError: no such rival, or branches of different shapes.
    """
    if rival not in RIVALS:
        raise InputError(f"no way to fuse named {rival!r}; there are {', '.join(RIVALS)}")
    late_fusion(*predictions, present=present)  # refuses what does not fit together
    stacked, truth, half = np.asarray(predictions, np.float64), np.asarray(truth, np.float64), np.asarray(half)
    there = np.ones(stacked.shape[:2], bool) if present is None else np.asarray(present, bool)
    whole = there.all(axis=0) & np.isfinite(stacked).all(axis=(0, 2))
    fused = np.full(truth.shape, np.nan)
    for number in (0, 1):
        fitted, told = whole & (half != number), half == number
        if fitted.sum() < 2:
            continue
        weights = RIVALS[rival](stacked[:, fitted], truth[fitted])  # (branch, emotion)
        centred = stacked[:, told] - stacked[:, fitted].mean(axis=1, keepdims=True)
        scaled = len(stacked) * weights[:, None] * centred
        fused[told] = late_fusion(*scaled, present=there[:, told])
    return fused

