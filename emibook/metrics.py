"""The challenge's metric: Pearson's correlation of each emotion over all clips at once, and its mean.

Source: paper section 4.2, equations (8) and (9).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from emibook import InputError


def pearson(truth: ArrayLike, prediction: ArrayLike, *, names: Sequence[str] | None = None) -> np.ndarray:
    """Pearson's correlation of each emotion over all clips.

    rho_i = cov(y_i, p_i) / sqrt(var(y_i) var(p_i)), computed in float64 over the whole partition, never batch by batch.

    Args:
        truth: labels, (clip, emotion).
        prediction: predictions of the same clips in the same order, (clip, emotion).
        names: the emotions' names, for the warning.

    Returns:
        (emotion,), each in -1..1. An emotion whose labels or predictions are constant, hold a value that is not
        finite, or have fewer than two clips has no correlation: it is NaN, and a warning names it.

    Raises:
        InputError: the two are not tables of one shape.

    Example:
        >>> pearson([[0.0], [1.0], [2.0]], [[1.0], [3.0], [5.0]])
        array([1.])

    Source: paper, equation (9).
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.ndim != 2 or truth.shape != prediction.shape:
        raise InputError(
            f"truth {truth.shape} and prediction {prediction.shape} must be two tables (clip, emotion) of one shape"
        )
    rho = np.full(truth.shape[1], np.nan)
    for emotion in range(truth.shape[1]):
        reason = _no_correlation(truth[:, emotion], "truth") or _no_correlation(prediction[:, emotion], "prediction")
        if reason:
            name = names[emotion] if names is not None else f"emotion {emotion}"
            warnings.warn(f"{name} has no correlation: {reason}", RuntimeWarning, stacklevel=2)
            continue
        rho[emotion] = np.clip(np.dot(_unit(truth[:, emotion]), _unit(prediction[:, emotion])), -1.0, 1.0)
    return rho


def mean_pearson(truth: ArrayLike, prediction: ArrayLike, *, names: Sequence[str] | None = None) -> float:
    """The mean of ``pearson`` over the emotions; NaN, with its warning, where one of them has no correlation.

    Source: paper, equation (8).
    """
    return float(np.mean(pearson(truth, prediction, names=names)))


def _no_correlation(values: np.ndarray, side: str) -> str:
    """Why a column has no correlation, or "". Differences of the size of its type's rounding error are no variance."""
    if len(values) < 2:
        return f"{len(values)} clips"
    if not np.isfinite(values).all():
        return f"the {side} holds {np.count_nonzero(~np.isfinite(values))} values that are not finite"
    rounding = np.finfo(values.dtype).eps if np.issubdtype(values.dtype, np.floating) else 0.0
    low, high = float(values.min()), float(values.max())
    if high - low <= 4 * rounding * max(abs(low), abs(high)):
        return f"the {side} is constant"
    return ""


def _unit(values: np.ndarray) -> np.ndarray:
    """The centred column as a vector of length one, scaled first so that its squares neither overflow nor underflow."""
    centred = values.astype(np.float64)
    centred = centred - centred.mean()
    centred /= np.abs(centred).max()
    return centred / np.linalg.norm(centred)
