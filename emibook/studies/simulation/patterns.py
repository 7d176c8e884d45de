"""How a signal is planted in time, the noise around it, and how well it can be estimated at best.

A clip's score s, normal with variance 1, is planted in one channel of noise in one of three ways:

    mean      during the whole clip                                 visible in a time average
    onset     for one second, at an unknown time                    hardly visible in a time average
    rhythm    in the balance of a fast and a slow oscillation of    invisible in time averages and in the
              unknown phase; their total power is constant          standard deviation over steps

For the mean there is a formula for how well s can be estimated. For the others there are bounds, each from a formula:
the upper one is for a reader who knows the onset's position, or s itself (rhythm); the lower one is what one given
estimator reaches.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from scipy.special import i0e, ndtr

from emibook.studies.simulation.attainable import attainable, best_linear, coefficients, expand, grid, label_variance

PATTERNS = ("mean", "onset", "rhythm")
STRENGTH = {"mean": 2.0, "onset": 3.0, "rhythm": 2.0}
"""The signal of a score of 1, relative to the noise of one step, of variance 1."""
BURST_SECONDS = 1.0
FAST_SECONDS, SLOW_SECONDS = 0.55, 1.2
MEMORY_SECONDS = 0.3
"""The noise's autocorrelation falls to 1/e in this time: features of neighbouring frames are similar."""
OFFSET = 0.1
"""Variance of what is constant within a clip and no emotion: the face, the voice, the light."""


@dataclass(frozen=True)
class Clock:
    """One channel's noise process: autoregressive noise plus an offset of the clip, of variance 1 + ``OFFSET``."""

    frame_rate: float
    """Steps per second."""

    @property
    def memory(self) -> float:
        """Correlation of the noise of neighbouring steps."""
        return float(np.exp(-1 / (self.frame_rate * MEMORY_SECONDS)))

    def noise(self, steps: int, channels: int, rng: np.random.Generator) -> np.ndarray:
        """(step, channel) float32 autoregressive noise, of variance 1 from the first step on; without the offset."""
        innovations = rng.standard_normal((steps, channels), np.float32)
        scale = np.float32(np.sqrt(1 - self.memory**2))
        innovations[1:] *= scale
        return lfilter(np.ones(1, np.float32), np.array([1, -self.memory], np.float32), innovations, axis=0)

    def weigh(self, series: np.ndarray) -> np.ndarray:
        """(step, ...) the inverse of the noise's covariance, offset included, times ``series``."""
        weighed = self._without_offset(series)
        ones = self._without_offset(np.ones(len(series)))
        share = OFFSET / (1 + OFFSET * ones.sum())  # Sherman-Morrison
        return weighed - share * np.tensordot(ones, weighed.sum(axis=0), axes=0)

    def _without_offset(self, series: np.ndarray) -> np.ndarray:
        """The inverse of a matrix with memory^|i - j| at (i, j) has three diagonals."""
        memory, steps = self.memory, len(series)
        if steps == 1:
            return np.array(series, np.float64)
        out = (1 + memory**2) * np.asarray(series, np.float64)
        out[[0, -1]] -= memory**2 * np.asarray(series, np.float64)[[0, -1]]
        out[1:] -= memory * series[:-1]
        out[:-1] -= memory * series[1:]
        return out / (1 - memory**2)


def plant(pattern: str, score: float, steps: int, clock: Clock, rng: np.random.Generator) -> np.ndarray:
    """(step,) the signal that the clip's score adds to its channel."""
    strength = STRENGTH[pattern]
    if pattern == "mean":
        return np.full(steps, strength * score)
    if pattern == "onset":
        bursts = _bursts(steps, clock)
        return strength * score * bursts[:, rng.integers(bursts.shape[1])]
    angle = np.pi / 2 * ndtr(score)
    phases = rng.uniform(0, 2 * np.pi, 2)
    oscillations = _oscillations(steps, clock)  # (step, 4)
    amplitudes = strength * np.sqrt(2) * np.repeat([np.cos(angle), np.sin(angle)], 2)
    return oscillations @ (amplitudes * [np.cos(phases[0]), np.sin(phases[0]), np.cos(phases[1]), np.sin(phases[1])])


def posterior(pattern: str, channel: np.ndarray, clock: Clock) -> tuple[float, float]:
    """Mean and variance of the score given one channel (step,), where the way of planting is known.

    Exact for ``mean`` and ``onset``; for ``rhythm`` the estimates of the two oscillations are taken as independent.
    """
    steps, strength = len(channel), STRENGTH[pattern]
    if pattern == "rhythm":
        return _rhythm_posterior(channel, clock)
    _, weighed, gain = _templates(pattern, steps, clock)
    information = strength**2 * gain  # (position,)
    estimate = strength * (channel @ weighed) / information
    shrinkage = information / (1 + information)
    evidence = (information * shrinkage * estimate**2 + np.log1p(-shrinkage)) / 2
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    mean = share @ (shrinkage * estimate)
    return float(mean), float(share @ (1 - shrinkage + (shrinkage * estimate) ** 2) - mean**2)


@functools.lru_cache(4096)
def recoverable_share(pattern: str, steps: int, clock: Clock) -> float:
    """The share of the score's variance that can be recovered where the onset's position is known, in [0, 1].

    For ``rhythm``, where the score itself is taken as known, it is 1.
    """
    if pattern == "rhythm":
        return 1.0
    information = STRENGTH[pattern] ** 2 * _templates(pattern, steps, clock)[2].max()
    return float(information / (1 + information))


def lower_bound(pattern: str, correlation: float, steps: int, clock: Clock) -> float:
    """The correlation with the label that a given estimator reaches from one channel.

    ``mean``: the optimal one. ``onset``: the best weighted sum of the steps. ``rhythm``: the power of the fast
    oscillation less that of the slow one, both fitted by generalised least squares; 0 in clips shorter than two slow
    oscillations.

    Args:
        correlation: of the score with the latent strength L.
    """
    if pattern == "mean":
        return float(attainable(correlation * np.sqrt(recoverable_share("mean", steps, clock))))
    if pattern == "onset":
        return float(best_linear(correlation * _summed_onset(steps, clock)))
    if not _long_enough(steps, clock):
        return 0.0
    _, _, covariance = _fit(steps, clock)
    power = STRENGTH["rhythm"] ** 2
    sign = np.diag([1.0, 1.0, -1.0, -1.0])
    # The difference of powers is 2 a^2 cos(pi Phi(s)) on average; around that it varies with the fit's own error.
    variance = 2 * power**2 + 2 * np.trace(sign @ covariance @ sign @ covariance) + 2 * power * np.trace(covariance)
    shared = coefficients()[1:] @ (_balance()[1:] * correlation ** np.arange(1, len(_balance())))
    return float(abs(2 * power * shared) / np.sqrt(variance * label_variance()))


@functools.lru_cache(4096)
def _summed_onset(steps: int, clock: Clock) -> float:
    """Correlation of the score with the best weighted sum of the steps, over all positions of the burst."""
    bursts, strength = _bursts(steps, clock), STRENGTH["onset"]
    lag = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    covariance = clock.memory**lag + OFFSET + strength**2 * bursts @ bursts.T / bursts.shape[1]
    expected = strength * bursts.mean(axis=1)
    return float(np.sqrt(expected @ np.linalg.solve(covariance, expected)))


def _rhythm_posterior(channel: np.ndarray, clock: Clock) -> tuple[float, float]:
    if not _long_enough(len(channel), clock):
        return 0.0, 1.0
    _, weighed, covariance = _fit(len(channel), clock)
    power = np.square(covariance @ (weighed.T @ channel)).reshape(2, 2).sum(axis=1)  # (oscillation,)
    scores = np.linspace(-4, 4, 161)
    angle = np.pi / 2 * ndtr(scores)
    evidence = -(scores**2) / 2
    for size, measured, variance in zip((np.cos(angle), np.sin(angle)), np.sqrt(power), np.diag(covariance)[[0, 2]],
                                        strict=True):
        expected = STRENGTH["rhythm"] * np.sqrt(2) * size
        evidence += np.log(i0e(expected * measured / variance)) - (expected - measured) ** 2 / (2 * variance)
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    mean = share @ scores
    return float(mean), float(share @ scores**2 - mean**2)


def _bursts(steps: int, clock: Clock) -> np.ndarray:
    """(step, position) one second of ones, at every position where it fits."""
    length = min(steps, max(1, round(BURST_SECONDS * clock.frame_rate)))
    behind = np.arange(steps)[:, None] - np.arange(steps - length + 1)
    return ((behind >= 0) & (behind < length)).astype(float)


def _oscillations(steps: int, clock: Clock) -> np.ndarray:
    """(step, 4) cosine and sine of the fast oscillation, then of the slow one."""
    seconds = np.arange(steps)[:, None] / clock.frame_rate
    turns = 2 * np.pi * seconds / [FAST_SECONDS, FAST_SECONDS, SLOW_SECONDS, SLOW_SECONDS]
    return np.where([True, False, True, False], np.cos(turns), -np.sin(turns))


def _long_enough(steps: int, clock: Clock) -> bool:
    return steps >= 2 * SLOW_SECONDS * clock.frame_rate


@functools.lru_cache(128)
def _templates(pattern: str, steps: int, clock: Clock) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(step, position) the possible signals, the same weighed by the noise, and each one's gain."""
    signals = np.ones((steps, 1)) if pattern == "mean" else _bursts(steps, clock)
    weighed = clock.weigh(signals)
    return signals, weighed, (signals * weighed).sum(axis=0)


@functools.lru_cache(4096)
def _fit(steps: int, clock: Clock) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The oscillations, the same weighed by the noise, and the covariance of the fitted amplitudes."""
    oscillations = _oscillations(steps, clock)
    weighed = clock.weigh(oscillations)
    return oscillations, weighed, np.linalg.inv(oscillations.T @ weighed)


@functools.cache
def _balance() -> np.ndarray:
    return expand(np.cos(np.pi * ndtr(grid())))
