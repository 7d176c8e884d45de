"""Checks of readers' answers: each says what is wrong and does not reveal the answer.

A chapter's checks are functions ``(answer, **given)`` that return a hint of one or two sentences, or empty text if the
answer is right. ``given`` is what the page has computed and the check needs, so that an answer is judged by the
reader's own corpus. They are listed in the ``CHECKS`` of a module here, and the module in ``CHAPTERS``:

    CHECKS = {"13.1": where_averaging_stops_to_pay, "13.2": ...}        # the second exercise of chapter 13 is 13.2

In a chapter the exercise's text gives the form of the answer and shows the call, and the solution's last cell makes
it: ``emibook.check_exercise("13.1", limits, by_emotion=by_emotion)``. Keywords are names defined before the solution.
The notebook without solutions has the same call, with ``answer`` as its answer.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from emibook import InputError
from emibook.book.exercises import hints

CHAPTERS = {
    2: "people",
    1: "task",
    3: "how_sure",
    4: "clocks",
    5: "puppet",
    6: "faces",
    7: "seeing",
    8: "hearing",
    9: "baseline",
    10: "convolution",
    11: "transformer",
    12: "branches",
    13: "late_fusion",
    14: "full_size",
    16: "own_run",
    17: "limits",
    15: "audit",
    "a1": "primer",
    "a2": "status",
    "a3": "performance",
}
"""Chapter or appendix to the module here with its checks."""


class Unsolved(InputError):
    """An answer that is missing or wrong. A notebook shows only its text, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def chapter_of(name: str) -> int | str:
    """13 for an exercise ``13.1`` or a notebook ``13_late_fusion``, and ``a2`` for ``a2.1`` or ``a2_status``."""
    head = re.split("[._]", name)[0]
    return int(head) if head.isdecimal() else head


def checks(chapter: int | str) -> dict[str, Callable[..., str]]:
    """The checks of one chapter by the exercise's number; none if the chapter has no module here."""
    return import_module(f"{__name__}.{CHAPTERS[chapter]}").CHECKS if chapter in CHAPTERS else {}


def check_exercise(number: str, answer: Any = ..., **given: Any) -> None:
    """Print that an answer is right, or raise an error that says what is wrong with it.

    Args:
        number: the exercise, as ``"13.1"``.
        answer: in the form that the exercise asks for; three dots mean that there is none yet.
        given: what the page has computed that the check needs, as the exercise shows.

    Raises:
        Unsolved: the answer is missing or wrong; the text says in what way, and not what is right. Or there is no such
            exercise, or an argument is missing.
    """
    known = checks(chapter_of(str(number)))
    if number not in known:
        others = ", ".join(known) or "none in that chapter"
        raise Unsolved(f"no exercise {number} can be checked; there are {others}")
    if answer is ...:
        raise Unsolved(f"Exercise {number} has no answer yet: replace the three dots by yours.")
    if answer is None:
        raise Unsolved(f"Exercise {number}, not yet: None was given, as by a function that returns nothing.")
    try:
        inspect.signature(known[number]).bind(answer, **given)
    except TypeError as error:
        raise Unsolved(f"exercise {number}: {error}; call the check as the exercise shows") from None
    try:
        hint = known[number](hints.plain(answer), **given)
    except hints.FunctionFailed as failure:
        hint = str(failure)
    except Exception as error:  # an answer may be anything at all
        hint = (f"The check cannot read it as the exercise describes it: something of the type "
                f"{type(answer).__name__} was given ({' '.join(str(error).split())[:120]}).")
        hint += f" Has {' or '.join(given)} been changed since the page made it?" if given else ""
    if hint:
        raise Unsolved(f"Exercise {number}, not yet: {hint}")
    print(f"Exercise {number}: right.")
