"""Chapter 14: what a reported triple implies, and how many people a difference needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

from emibook.audit import fusion_bounds
from emibook.book.exercises import hints

NEAR = 2e-3


def agreement(answer: Any, rows: pandas.DataFrame) -> str:
    """14.1: for each of ``rows`` (``visual, sound, fused``) the r12 of two branches of equal spread."""
    found = {case: [fusion_bounds.implied(row.visual, row.sound, row.fused)[case] for row in rows.itertuples()]
             for case in ("equal", "calibrated", "best")}  # fmt: skip
    answer = hints.row(answer, list(rows.index))
    if answer.shape == (len(rows),):
        for case, words in (("calibrated", "calibrated branches"), ("best", "the best weights")):
            if np.allclose(answer, found[case], atol=NEAR):
                return f"That is the agreement of {words}; here both branches are to have one and the same spread."
    return hints.numbers(answer, found["equal"], NEAR, list(rows.index), "agreement")


def people(answer: Any, difference: float, chance: float, participants: int) -> str:
    """14.2: with how many people chance is as large as ``difference``, if it is ``chance`` with ``participants``."""
    needed = participants * (chance / difference) ** 2
    value = hints.one(answer)
    if not np.isfinite(value):
        return hints.number(answer, needed, 0.0, "the number of people")
    if abs(value - participants * chance / difference) < 1 < abs(needed - value):
        return "Chance shrinks with the root of the number of people, not with the number itself."
    if abs(value - needed) <= max(2.0, 0.02 * needed):
        return ""
    return f"{value:g} people are too {'many' if value > needed else 'few'}."


CHECKS = {"14.1": agreement, "14.2": people}
