"""Hints: what is wrong with a number, several numbers, a choice or a set, without revealing the right one.

Each returns a sentence, or empty text if nothing is wrong, so that hints can be joined by ``or``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, KeysView, Mapping, Sequence, ValuesView
from itertools import islice
from typing import Any

import numpy as np

MAX_ITEMS = 1_000_000  # of an iterator that may be endless


def plain(answer: Any) -> Any:
    """The answer with tensors as arrays and iterators as lists, inside lists and tuples too."""
    if hasattr(answer, "detach"):
        return answer.detach().cpu().numpy()
    if isinstance(answer, Iterator | KeysView | ValuesView):
        answer = list(islice(answer, MAX_ITEMS))
    if type(answer) in (list, tuple):
        return type(answer)(plain(item) for item in answer)
    return {key: plain(item) for key, item in answer.items()} if type(answer) is dict else answer


def one(answer: Any) -> float:
    """The number in ``answer``, which may be a list or an array; NaN if it is not one number."""
    value = np.asarray(answer, dtype=float)
    return float(value.reshape(())) if value.size == 1 else float("nan")


def row(answer: Any, names: Sequence[str] | None = None) -> np.ndarray:
    """Several numbers in their order, or by ``names`` if the answer is a mapping."""
    if isinstance(answer, Mapping):
        answer = [answer[name] for name in (answer if names is None else names)]
    return np.asarray(answer, dtype=float)


def number(answer: Any, truth: float, within: float, what: str = "the number") -> str:
    """Empty if ``answer`` is within ``within`` of ``truth``, otherwise how it differs."""
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
        (value / 100, "is a hundred times too large: a share was asked for, not per cent"),
        (value * 100, "is a hundred times too small: per cent were asked for, not a share"),
        (1 / value if value else np.nan, "is upside down: its reciprocal would be right"),
    ):
        if abs(truth) > 10 * within and abs(changed - truth) <= within:
            return f"{_capital(what)} {words}."
    return f"{_capital(what)} is too {'large' if value > truth else 'small'}."


def numbers(answer: Any, truth: Any, within: float, names: Sequence[str] | None = None, what: str = "value") -> str:
    """The same for several numbers in their order: how many are wrong, and how the first of them differs.

    They may also be a mapping from ``names``, or a table of one row or column.
    """
    if isinstance(answer, Mapping) and (lacking := [name for name in names or () if name not in answer]):
        return f"{lacking[0]!r} is missing among the names given."
    values, expected = row(answer, names), np.asarray(truth, dtype=float)
    if values.squeeze().shape == expected.shape:
        values = values.squeeze()
    if values.shape != expected.shape:
        return f"The answer has the shape {values.shape}, {expected.shape} was asked for."
    wrong = ~np.isclose(values, expected, rtol=0, atol=within, equal_nan=True)
    if not wrong.any():
        return ""
    if np.allclose(np.sort(values, axis=None), np.sort(expected, axis=None), rtol=0, atol=within):
        return "All values are right, in another order."
    index = int(np.flatnonzero(wrong)[0])
    name = f"the {what} of {names[index]}" if names is not None else f"{what} {index + 1}"
    first = number(values.flat[index], float(expected.flat[index]), within, name)
    return f"{int(wrong.sum())} of {wrong.size} are wrong. {first}" if wrong.size > 1 else first


def chosen(answer: Any, truth: Any, among: Collection[Any] | None = None) -> str:
    """Empty if the right one of ``among`` was chosen."""
    if among is not None and answer not in among:
        few = ", ".join(map(str, list(among)[:6])) + (", ..." if len(among) > 6 else "")
        return f"{answer!r} is not among the choices ({few})."
    return "" if answer == truth else f"{answer!r} is not the right one."


def members(answer: Collection[Any], truth: Collection[Any], what: str = "of them") -> str:
    """Empty if a set is right, in any order; otherwise how many are missing and how many do not belong."""
    given, expected = set(answer), set(truth)
    missing, extra = len(expected - given), len(given - expected)
    if not missing and not extra:
        return ""
    parts = [f"{missing} {what} missing"] * bool(missing) + [f"{extra} that do not belong there"] * bool(extra)
    return f"{' and '.join(parts)}."


class FunctionFailed(Exception):
    """The reader's own function raised an error; the text says which."""


def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a reader's function returns for ``arguments``, as ``plain``. Raises ``FunctionFailed`` if it fails."""
    try:
        return plain(function(*arguments))
    except Exception as error:  # the reader's own code, whatever it does
        text = " ".join(str(error).split())
        raise FunctionFailed(f"Your function fails with {type(error).__name__}: {text}") from None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
