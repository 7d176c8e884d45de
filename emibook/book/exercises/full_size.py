"""Chapter 14: what a reported triple implies, and how many participants a difference needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

from emibook.audit import fusion_bounds
from emibook.book.exercises import hints

NEAR = 2e-3


def branch_correlation(answer: Any, rows: pandas.DataFrame) -> str:
    """14.1: for each of ``rows`` (``visual, sound, fused``) the r12 of two branches of equal variance."""
    implied = {case: [fusion_bounds.implied(row.visual, row.sound, row.fused)[case] for row in rows.itertuples()]
             for case in ("equal", "calibrated", "best")}  # fmt: skip
    answer = hints.row(answer, list(rows.index))
    if answer.shape == (len(rows),):
        for case, words in (("calibrated", "calibrated branches"), ("best", "the best weights")):
            if np.allclose(answer, implied[case], atol=NEAR):
                return f"That is the correlation of {words}; here both branches have equal variance."
    return hints.numbers(answer, implied["equal"], NEAR, list(rows.index), "correlation")


def people(answer: Any, difference: float, chance: float, participants: int) -> str:
    """14.2: the number of people with whom sampling noise, ``chance`` with ``participants``, equals ``difference``."""
    needed = participants * (chance / difference) ** 2
    value = hints.one(answer)
    if not np.isfinite(value):
        return hints.number(answer, needed, 0.0, "the number of people")
    if abs(value - participants * chance / difference) < 1 < abs(needed - value):
        return "Sampling noise shrinks with the root of the number of people, not with the number itself."
    if abs(value - needed) <= max(2.0, 0.02 * needed):
        return ""
    return f"{value:g} people are too {'many' if value > needed else 'few'}."


CHECKS = {"14.1": branch_correlation, "14.2": people}
