"""Chapter 1: a correlation by hand, the order of pairs, the number of raters, and a change that keeps a correlation."""

from __future__ import annotations

from typing import Any

import numpy as np

from emibook.book.exercises import hints
from emibook.metrics import mean_pearson

MOST_RATERS = 10
ROUNDED = 0.02  # labels may come as .333


def by_hand(answer: Any) -> str:
    """1.1: the correlation of labels 0 0 1 1 with predictions 1 2 2 5."""
    if not hints.number(answer, 0.5, 1e-3):
        return "That is the covariance. Divide it by the root of both variances, taken over the same number of clips."
    return hints.number(answer, 2 / 3, 1e-3, "the correlation")


def order(answer: Any) -> str:
    """1.2: the correlation that puts two pairs of three in the right order."""
    if not hints.number(answer, np.sin(2 * np.pi / 3), 1e-3):
        return "The sine is of the angle beyond one half of the pairs, not of all two thirds."
    return hints.number(answer, 0.5, 1e-3, "the correlation")


def raters(answer: Any, labels: Any) -> str:
    """1.3: (clip,) the smallest N up to ten that makes all labels of a clip multiples of 1/N."""
    candidates = np.arange(1, MOST_RATERS + 1)
    products = np.asarray(labels, float)[:, :, None] * candidates
    whole = (np.abs(products - products.round()) < ROUNDED).all(axis=1)
    truth = np.where(whole.any(axis=1), candidates[whole.argmax(axis=1)], 1)
    wrong = hints.numbers(answer, truth, 0.1, [f"clip {clip}" for clip in range(len(truth))], "N")
    return wrong and wrong + " All six labels of a clip have to come out whole with the same N."


def unchanged(answer: Any) -> str:
    """1.4: a function of a table of predictions that changes the squared error and not the correlation."""
    if not callable(answer):
        return f"A function was asked for, something of the type {type(answer).__name__} was given."
    rng = np.random.default_rng(0)
    truth = rng.random((50, 6))
    prediction = truth + rng.normal(0, 0.3, truth.shape)
    changed = np.asarray(hints.called(answer, prediction.copy()), float)
    if changed.shape != prediction.shape:
        return f"It returns a table of the shape {changed.shape} for one of {prediction.shape}."
    if abs(np.square(truth - changed).mean() - np.square(truth - prediction).mean()) < 1e-9:
        return "The squared error is what it was before."
    if abs(mean_pearson(truth, changed) - mean_pearson(truth, prediction)) > 1e-6:
        return "The correlation changes. What does it divide by, and what does it subtract?"
    return ""


CHECKS = {"1.1": by_hand, "1.2": order, "1.3": raters, "1.4": unchanged}
