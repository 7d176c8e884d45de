"""Chapter 6: clips that play at the wrong speed, and a detection threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

from emibook.book.exercises import hints

CLOCK = 30  # frames a second


def speed(answer: Any, rates: pandas.DataFrame) -> str:
    """6.1: ``(clip, factor)``: the clip whose speed is most wrong, and how many times too fast it plays."""
    clip, factor = answer
    factors = CLOCK / rates["average"]
    wrongness = np.log(factors).abs()
    if clip not in wrongness.index:
        return f"There is no clip {clip!r}; ids are text of five digits."
    if wrongness[clip] < wrongness.max() - 1e-9:
        if factors[clip] in (factors.min(), factors.max()):
            return f"Clip {clip} is the worst in one direction. Too slow is wrong as well: compare by how many times."
        return f"There is a clip that is more wrong than {clip}. Too slow counts as much as too fast."
    return hints.number(factor, float(factors[clip]), 0.01 * float(factors[clip]), "the factor")


def thresholds(answer: Any, kept: pandas.DataFrame, both: pandas.DataFrame) -> str:
    """6.2: a table by threshold with the columns ``faces kept``, ``hit rate`` and ``false alarms``, as shares."""
    levels = np.asarray(answer.index, dtype=float)
    if len(set(levels)) < 3 or not ((0 <= levels) & (levels < 1)).all():
        return "The index should hold three thresholds or more, each a probability below 1."
    truth = pandas.DataFrame({"faces kept": [(kept["probability"] > level).mean() for level in levels]}, answer.index)
    for name, truly in (("hit rate", 1), ("false alarms", 0)):
        probability = both.loc[both["face_true"] == truly, "probability"].fillna(0)
        truth[name] = [(probability > level).mean() for level in levels]
    if lacking := [name for name in truth if name not in answer]:
        return f"The column {lacking[0]!r} is missing."
    labels = [f"threshold {level:g}" for level in levels]
    for name in truth:
        wrong = hints.numbers(answer[name], truth[name], 1e-6, labels, f"share in {name!r}")
        if wrong and name != "faces kept":
            wrong += " A frame without a face has no probability: count it as 0, do not leave it out."
        if wrong:
            return wrong
    return ""


CHECKS = {"6.1": speed, "6.2": thresholds}
