"""Chapter 10: equation (2) to the letter, layers and receptive fields, and a network that is not causal."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from emibook.book.exercises import hints


def letter(answer: Any) -> str:
    """10.1: how many steps back the receptive field of five layers of one tap, dilations 1 2 4 8 16, goes."""
    if not hints.number(answer, 62, 0.5):
        return "That holds for three taps. To the letter, a layer reads one step only, d before the present."
    return hints.number(answer, 31, 0.5, "the number of steps")


def layers(answer: Any) -> str:
    """10.2: how many layers of kernel 3 with doubling dilations have a receptive field of 300 steps."""
    return hints.number(answer, 8, 0.1, "the number of layers")


def dense(answer: Any) -> str:
    """10.3: how many layers of kernel 3 without dilation have a receptive field of 63 steps."""
    if not hints.number(answer, 63 / 3, 0.1):
        return "Layers overlap: one on top of another adds fewer steps than its kernel has."
    return hints.number(answer, 31, 0.1, "the number of layers")


@torch.no_grad()
def both_ways(answer: Any) -> str:
    """10.4: a function from (batch, time, 1) to (batch, time, channels) whose steps depend on past and future."""
    if not callable(answer):
        return f"A function was asked for, something of the type {type(answer).__name__} was given."
    plain = torch.rand(1, 41, 1, generator=torch.Generator().manual_seed(0))
    changed = plain.clone()
    changed[0, 20] += 1
    before, again, after = (hints.called(answer, clip.clone()) for clip in (plain, plain, changed))
    if not isinstance(before, np.ndarray):
        return f"A tensor (batch, time, channels) was asked for; it returns a {type(before).__name__}."
    if before.shape[:2] != plain.shape[:2] or before.ndim != 3:
        return f"Of (batch, time, feature) {tuple(plain.shape)} it returns {before.shape}; time has to stay."
    if not np.array_equal(before, again):
        return "For one and the same clip it returns something else each time."
    moved = (before != after).any(axis=2)[0]
    if not moved[:20].any():
        return "A changed step changes nothing before it: the output does not depend on the future yet."
    if not moved[21:].any():
        return "A changed step changes nothing after it: the output no longer depends on the past."
    return ""


CHECKS = {"10.1": letter, "10.2": layers, "10.3": dense, "10.4": both_ways}
