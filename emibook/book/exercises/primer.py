"""The primer: shapes, too high a learning rate, and a network without its nonlinearity."""

from __future__ import annotations

from typing import Any

import numpy as np

from emibook.book.exercises import hints


def shape(answer: Any) -> str:
    """a1.1: the shape of a batch (16, 300, 546) after its mean over time."""
    if tuple(answer) == (300, 546):
        return "That is the mean over the batch."
    if len(tuple(answer)) != 2:
        return "A mean along one of three axes leaves two."
    return hints.chosen(tuple(answer), (16, 546))


def diverging_steps(answer: Any) -> str:
    """a1.2: the parameter after ten steps from -1 at a learning rate of one, with the minimum at 2."""
    if not hints.number(answer, 5.0, 1e-6):
        return "It has that value after every odd number of steps."
    return hints.number(answer, -1.0, 1e-6, "the value")


def straight_line(answer: Any, x: Any, y: Any) -> str:
    """a1.3: the least mean squared error of a straight line through (x, y)."""
    across, up = (np.asarray(values, float)[:, 0] for values in (x, y))
    slope, offset = np.polyfit(across, up, 1)
    return hints.number(answer, float(np.square(up - slope * across - offset).mean()), 1e-3, "the error")


CHECKS = {"a1.1": shape, "a1.2": diverging_steps, "a1.3": straight_line}
