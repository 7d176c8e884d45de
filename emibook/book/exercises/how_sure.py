"""Chapter 3: clips for an interval of one hundredth, a difference with its interval, and how often the better loses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emibook.book.exercises import hints
from emibook.evaluation import clusters, resampled

DRAWS = 2000
WITHIN = 0.015  # the difference of two bootstraps of a thousand resamples and more


def _scores(truth: Any, prediction: Any, people: Sequence[str]) -> np.ndarray:
    """(draw,) the mean correlation; the same resamples of participants for every prediction."""
    groups, _ = clusters(people)
    stacked = np.asarray(prediction, float)[None]
    return resampled(np.asarray(truth, float), stacked, groups, DRAWS, np.random.default_rng(1))


def clips(answer: Any) -> str:
    """3.1: how many independent clips make the interval of a small correlation a hundredth wide on either side."""
    if not hints.number(answer, 10_000, 200):
        return "That is one standard error. A 95 % interval reaches nearly two of them to either side."
    if not hints.number(answer, 196, 5):
        return "That is the root of it."
    return hints.number(answer, 1.96**2 * 1e4, 2000, "the number of clips")


def difference(answer: Any, truth: Any, seen: Any, both: Any, people: Sequence[str]) -> str:
    """3.2: ``(low, high)`` the interval, over participants, of the average's score minus that of the face alone."""
    low, high = answer
    gained = _scores(truth, both, people) - _scores(truth, seen, people)
    expected = np.nanquantile(gained, [0.025, 0.975])
    if high - low > 1.5 * np.ptp(expected) + 2 * WITHIN:
        return "That is wider than it should be: are both scored on the same resample of participants?"
    return hints.numbers([low, high], expected, WITHIN, ["the lower end", "the upper end"], "place")


def loses(answer: Any, truth: Any, seen: Any, both: Any, people: Sequence[str]) -> str:
    """3.3: the share of resamples of participants in which the better of the two scores lower."""
    gained = _scores(truth, both, people) - _scores(truth, seen, people)
    share = float(np.mean(gained < 0))
    return hints.number(answer, min(share, 1 - share), 0.03, "the share")


CHECKS = {"3.1": clips, "3.2": difference, "3.3": loses}
