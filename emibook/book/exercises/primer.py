"""The primer: shapes, a rate too far, and a network without its bend."""

from __future__ import annotations

from typing import Any

import numpy as np

from emibook.book.exercises import hints


def shape(answer: Any) -> str:
    """a1.1: the shape of a batch (16, 300, 546) after its mean over time."""
    if tuple(answer) == (300, 546):
        return "That is the mean over the batch."
    if len(tuple(answer)) != 2:
        return "A mean along one of three directions leaves two."
    return hints.chosen(tuple(answer), (16, 546))


def too_far(answer: Any) -> str:
    """a1.2: the knob after ten steps from -1 at a rate of one, with the bottom at 2."""
    if not hints.number(answer, 5.0, 1e-6):
        return "It is there after every odd number of steps."
    return hints.number(answer, -1.0, 1e-6, "the place")


def bend(answer: Any, x: Any, y: Any) -> str:
    """a1.3: the least mean squared error of a straight line through (x, y)."""
    across, up = (np.asarray(each, float)[:, 0] for each in (x, y))
    slope, offset = np.polyfit(across, up, 1)
    return hints.number(answer, float(np.square(up - slope * across - offset).mean()), 1e-3, "the error")


CHECKS = {"a1.1": shape, "a1.2": too_far, "a1.3": bend}
