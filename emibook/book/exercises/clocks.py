"""Chapter 4: what 300 rows cover, which row belongs to a moment, and a tremor that is not there."""

from __future__ import annotations

from typing import Any

from emibook.book.exercises import hints


def covered(answer: Any) -> str:
    """4.1: how many seconds 300 rows of MFCC at their own rate cover."""
    return hints.number(answer, 3.0, 0.05, "the number of seconds")


def row(answer: Any) -> str:
    """4.2: the row of wav2vec 2.0 whose centre is nearest to two and a half seconds."""
    if not hints.number(answer, 125, 0.1):
        return "That is where the row begins, or counts as if it were centred on its first sample: it sees 400 samples."
    return hints.number(answer, 124, 0.1, "the row")


def ghost(answer: Any) -> str:
    """4.3: how many times a second a tremor of 28 Hz seems to swing when looked at 30 times a second."""
    if not hints.number(answer, 28, 0.5):
        return "So it swings. What is seen of it is something else."
    return hints.number(answer, 2, 0.3, "the number of swings a second")


CHECKS = {"4.1": covered, "4.2": row, "4.3": ghost}
