"""Checks of the readers' answers: each says what is wrong and keeps the answer to itself.

A chapter's checks are functions ``(answer, **given)`` that return what is wrong in one or two sentences, or nothing
where the answer is right. ``given`` is what the page has computed that the check needs, so that an answer is judged
by the reader's own corpus. They are listed in the ``CHECKS`` of a module here, and the module in ``CHAPTERS``:

    CHECKS = {"13.1": where_averaging_stops_to_pay, "13.2": ...}        # the second exercise of chapter 13 is 13.2

In a chapter the exercise's text tells the form of the answer and shows the call, and the solution's last cell makes
it: ``emibook.check_exercise("13.1", limits, by_emotion=by_emotion)``. Keywords are names that stand before the
solution. The notebook without solutions gets the same call, with ``answer`` in the first place.
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
"""Chapter, or appendix, to the module here that holds its checks."""


class Unsolved(InputError):
    """An answer that is missing or wrong. In a notebook only its line is shown, without the library's frames."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def chapter_of(name: str) -> int | str:
    """13 for an exercise ``13.1`` or a notebook ``13_late_fusion``, and ``a2`` for ``a2.1`` or ``a2_status``."""
    head = re.split("[._]", name)[0]
    return int(head) if head.isdecimal() else head


def checks(chapter: int | str) -> dict[str, Callable[..., str]]:
    """The checks of one chapter by the exercise's number; none where the chapter has no module here."""
    return import_module(f"{__name__}.{CHAPTERS[chapter]}").CHECKS if chapter in CHAPTERS else {}


def check_exercise(number: str, answer: Any = ..., **given: Any) -> None:
    """Say that an answer is right, or stop with what is wrong about it.

    Args:
        number: the exercise, as ``"13.1"``.
        answer: in the form that the exercise asks for; three dots stand for none yet.
        given: what the page has computed that the check needs, as the exercise shows.

    Raises:
        Unsolved: the answer is missing or wrong; the text says in what way, and not what is right. Or there is no such
            exercise, or what it needs was not given.
    """
    known = checks(chapter_of(str(number)))
    if number not in known:
        others = ", ".join(known) or "none in that chapter"
        raise Unsolved(f"no exercise {number} can be checked; there are {others}")
    if answer is ...:
        raise Unsolved(f"Exercise {number} has no answer yet: put yours in the place of the three dots.")
    if answer is None:
        raise Unsolved(f"Exercise {number}, not yet: None was given, as by a function that returns nothing.")
    try:
        inspect.signature(known[number]).bind(answer, **given)
    except TypeError as error:
        raise Unsolved(f"exercise {number}: {error}; call the check as the exercise shows") from None
    try:
        wrong = known[number](hints.plain(answer), **given)
    except hints.Stopped as stop:
        wrong = str(stop)
    except Exception as error:  # an answer may be anything at all
        wrong = (f"The check cannot read it as the exercise describes it: something of the type "
                 f"{type(answer).__name__} was given ({' '.join(str(error).split())[:120]}).")
        wrong += f" Has {' or '.join(given)} been changed since the page made it?" if given else ""
    if wrong:
        raise Unsolved(f"Exercise {number}, not yet: {wrong}")
    print(f"Exercise {number}: right.")
