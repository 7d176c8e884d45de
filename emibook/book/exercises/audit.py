"""Chapter 15: what follows from Table 1 and from two numbers, and which verdicts depend on a tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emibook import audit
from emibook.audit.arithmetic import seconds
from emibook.book.exercises import hints

GAINS = ((0.34, 0.25, 0.09, 2), (0.34, 0.25, 0.094, 2), (0.34, 0.25, 0.096, 2), (0.34, 0.25, 0.084, 2),
         (0.34, 0.25, 0.34, 2), (0.34, 0.253, 0.0872, 3), (0.34, 0.253, 0.0878, 3), (0.2, 0.3, 0.1, 2),
         (0.1536, 0.12, 0.038, 2), (0.1536, 0.12, 0.026, 2))


def lengths(answer: Any, paper: audit.Paper) -> str:
    """15.1: the mean length in seconds of the clips of ``train``, ``valid`` and ``test``, as a dictionary."""
    given = {claim.arguments["name"]: claim.arguments for claim in paper.claims if claim.check == "partition"}
    values = dict(answer)
    if lacking := [name for name in given if name not in values]:
        return f"{lacking[0]!r} is missing; the names are {', '.join(given)}."
    for name, claimed in given.items():
        mean = seconds(claimed["duration"]) / claimed["samples"]
        wrong = hints.number(values[name], mean, 0.01, f"the mean length of {name}")
        if wrong and abs(hints.one(values[name]) - mean / 60) < 0.01:
            return "Seconds were asked for, not minutes."
        if wrong:
            return f"{wrong} A duration is given as hours, minutes and seconds."
    return ""


def gain(answer: Callable[[float, float, float, int], bool], paper: audit.Paper) -> str:
    """15.2: a function of level, baseline, gain and the baseline's decimals: may the gain follow from the two?"""

    def may_follow(level: float, baseline: float, claimed: float, decimals: int) -> bool:
        return abs(level - baseline - claimed) <= 0.5 * 10**-decimals + 1e-9

    if not callable(answer):
        return f"A function was asked for, something of the type {type(answer).__name__} was given."
    table = paper.tables["2"]
    levels = [(table[row], table["ViT(baseline)"], table[row], 2) for row in ("ResNet18", "AUs")]
    for numbers in (*GAINS, *levels):
        result, expected = hints.called(answer, *numbers), may_follow(*numbers)
        if np.shape(result) or np.asarray(result).dtype != bool:
            return f"It should return True or False; it returns {result!r:.40}."
        if bool(result) != expected:
            level, baseline, claimed, decimals = numbers
            return (f"For the level {level}, the baseline {baseline} of {decimals} decimals and the gain {claimed} it "
                    f"returns {bool(result)}. A printed number means all that round to it, and a gain has a sign.")
    return ""


def on_tolerance(answer: Any, paper: audit.Paper) -> str:
    """15.3: the ids of the claims whose verdict differs between the least and the greatest of ``audit.SCALES``."""
    tight, wide = (audit.audit(paper, scale=scale) for scale in (min(audit.SCALES), max(audit.SCALES)))
    truth = {name for name in tight if tight[name].verdict != wide[name].verdict}
    if unknown := [name for name in answer if name not in tight]:
        return f"There is no claim {unknown[0]!r}."
    return hints.members(answer, truth, "of the claims")


CHECKS = {"15.1": lengths, "15.2": gain, "15.3": on_tolerance}
