"""Chapter 16: cores for one night, and how many clips show a person who is also in the training folds."""

from __future__ import annotations

from typing import Any

import numpy as np

from emibook.book.exercises import hints

NIGHT_HOURS = 8
FOLDS = 5


def one_night(answer: Any, core_hours: Any) -> str:
    """16.1: cores that do all ``core_hours`` in eight hours."""
    total = float(np.sum(np.asarray(core_hours, float)))
    if not hints.number(answer, total, 0.5):
        return "That many cores need one hour; there are eight."
    if hints.one(answer) < total / NIGHT_HOURS <= hints.one(answer) + 1:
        return "A little too few: the night is over before the last stage is."
    return hints.number(answer, float(np.ceil(total / NIGHT_HOURS)), 0.5, "the number of cores")


def person_leakage(answer: Any) -> str:
    """16.2: the share of clips whose person is in another of five folds, two clips a person dealt at random."""
    if not hints.number(answer, 1 / FOLDS, 0.03):
        return "That is the share of the others."
    if not hints.number(answer, (1 - 1 / FOLDS) ** 2, 0.01):
        return "Where the first clip lies does not matter; only whether the other one lies there too."
    return hints.number(answer, 1 - 1 / FOLDS, 0.03, "the share")


CHECKS = {"16.1": one_night, "16.2": person_leakage}
