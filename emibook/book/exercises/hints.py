"""What is wrong with a number, a row of numbers, a choice or a set, in words that do not tell the right one.

Each returns a sentence, or empty text where nothing is wrong, so that hints are joined by ``or``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, KeysView, Mapping, Sequence, ValuesView
from itertools import islice
from typing import Any

import numpy as np

MOST = 1_000_000  # things that are taken from what may have no end


def plain(answer: Any) -> Any:
    """The answer with tensors as arrays and what can be gone through once as lists, inside lists and tuples too."""
    if hasattr(answer, "detach"):
        return answer.detach().cpu().numpy()
    if isinstance(answer, Iterator | KeysView | ValuesView):
        answer = list(islice(answer, MOST))
    if type(answer) in (list, tuple):
        return type(answer)(plain(each) for each in answer)
    return {key: plain(each) for key, each in answer.items()} if type(answer) is dict else answer


def one(answer: Any) -> float:
    """The number that was given, be it in a list or an array; NaN where it is not one number."""
    value = np.asarray(answer, dtype=float)
    return float(value.reshape(())) if value.size == 1 else float("nan")


def row(answer: Any, names: Sequence[str] | None = None) -> np.ndarray:
    """Several numbers in their order, or in that of ``names`` where they stand under them."""
    if isinstance(answer, Mapping):
        answer = [answer[name] for name in (answer if names is None else names)]
    return np.asarray(answer, dtype=float)


def number(answer: Any, truth: float, within: float, what: str = "the number") -> str:
    """Whether ``answer`` is ``truth``, as nearly as ``within``; otherwise how it differs."""
    count = np.size(np.asarray(answer, dtype=float))
    if count != 1:
        return f"One number was asked for {what}, {count} were given."
    if np.asarray(answer).dtype == bool:
        return f"One number was asked for {what}, true or false was given."
    value = one(answer)
    if not np.isfinite(value):
        return f"For {what} {value} was given, which is no number to compare."
    if abs(value - truth) <= within:
        return ""
    for changed, words in (
        (-value, "has the right size and the wrong sign"),
        (value / 100, "is a hundred times too large, as per cent are beside a share"),
        (value * 100, "is a hundred times too small, as a share is beside per cent"),
        (1 / value if value else np.nan, "is upside down: one over it would be right"),
    ):
        if abs(truth) > 10 * within and abs(changed - truth) <= within:
            return f"{_capital(what)} {words}."
    return f"{_capital(what)} is too {'large' if value > truth else 'small'}."


def numbers(answer: Any, truth: Any, within: float, names: Sequence[str] | None = None, what: str = "value") -> str:
    """The same for several numbers in their order: how many are off, and in which way the first of them is.

    They may also stand under their ``names``, or in a table of one row or column.
    """
    if isinstance(answer, Mapping) and (lacking := [name for name in names or () if name not in answer]):
        return f"{lacking[0]!r} is missing among the names that were given."
    values, expected = row(answer, names), np.asarray(truth, dtype=float)
    if values.squeeze().shape == expected.shape:
        values = values.squeeze()
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


class Stopped(Exception):
    """The reader's own function stopped; the text says with what."""


def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a reader's function makes of ``arguments``, as ``plain`` has it. Raises ``Stopped`` where it stops."""
    try:
        return plain(function(*arguments))
    except Exception as error:  # the reader's own code, whatever it does
        raise Stopped(f"Your function stops with {type(error).__name__}: {' '.join(str(error).split())}") from None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
