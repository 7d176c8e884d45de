"""Chapter 9: a ridge slope, an infinite penalty, and a better prediction than the ridge on time averages."""

from __future__ import annotations

from typing import Any

import numpy as np

from emibook.book.exercises import hints
from emibook.metrics import mean_pearson


def ridge_slope(answer: Any) -> str:
    """9.1: the ridge slope for x = -1, 0, 1, y = -1, 0, 2 and the penalty 1."""
    if not hints.number(answer, 1.5, 1e-3):
        return "That is the slope without a penalty."
    return hints.number(answer, 1.0, 1e-3, "the slope")


def infinite_penalty(answer: Any, train: Any) -> str:
    """9.2: (target,) the prediction of every clip as the penalty goes to infinity."""
    labels = train.targets[train.present].astype(float)
    if np.shape(answer) == labels.shape[1:] and not np.any(answer):
        return "The slopes go to zero, but the intercept is not penalised."
    return hints.numbers(answer, labels.mean(axis=0), 1e-3, list(train.target_names), "prediction")


def better(answer: Any, truth: Any, baseline: Any) -> str:
    """9.3: (clip, target) predictions of the validation clips that score higher than ``baseline``'s."""
    answer, baseline = np.asarray(answer, float), np.asarray(baseline, float)
    if answer.shape != baseline.shape:
        return f"A table {baseline.shape} was asked for, of clips and emotions; the shape given is {answer.shape}."
    scores = [mean_pearson(truth, prediction) for prediction in (answer, baseline)]
    if scores[0] > 0.97:
        return "That is too good. Were the validation labels used?"
    return "" if scores[0] > scores[1] else f"It scores {scores[0]:.3f}, no more than the baseline's {scores[1]:.3f}."


CHECKS = {"9.1": ridge_slope, "9.2": infinite_penalty, "9.3": better}
