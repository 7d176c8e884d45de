"""Chapter 11: a softmax by hand, heads that divide a width, and reversed clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from emibook.book.exercises import hints
from emibook.sequences.packed import Feed
from emibook.training.loop import predict


def softmax(answer: Any) -> str:
    """11.1: the second attention weight of the scores 0 and log 3."""
    if not hints.number(answer, 0.25, 1e-3):
        return "That is the first weight."
    return hints.number(answer, 0.75, 1e-3, "the weight")


def heads(answer: Any) -> str:
    """11.2: the numbers of heads up to ten that divide 546."""
    return hints.members(answer, [n for n in range(1, 11) if 546 % n == 0], "of them")


@torch.no_grad()
def reversed_clips(answer: Any, model: Any, valid: Any) -> str:
    """11.3: each emotion's correlation between the predictions for clips and for the reversed clips."""
    forwards = predict(model, valid)
    reversed_ = forwards.copy()
    feed = Feed(valid, "cpu")
    for row in np.flatnonzero(valid.present):
        reversed_[row] = model(*(part.flip(1) for part in feed.batch(np.array([row]))))[0]
    truth = [np.corrcoef(*pair)[0, 1] for pair in zip(forwards.T, reversed_.T, strict=True)]
    wrong = hints.numbers(answer, truth, 0.01, list(valid.target_names), "correlation")
    return wrong and wrong + " Reverse each clip by itself: in a batch its padding would come first."


CHECKS = {"11.1": softmax, "11.2": heads, "11.3": reversed_clips}
