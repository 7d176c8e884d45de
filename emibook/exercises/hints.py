"""What is wrong with a number, a row of numbers, a choice or a function, in words that do not tell the right one.

Each returns a sentence, or empty text where nothing is wrong, so that hints are joined by ``or``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np


def number(answer: Any, truth: float, within: float, what: str = "the number") -> str:
    """Whether ``answer`` is ``truth``, as nearly as ``within``; otherwise how it differs."""
    value = np.asarray(answer, dtype=float)
    if value.size != 1:
        return f"One number was asked for {what}, {value.size} were given."
    value = float(value.reshape(()))
    if not np.isfinite(value):
        return f"For {what} {value} was given, which is no number to compare."
    if abs(value - truth) <= within:
        return ""
    for changed, words in (
        (-value, "has the right size and the wrong sign"),
        (value / 100, "is a hundred times too large: a share was asked for, not per cent"),
        (value * 100, "is a hundred times too small: per cent were asked for, not a share"),
        (1 / value if value else np.nan, "is upside down: one over it would be right"),
    ):
        if abs(truth) > 10 * within and abs(changed - truth) <= within:
            return f"{_capital(what)} {words}."
    return f"{_capital(what)} is too {'large' if value > truth else 'small'}."


def numbers(answer: Any, truth: Any, within: float, names: Sequence[str] | None = None, what: str = "value") -> str:
    """The same for several numbers in their order: how many are off, and in which way the first of them is."""
    values, expected = np.asarray(answer, dtype=float), np.asarray(truth, dtype=float)
    if values.shape != expected.shape:
        return f"The answer has the shape {values.shape}, {expected.shape} was asked for."
    off = ~np.isclose(values, expected, rtol=0, atol=within, equal_nan=True)
    if not off.any():
        return ""
    if np.allclose(np.sort(values, axis=None), np.sort(expected, axis=None), rtol=0, atol=within):
        return "All the values are there, in another order."
    place = int(np.flatnonzero(off)[0])
    name = f"the {what} of {names[place]}" if names is not None else f"{what} {place + 1}"
    first = number(values.flat[place], float(expected.flat[place]), within, name)
    return f"{int(off.sum())} of {off.size} are off. {first}" if off.size > 1 else first


def chosen(answer: Any, truth: Any, among: Collection[Any] | None = None) -> str:
    """Whether one thing was chosen rightly out of ``among``."""
    if among is not None and answer not in among:
        few = ", ".join(map(str, list(among)[:6])) + (", ..." if len(among) > 6 else "")
        return f"{answer!r} is none of those to choose from ({few})."
    return "" if answer == truth else f"{answer!r} is not the one."


def members(answer: Collection[Any], truth: Collection[Any], what: str = "of them") -> str:
    """Whether a set is right, in any order: how many are missing and how many too many."""
    given, expected = set(answer), set(truth)
    missing, extra = len(expected - given), len(given - expected)
    if not missing and not extra:
        return ""
    parts = [f"{missing} {what} missing"] * bool(missing) + [f"{extra} that do not belong there"] * bool(extra)
    return f"{' and '.join(parts)}."


def function(
    answer: Any, reference: Callable[..., Any], arguments: Sequence[tuple], within: float, what: str = "the function"
) -> str:
    """Whether a function gives what ``reference`` gives; otherwise for which of ``arguments`` it does not."""
    if not callable(answer):
        return f"A function was asked for, a {type(answer).__name__} was given."
    for each in arguments:
        shown = ", ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in each)
        try:
            result = answer(*each)
        except Exception as error:  # the reader's own code, whatever it does
            return f"{_capital(what)} stops at ({shown}) with {type(error).__name__}: {error}"
        wrong = numbers(result, reference(*each), within)
        if wrong:
            return f"At ({shown}): {wrong}"
    return ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
