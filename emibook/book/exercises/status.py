"""Appendix 2: the least time for all chapters, and their words per line of code."""

from __future__ import annotations

from typing import Any

import pandas

from emibook.book.exercises import hints


def bound(answer: Any, seconds: pandas.Series) -> str:
    """a2.1: the least number of seconds of two workers for jobs that cannot be divided."""
    half, longest = float(seconds.sum()) / 2, float(seconds.max())
    wrong = hints.number(answer, max(half, longest), 0.5, "the bound")
    if wrong and abs(hints.one(answer) - min(half, longest)) <= 0.5:
        return "That bound holds, but there is another one that is larger. Think of the longest chapter and of the sum."
    if wrong and abs(hints.one(answer) - 2 * half) <= 0.5:
        return "That is the time of one worker; there are two."
    return wrong


def extremes(answer: Any, sizes: pandas.DataFrame) -> str:
    """a2.2: the chapters with most and with fewest words per line of code."""
    names = list(answer)
    if len(names) != 2:
        return f"Two names were asked for, {len(names)} were given."
    share = sizes["words"] / sizes["lines"]
    truth = [share.idxmax(), share.idxmin()]
    if names == truth[::-1]:
        return "These two, the other way round."
    return hints.chosen(names[0], truth[0], list(share.index)) or hints.chosen(names[1], truth[1], list(share.index))


CHECKS = {"a2.1": bound, "a2.2": extremes}
