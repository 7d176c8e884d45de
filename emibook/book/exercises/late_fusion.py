"""Chapter 13: up to which correlation averaging helps, and a fitted weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas

from emibook.book.exercises import hints
from emibook.metrics import pearson

NEAR = 1e-3
LEAST_SHARE = 0.25  # of the clips on the smaller side of a split


def threshold(limits: Any, by_emotion: pandas.DataFrame) -> str:
    """13.1: for each emotion the ``r12`` up to which the average of two of equal variance beats the better branch."""
    rows = by_emotion[["r1", "r2"]]
    share = rows.min(axis=1) / rows.max(axis=1)
    truth = (1 + share) ** 2 / 2 - 1
    limits = hints.row(limits, list(by_emotion.index))
    if limits.shape == truth.shape and np.allclose(limits, (1 + 1 / share) ** 2 / 2 - 1, atol=NEAR):
        return "That is the limit for beating the weaker branch; q is the weaker one's share of the better."
    if limits.shape == truth.shape and np.allclose(limits, share, atol=NEAR):
        return "That is q itself; put it into the inequality and solve for the correlation between the branches."
    hint = hints.numbers(limits, truth, NEAR, list(by_emotion.index), "limit")
    return hint and hint + " A test: an equally good second branch (q = 1) never hurts."


def weight(answer: Any, truth: np.ndarray, seen: np.ndarray, heard: np.ndarray, people: Sequence[str]) -> str:
    """13.2: ``(half, first, second)``: (clip,) true for one half, the weight chosen there, and that of the others."""
    half, *weights = answer
    half = np.asarray(half)
    if half.dtype != bool or half.shape != (len(truth),) or len(weights) != 2:
        return (f"Three things were asked for: a row of {len(truth)} true and false, one per clip, and two weights. "
                f"The row has the type {half.dtype} and the shape {half.shape}; {len(weights)} weights came with it.")
    if min(half.mean(), 1 - half.mean()) < LEAST_SHARE:
        return "One side has fewer than a quarter of the clips: too few to choose anything on."
    people = np.asarray(people, str)
    if len(set(people)) > 1 and set(people[half]) & set(people[~half]):
        return "Somebody is on both sides, so the one half knows the other's faces: split by participant."
    weights = [hints.one(weight) for weight in weights]
    if not all(0 <= weight <= 1 for weight in weights):
        return "A weight lies between 0 (sound only) and 1 (video only)."
    choices = np.linspace(0, 1, 21)
    best = [[_score(truth[part], share * seen[part] + (1 - share) * heard[part]) for share in choices]
            for part in (half, ~half)]
    reached = [_score(truth[part], share * seen[part] + (1 - share) * heard[part])
             for share, part in zip(weights, (half, ~half), strict=True)]
    lost = [max(scores) - score for scores, score in zip(best, reached, strict=True)]
    if max(lost) <= NEAR:
        return ""
    swapped = [max(scores) - _score(truth[part], share * seen[part] + (1 - share) * heard[part])
               for scores, share, part in zip(best, weights[::-1], (half, ~half), strict=True)]
    if max(swapped) <= NEAR:
        return "These are the weights that do best on the half where you score. Choose on the one, score on the other."
    side = "first" if lost[0] > NEAR else "second"
    return f"On the half where the {side} weight was chosen another weight scores higher. Is it the visual branch's?"


def _score(truth: np.ndarray, blend: np.ndarray) -> float:
    """The mean correlation over the emotions that vary."""
    varying = np.ptp(truth, axis=0) > 0
    return float(pearson(truth[:, varying], blend[:, varying]).mean())


CHECKS = {"13.1": threshold, "13.2": weight}
