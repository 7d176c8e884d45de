"""Chapter 5: action units that look alike, and the noise ceiling of the raters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emibook.book.exercises import hints
from emibook.metrics import pearson
from emibook.puppet import labels
from emibook.puppet.renderer import UNIT_NAMES

PAIRS = 3
OVERALL, BY_RATERS = 0.02, 0.05  # the largest difference of two samples of tens of thousands of labels


def similar_units(answer: Any, changes: Sequence[np.ndarray]) -> str:
    """5.1: three ``(unit, unit, correlation)``; ``changes``: for each face (unit, pixel)."""
    rows = [tuple(row) for row in answer]
    if len(rows) != PAIRS or any(len(row) != 3 for row in rows):
        return f"{PAIRS} rows of two units and a correlation were asked for."
    likeness = np.mean([np.corrcoef(change) for change in changes], axis=0)
    strength = np.abs(likeness - np.eye(len(UNIT_NAMES)))
    upper = np.argsort(-strength[np.triu_indices(len(UNIT_NAMES), 1)], kind="stable")[:PAIRS]
    truth = {frozenset((UNIT_NAMES[one], UNIT_NAMES[other])): likeness[one, other]
             for one, other in zip(*(side[upper] for side in np.triu_indices(len(UNIT_NAMES), 1)), strict=True)}
    unknown = [name for row in rows for name in row[:2] if name not in UNIT_NAMES]
    if unknown:
        return f"{unknown[0]!r} is not a unit; their names are as in UNIT_NAMES, {UNIT_NAMES[0]} and so on."
    given = {frozenset(row[:2]): hints.one(row[2]) for row in rows}
    if any(len(pair) < 2 for pair in given):
        return "A unit always looks like itself; two different ones were asked for."
    if set(given) - set(truth) and all(value > 0 for value in given.values()) and min(truth.values()) < 0:
        return "Alike may also mean exactly opposite: a strong negative correlation counts."
    return hints.members(given, truth, "of the three pairs") or "".join(
        hints.number(given[pair], truth[pair], 0.02, f"the correlation of {' and '.join(sorted(pair))}")
        for pair in truth if abs(given[pair] - truth[pair]) > 0.02)


def noise_ceiling(answer: Any) -> str:
    """5.2: mean correlations of the labels with the felt intensities: ``as drawn``, and by ``N raters``."""
    names = ["as drawn", *(f"{count} raters" for count in labels.RATERS)]
    values = dict(answer)
    if lacking := [name for name in names if name not in values]:
        return f"{lacking[0]!r} is missing; the names are {', '.join(names)}."
    alone = np.arange(50_000)
    many = labels.sample_labels(alone, alone, np.random.default_rng(len(alone)))
    wrong = hints.number(values["as drawn"], float(pearson(many.values, many.felt).mean()), OVERALL, "'as drawn'")
    for count in labels.RATERS:
        rated = many.raters == count
        truth = float(pearson(many.values[rated], many.felt[rated]).mean())
        wrong = wrong or hints.number(values[f"{count} raters"], truth, BY_RATERS, f"'{count} raters'")
    if wrong and hints.one(values["as drawn"]) > 1 - OVERALL:
        wrong += " Correlate the labels with what is felt, not a thing with itself."
    return wrong


CHECKS = {"5.1": similar_units, "5.2": noise_ceiling}
