"""Where in a clip a planted signal lies, what noise surrounds it, and how much of it can be read at best.

A clip's score s, normal with variance 1, is planted in one channel of noise in one of three ways:

    mean      all the clip long                                   a time average sees it
    onset     for one second, nobody knows when                   a time average sees little of it
    rhythm    in the balance of a fast and a slow swing, phases    averages, and the spread of single
              unknown; both together are always as strong          steps, see nothing of it

For the mean there is a formula for how well s can be read. For the others there are bounds, each from a formula: above,
what could be read if the place (the onset) or s itself (the rhythm) were told; below, what one stated reader reads.
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
"""How large a score of 1 stands against the noise of one step, of variance 1."""
BURST_SECONDS = 1.0
FAST_SECONDS, SLOW_SECONDS = 0.55, 1.2
MEMORY_SECONDS = 0.3
"""After this time the noise has forgotten all but 1/e of itself, as features of neighbouring frames are alike."""
OFFSET = 0.1
"""Variance of what is constant in a clip and belongs to nobody's emotion: the face, the voice, the light."""


@dataclass(frozen=True)
class Clock:
    """Steps of one channel: noise that remembers, plus an offset of the clip; variance 1 + ``OFFSET`` in all."""

    rate: float
    """Steps a second."""

    @property
    def memory(self) -> float:
        """Correlation of the noise in neighbouring steps."""
        return float(np.exp(-1 / (self.rate * MEMORY_SECONDS)))

    def noise(self, steps: int, channels: int, rng: np.random.Generator) -> np.ndarray:
        """(step, channel) float32 noise that remembers, of variance 1 from the first step on; without the offset."""
        fresh = rng.standard_normal((steps, channels), np.float32)
        kept = np.float32(np.sqrt(1 - self.memory**2))
        fresh[1:] *= kept
        return lfilter(np.ones(1, np.float32), np.array([1, -self.memory], np.float32), fresh, axis=0)

    def weigh(self, series: np.ndarray) -> np.ndarray:
        """(step, ...) the inverse of the noise's covariance, offset included, times ``series``."""
        once = self._without_offset(series)
        ones = self._without_offset(np.ones(len(series)))
        share = OFFSET / (1 + OFFSET * ones.sum())
        return once - share * np.tensordot(ones, once.sum(axis=0), axes=0)

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
    """(step,) what the clip's score adds to its channel."""
    strength = STRENGTH[pattern]
    if pattern == "mean":
        return np.full(steps, strength * score)
    if pattern == "onset":
        places = _bursts(steps, clock)
        return strength * score * places[:, rng.integers(places.shape[1])]
    angle = np.pi / 2 * ndtr(score)
    phases = rng.uniform(0, 2 * np.pi, 2)
    swings = _swings(steps, clock)  # (step, 4)
    amplitudes = strength * np.sqrt(2) * np.repeat([np.cos(angle), np.sin(angle)], 2)
    return swings @ (amplitudes * [np.cos(phases[0]), np.sin(phases[0]), np.cos(phases[1]), np.sin(phases[1])])


def read(pattern: str, channel: np.ndarray, clock: Clock) -> tuple[float, float]:
    """Mean and variance of the score given one channel (step,), by somebody who knows how it was planted.

    Exact for ``mean`` and ``onset``; for ``rhythm`` the two swings' readings are taken for independent.
    """
    steps, strength = len(channel), STRENGTH[pattern]
    if pattern == "rhythm":
        return _read_rhythm(channel, clock)
    places, weighed, gain = _templates(pattern, steps, clock)
    information = strength**2 * gain  # (place,)
    estimate = strength * (channel @ weighed) / information
    kept = information / (1 + information)
    evidence = (information * kept * estimate**2 + np.log1p(-kept)) / 2
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    mean = share @ (kept * estimate)
    return float(mean), float(share @ (1 - kept + (kept * estimate) ** 2) - mean**2)


@functools.lru_cache(4096)
def told(pattern: str, steps: int, clock: Clock) -> float:
    """The share of the score's variance that is read where the place is told (``rhythm``: the score itself)."""
    if pattern == "rhythm":
        return 1.0
    information = STRENGTH[pattern] ** 2 * _templates(pattern, steps, clock)[2].max()
    return float(information / (1 + information))


def at_least(pattern: str, correlation: float, steps: int, clock: Clock) -> float:
    """A correlation with the label that a stated reader of one channel has, by the score's correlation with L.

    ``mean``: the best there is. ``onset``: the best weighted sum of the steps. ``rhythm``: the power of the fast swing
    less that of the slow one, both fitted by generalised least squares; 0 in clips shorter than two slow swings.
    """
    if pattern == "mean":
        return float(attainable(correlation * np.sqrt(told("mean", steps, clock))))
    if pattern == "onset":
        return float(best_linear(correlation * _summed_onset(steps, clock)))
    if not _long_enough(steps, clock):
        return 0.0
    _, _, spread = _fit(steps, clock)
    power = STRENGTH["rhythm"] ** 2
    sign = np.diag([1.0, 1.0, -1.0, -1.0])
    # The difference of powers is 2 a^2 cos(pi Phi(s)) on average; around that it varies with the fit's own error.
    variance = 2 * power**2 + 2 * np.trace(sign @ spread @ sign @ spread) + 2 * power * np.trace(spread)
    shared = coefficients()[1:] @ (_balance()[1:] * correlation ** np.arange(1, len(_balance())))
    return float(abs(2 * power * shared) / np.sqrt(variance * label_variance()))


@functools.lru_cache(4096)
def _summed_onset(steps: int, clock: Clock) -> float:
    """Correlation of the score with the best weighted sum of the steps, wherever the burst may be."""
    places, strength = _bursts(steps, clock), STRENGTH["onset"]
    lag = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    covariance = clock.memory**lag + OFFSET + strength**2 * places @ places.T / places.shape[1]
    usual = strength * places.mean(axis=1)
    return float(np.sqrt(usual @ np.linalg.solve(covariance, usual)))


def _read_rhythm(channel: np.ndarray, clock: Clock) -> tuple[float, float]:
    if not _long_enough(len(channel), clock):
        return 0.0, 1.0
    _, weighed, spread = _fit(len(channel), clock)
    power = np.square(spread @ (weighed.T @ channel)).reshape(2, 2).sum(axis=1)  # (swing,)
    scores = np.linspace(-4, 4, 161)
    angle = np.pi / 2 * ndtr(scores)
    evidence = -(scores**2) / 2
    for size, seen, variance in zip((np.cos(angle), np.sin(angle)), np.sqrt(power), np.diag(spread)[[0, 2]],
                                    strict=True):
        sent = STRENGTH["rhythm"] * np.sqrt(2) * size
        evidence += np.log(i0e(sent * seen / variance)) - (sent - seen) ** 2 / (2 * variance)
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    mean = share @ scores
    return float(mean), float(share @ scores**2 - mean**2)


def _bursts(steps: int, clock: Clock) -> np.ndarray:
    """(step, place) one second of ones, at every place where it fits."""
    length = min(steps, max(1, round(BURST_SECONDS * clock.rate)))
    behind = np.arange(steps)[:, None] - np.arange(steps - length + 1)
    return ((behind >= 0) & (behind < length)).astype(float)


def _swings(steps: int, clock: Clock) -> np.ndarray:
    """(step, 4) cosine and sine of the fast swing, then of the slow one."""
    seconds = np.arange(steps)[:, None] / clock.rate
    turns = 2 * np.pi * seconds / [FAST_SECONDS, FAST_SECONDS, SLOW_SECONDS, SLOW_SECONDS]
    return np.where([True, False, True, False], np.cos(turns), -np.sin(turns))


def _long_enough(steps: int, clock: Clock) -> bool:
    return steps >= 2 * SLOW_SECONDS * clock.rate


@functools.lru_cache(128)
def _templates(pattern: str, steps: int, clock: Clock) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(step, place) where the signal may be, the same weighed by the noise, and each place's gain."""
    places = np.ones((steps, 1)) if pattern == "mean" else _bursts(steps, clock)
    weighed = clock.weigh(places)
    return places, weighed, (places * weighed).sum(axis=0)


@functools.lru_cache(4096)
def _fit(steps: int, clock: Clock) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The swings, the same weighed by the noise, and the covariance of their fitted amplitudes."""
    swings = _swings(steps, clock)
    weighed = clock.weigh(swings)
    return swings, weighed, np.linalg.inv(swings.T @ weighed)


@functools.cache
def _balance() -> np.ndarray:
    return expand(np.cos(np.pi * ndtr(grid())))
