"""The best correlation that any predictor can reach with labels simulated as in ``puppet.labels``: formulas, no data.

A label is the fraction of raters who tick an emotion. Their chance of ticking grows with a latent strength L, normal
with variance 1. Let a predictor know scores that are jointly normal with L. The best estimate of L is then linear, with
multiple correlation R, and the best prediction of the label depends on this estimate alone. With the chance expanded in
normalised Hermite polynomials, h(L) = sum c_k He_k(L) / sqrt(k!), the prediction explains sum_{k>0} c_k^2 R^{2k} of the
label's variance.

Source: Mehler (1866), Journal für die reine und angewandte Mathematik 66, 161-176 (the expansion of the bivariate
normal density, of which this sum is a consequence).
"""

from __future__ import annotations

import functools

import numpy as np

from emibook.puppet.labels import MAX_VOTE_PROBABILITY, RATERS, RATERS_PROBABILITIES, STEEPNESS, THRESHOLD

ORDER = 120  # of the expansion: the rest is below 1e-6 of the label's variance up to R = 0.97
_GRID = np.linspace(-9, 9, 6001)


def chance(latent: np.ndarray) -> np.ndarray:
    """The chance that a rater ticks, by the latent strength: the best prediction of the label where L is known."""
    return MAX_VOTE_PROBABILITY / (1 + np.exp(-STEEPNESS * (np.asarray(latent) - THRESHOLD)))


def hermite(values: np.ndarray, order: int = ORDER) -> np.ndarray:
    """(order + 1, ...) the polynomials He_k / sqrt(k!), orthonormal under the normal density, at ``values``."""
    values = np.asarray(values, np.float64)
    polynomials = np.empty((order + 1, *values.shape))
    polynomials[0] = 1.0
    polynomials[1:2] = values
    for k in range(1, order):
        polynomials[k + 1] = (values * polynomials[k] - np.sqrt(k) * polynomials[k - 1]) / np.sqrt(k + 1)
    return polynomials


def expand(function: np.ndarray, order: int = ORDER) -> np.ndarray:
    """(order + 1,) the coefficients of a function given at the points of ``grid()``."""
    weight = np.exp(-(_GRID**2) / 2) / np.sqrt(2 * np.pi) * (_GRID[1] - _GRID[0])
    return hermite(_GRID, order) @ (function * weight)


def grid() -> np.ndarray:
    """The points at which ``expand`` needs a function: fine and wide enough for a sum to be the integral."""
    return _GRID


@functools.cache
def coefficients() -> np.ndarray:
    """(k,) the chance of a tick in normalised Hermite polynomials of the latent strength."""
    return expand(chance(_GRID))


@functools.cache
def label_variance() -> float:
    """The variance of a label: that of the chance, and the rating noise of a few raters."""
    mean, square = coefficients()[0], expand(chance(_GRID) ** 2, 1)[0]
    one_over_raters = float(np.dot(RATERS_PROBABILITIES, 1 / np.array(RATERS)))
    return float(square - mean**2 + (mean - square) * one_over_raters)


def ceiling() -> float:
    """The noise ceiling: the correlation of a predictor that knows L, below 1 because of the raters' noise."""
    mean, square = coefficients()[0], expand(chance(_GRID) ** 2, 1)[0]
    return float(np.sqrt((square - mean**2) / label_variance()))


def attainable(multiple: np.ndarray) -> np.ndarray:
    """The best predictor's correlation with the label, by its multiple correlation R with L; both in [0, 1]."""
    multiple = np.asarray(multiple, np.float64)
    explained = np.polynomial.polynomial.polyval(multiple**2, np.concatenate([[0.0], coefficients()[1:] ** 2]))
    return np.sqrt(explained / label_variance())


def best_linear(multiple: np.ndarray) -> np.ndarray:
    """The best linear predictor's correlation with the label: only the first term of the sum."""
    return coefficients()[1] * np.asarray(multiple, np.float64) / np.sqrt(label_variance())


def needed(correlation: np.ndarray) -> np.ndarray:
    """The multiple correlation with L that makes ``correlation`` attainable: the inverse of ``attainable``.

    Raises:
        ValueError: a correlation below 0 or above the noise ceiling.
    """
    correlation = np.asarray(correlation, np.float64)
    steps = np.linspace(0, 1, 4001)
    reached = attainable(steps)
    if np.any(correlation > reached[-1]) or np.any(correlation < 0):
        raise ValueError(f"a correlation of {correlation.max():g} is not between 0 and the ceiling {reached[-1]:.3f}")
    return np.interp(correlation, reached, steps)


def expected_label(latent: np.ndarray, multiple: np.ndarray) -> np.ndarray:
    """The best prediction of the label, given the estimate of L.

    Given the estimate, L is normal with variance 1 - R^2, and the prediction is the mean of its chance.

    Args:
        latent: the best linear estimate of L, of variance ``multiple`` squared.
        multiple: its multiple correlation R with L, of the same shape.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(64)
    deviations = np.sqrt(np.clip(1 - np.asarray(multiple) ** 2, 0, 1))[..., None] * points
    return chance(np.asarray(latent)[..., None] + deviations) @ (weights / weights.sum())


def multiple_correlation(covariance: np.ndarray, with_latent: np.ndarray) -> np.ndarray:
    """The multiple correlation R of every latent strength with normal scores.

    Args:
        covariance: (..., score, score) of the scores.
        with_latent: (..., score, emotion) covariance of each score with each latent strength, of variance 1.

    Returns:
        (..., emotion) in [0, 1].
    """
    explained = np.einsum("...se,...se->...e", with_latent, np.linalg.solve(covariance, with_latent))
    return np.sqrt(np.clip(explained, 0, 1))
