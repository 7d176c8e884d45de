"""Chapter 12: a loss by hand, when the learning rate is halved, and the loss of the training mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from emibook.book.exercises import hints


def loss(answer: Any) -> str:
    """12.1: the mean squared error of one clip, as the exercise gives it."""
    if not hints.number(answer, 0.16, 1e-4):
        return "That is the sum of the squares."
    if not hints.number(answer, np.sqrt(0.16 / 6), 1e-4):
        return "That is its root."
    return hints.number(answer, 0.16 / 6, 1e-4, "the loss")


def halvings(answer: Any, scores: Any, patience: Any) -> str:
    """12.2: the epochs, counted from 1, after which the learning rate is halved."""
    best, waited, truth = -np.inf, 0, []
    for epoch, score in enumerate(scores, 1):
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == patience:
            truth.append(epoch)
            waited = 0
    if sorted(answer) == [epoch - 1 for epoch in truth]:
        return "Count epochs from one."
    return hints.members(answer, truth, "epochs")


def training_mean(answer: Any, train: Any, valid: Any) -> str:
    """12.3: the mean squared error of the training mean on the validation clips."""
    mean = train.targets[train.present].mean(axis=0)
    if not hints.number(answer, float(np.square(valid.targets).mean()), 1e-4):
        return "That is the loss of predicting zero for every label, which is not the training mean."
    return hints.number(answer, float(np.square(valid.targets - mean).mean()), 2e-4, "the loss")


CHECKS = {"12.1": loss, "12.2": halvings, "12.3": training_mean}
