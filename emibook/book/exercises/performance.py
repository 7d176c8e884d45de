"""Appendix 3: minutes for another corpus, and the speed-up if one stage took no time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

from emibook.book.exercises import hints

CLIPS, SECONDS, RATE = 7_442, 2.5, 30


def minutes(answer: Any, frame: pandas.DataFrame) -> str:
    """a3.1: minutes for the faces of CREMA-D at the smallest size's milliseconds a frame."""
    milliseconds = CLIPS * SECONDS * RATE * frame["ours"].iloc[0]
    truth = float(milliseconds / 60e3)
    hint = hints.number(answer, truth, 0.02 * truth, "the number of minutes")
    if hint and abs(hints.one(answer) - milliseconds / 1e3) <= 0.02 * milliseconds / 1e3:
        return "Those are seconds; minutes were asked for."
    if hint and abs(hints.one(answer) - truth / RATE) <= 0.02 * truth / RATE:
        return "A second of video has many frames, and the table's time is that of one."
    return hint


def without(answer: Any, hours: pandas.Series) -> str:
    """a3.2: the total time divided by the time without each stage."""
    values = hints.row(answer, list(map(str, hours.index)))
    if values.shape == hours.shape and np.allclose(values, hours / hours.sum(), rtol=0.01):
        return "Those are the stages' shares. What is left without a stage, and how does the whole compare with it?"
    return hints.numbers(values, hours.sum() / (hours.sum() - hours), 0.01, list(map(str, hours.index)), "gain")


CHECKS = {"a3.1": minutes, "a3.2": without}
