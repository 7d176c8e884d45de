"""Chapter 4: what 300 rows cover, which row belongs to a moment, and an alias."""

from __future__ import annotations

from typing import Any

from emibook.book.exercises import hints


def covered(answer: Any) -> str:
    """4.1: how many seconds 300 rows of MFCC at their own rate cover."""
    return hints.number(answer, 3.0, 0.05, "the number of seconds")


def row(answer: Any) -> str:
    """4.2: the row of wav2vec 2.0 whose centre is nearest to two and a half seconds."""
    if not hints.number(answer, 125, 0.1):
        return ("That is where the row begins, or assumes that its centre is its first sample: its receptive field is "
                "400 samples.")
    return hints.number(answer, 124, 0.1, "the row")


def alias(answer: Any) -> str:
    """4.3: the apparent frequency in Hz of a tremor of 28 Hz sampled 30 times a second."""
    if not hints.number(answer, 28, 0.5):
        return "That is its true frequency. Sampling shows another one."
    return hints.number(answer, 2, 0.3, "the number of swings a second")


CHECKS = {"4.1": covered, "4.2": row, "4.3": alias}
