"""Confidence intervals of a mean Pearson correlation and of a difference: a bootstrap over participants and seeds.

Clips of one participant resemble each other, so participants are resampled with all their clips (a cluster bootstrap).
Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3 (percentile interval); Field and
Welsh (2007), Journal of the Royal Statistical Society B 69, 369-390 (cluster bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from emibook import InputError
from emibook.metrics import mean_pearson

CLIPS = "clips (too narrow; by participants 2.1 times as wide on CREMA-D)"
"""Label of an interval that treats clips as independent. The factor is from book/results/people_correlations.csv."""


@dataclass(frozen=True)
class Interval:
    """A mean Pearson correlation and its interval. ``over`` names what was resampled: ``participants`` or ``CLIPS``.

    ``dropped`` of the ``draws`` had an emotion without variance and were left out; where these are more than a few, the
    interval describes the remaining draws. Both ends are NaN where none remains.
    """

    mean: float
    low: float
    high: float
    over: str
    draws: int
    dropped: int


@dataclass(frozen=True)
class Bootstrap:
    """How an interval is computed: the number of bootstrap ``draws``, the share of them that lies within the interval
    (``level``), and the ``seed``; the same seed gives the same interval."""

    draws: int = 2000
    level: float = 0.95
    seed: int = 0


def bootstrap_interval(
    truth: ArrayLike,
    predictions: Sequence[ArrayLike],
    participants: Sequence[str],
    *,
    bootstrap: Bootstrap = Bootstrap(),  # noqa: B008 (frozen)
    names: Sequence[str] | None = None,
) -> Interval:
    """The mean Pearson correlation over emotions and seeds, with a percentile interval over participants and seeds.

    Args:
        truth: (clip, emotion).
        predictions: for each seed (clip, emotion). Every draw resamples the seeds too, scores them on the clips of the
            resampled participants and averages them: the interval is that of the mean score of as many other seeds
            for other participants of the same population. With one seed, it does not include the variation of seeds.
        participants: (clip,) the participant of each clip. Where one is unknown (empty), or all clips show the same
            one, clips are resampled instead, and the interval says so.
        bootstrap: draws, level and seed.
        names: the emotions' names, for warnings.

    Raises:
        InputError: no predictions, or numbers of clips that differ.
    """
    truth, stacked = _checked(truth, predictions, participants)
    mean = float(np.mean([mean_pearson(truth, prediction, names=names) for prediction in stacked]))
    groups, over = clusters(participants)
    scores = resampled(truth, stacked, groups, bootstrap.draws, np.random.default_rng(bootstrap.seed))
    return _interval(mean, scores, over, bootstrap.level)


def paired_difference(
    truth: ArrayLike,
    predictions: Sequence[ArrayLike],
    others: Sequence[ArrayLike],
    participants: Sequence[str],
    *,
    bootstrap: Bootstrap = Bootstrap(),  # noqa: B008 (frozen)
    names: Sequence[str] | None = None,
    half: ArrayLike | None = None,
) -> Interval:
    """The mean correlation of ``predictions`` minus that of ``others``, with the interval of this difference.

    A paired test: every draw scores both on the same participants, so clips that are hard for both cancel. Where the
    interval excludes zero, the two differ at the level 1 - ``bootstrap.level``, two-sided. It is an interval rather
    than a p-value because that shows the size of the difference too.

    Args:
        truth: (clip, emotion).
        predictions: for each seed (clip, emotion).
        others: the same for the other side, as many seeds; seeds are resampled in pairs, number by number.
        participants: (clip,) the participant of each clip, as in ``bootstrap_interval``.
        bootstrap: draws, level and seed.
        names: the emotions' names, for warnings.
        half: (clip,) 0 or 1, no participant in both. With it, correlations are computed within each half and averaged,
            in every draw too.

    Raises:
        InputError: no predictions, numbers of clips that differ, or different numbers of seeds.
    """
    if len(predictions) != len(others):
        raise InputError(f"{len(predictions)} seeds against {len(others)}: a paired comparison needs equal numbers")
    truth, stacked = _checked(truth, predictions, participants)
    _, other = _checked(truth, others, participants)
    parts = [np.full(len(truth), True)] if half is None else [np.asarray(half) == number for number in (0, 1)]
    rng, gains, scores, resampled_over = np.random.default_rng(bootstrap.seed), [], [], set()
    for part in parts:
        y, sides = truth[part], (stacked[:, part], other[:, part])
        one, two = (np.mean([mean_pearson(y, prediction, names=names) for prediction in side]) for side in sides)
        gains.append(one - two)
        groups, over = clusters([who for who, inside in zip(participants, part, strict=True) if inside])
        resampled_over.add(over)
        scores.append(resampled(y, sides[0], groups, bootstrap.draws, rng, sides[1]))
    over = min(resampled_over)  # clips, if a half resamples them
    return _interval(float(np.mean(gains)), np.mean(scores, axis=0), over, bootstrap.level)


def _checked(
    truth: ArrayLike, predictions: Sequence[ArrayLike], participants: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(clip, emotion) and (seed, clip, emotion)."""
    truth = np.asarray(truth, np.float64)
    stacked = np.asarray(predictions, np.float64)
    if stacked.ndim != 3 or not len(stacked) or stacked.shape[1:] != truth.shape or len(participants) != len(truth):
        raise InputError(
            f"truth {truth.shape}, predictions {stacked.shape} and {len(participants)} participants do not fit together"
        )
    return truth, stacked


def _interval(mean: float, scores: np.ndarray, over: str, level: float) -> Interval:
    kept = scores[np.isfinite(scores)] if np.isfinite(mean) else scores[:0]
    tail = (1 - level) / 2
    low, high = np.quantile(kept, [tail, 1 - tail]) if len(kept) else (np.nan, np.nan)
    return Interval(mean, float(low), float(high), over, len(scores), len(scores) - len(kept))


def halves(participants: Sequence[str]) -> np.ndarray:
    """(clip,) 0 or 1: two halves of about equal numbers of clips, no participant in both; always the same halves.

    Where participants are unknown, clips are divided instead, as in ``clusters``.
    """
    groups, _ = clusters(participants)
    sizes = np.bincount(groups)
    half, clips = np.zeros(len(sizes), int), [0, 0]
    for group in np.random.default_rng(0).permutation(len(sizes)):
        half[group] = int(clips[1] < clips[0])
        clips[half[group]] += sizes[group]
    return half[groups]


def clusters(participants: Sequence[str]) -> tuple[np.ndarray, str]:
    """(clip,) the number of each clip's cluster, and what the clusters are: ``participants`` or ``CLIPS``."""
    known, groups = np.unique(np.asarray(participants, str), return_inverse=True)
    if len(known) < 2 or "" in known:
        return np.arange(len(participants)), CLIPS
    return groups, "participants"


def resampled(
    truth: np.ndarray,
    predictions: np.ndarray,
    groups: np.ndarray,
    draws: int,
    rng: np.random.Generator,
    others: np.ndarray | None = None,
) -> np.ndarray:
    """(draw,) the mean correlation, over emotions and seeds, of clips whose ``groups`` are resampled with replacement.

    Seeds are resampled too. With ``others`` it is the difference to their correlation, on the same draw. A draw in
    which an emotion's labels or a seed's predictions are constant is NaN.
    """
    count, seeds = int(groups.max()) + 1, len(predictions)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)  # (draw, group): how often each was drawn
    rho = weighted_pearson(truth, predictions, weights, groups).mean(axis=2)  # (draw, seed)
    if others is not None:
        rho = rho - weighted_pearson(truth, others, weights, groups).mean(axis=2)
    return (rho * rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)).sum(axis=1) / seeds


def weighted_pearson(
    truth: np.ndarray, predictions: np.ndarray, weights: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Pearson's correlation in all draws at once: equal to that of the clips repeated as often as they were drawn.

    A correlation needs only the sums of 1, y, p, y^2, p^2 and y p. They are summed within each group once; a
    draw is then a row of ``weights`` times these sums.

    Args:
        truth: (clip, emotion).
        predictions: (seed, clip, emotion).
        weights: (draw, group) how often each group was drawn.
        groups: (clip,) the group of each clip.

    Returns:
        (draw, seed, emotion); NaN for a constant column.
    """
    seeds, clips, emotions = predictions.shape
    # Standardised, because sums of squares lose precision beside a large mean; the correlation does not change.
    y = _standardised(truth)[None].repeat(seeds, axis=0)
    p = np.stack([_standardised(prediction) for prediction in predictions])
    moments = np.stack([np.ones_like(y), y, p, y * y, p * p, y * p])  # (moment, seed, clip, emotion)
    by_clip = moments.transpose(2, 0, 1, 3).reshape(clips, -1)
    by_group = np.zeros((weights.shape[1], by_clip.shape[1]))
    np.add.at(by_group, groups, by_clip)
    n, sum_y, sum_p, sum_yy, sum_pp, sum_yp = np.moveaxis(
        (weights @ by_group).reshape(len(weights), 6, seeds, emotions), 1, 0
    )
    covariance = sum_yp - sum_y * sum_p / n
    variances = [sum_yy - sum_y**2 / n, sum_pp - sum_p**2 / n]
    # The rounding error of a zero variance is far below 1e-9 of the variance of all clips, which is 1 per clip.
    varies = (variances[0] > 1e-9 * n) & (variances[1] > 1e-9 * n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varies, covariance / np.sqrt(variances[0] * variances[1]), np.nan)


def _standardised(table: np.ndarray) -> np.ndarray:
    """(clip, emotion) with mean 0 and variance 1; a constant column becomes 0."""
    centred = table - table.mean(axis=0)
    scale = centred.std(axis=0)
    return centred / np.where(scale > 0, scale, 1.0)
