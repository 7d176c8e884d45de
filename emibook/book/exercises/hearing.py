"""Chapter 8: half the amplitude in decibels, what a gain does to the first coefficient, and frames of wav2vec 2.0."""

from __future__ import annotations

from typing import Any

import numpy as np

from emibook.book.exercises import hints

BANDS = 40


def half(answer: Any) -> str:
    """8.1: the level of half the amplitude, in decibels."""
    if not hints.number(answer, 10 * np.log10(0.5), 0.02):
        return "That is half the power. Amplitudes count twice in decibels, because power is their square."
    return hints.number(answer, 20 * np.log10(0.5), 0.02, "the level")


def shift(answer: Any) -> str:
    """8.2: by how much a quarter of the amplitude moves the first coefficient, with 40 bands."""
    level = 20 * np.log10(0.25)
    if not hints.number(answer, level, 0.05):
        return "Each band moves by that much. The first coefficient is their sum, divided by the root of their number."
    if not hints.number(answer, level * BANDS, 0.5):
        return "That is the sum over the bands; it is divided by the root of their number."
    return hints.number(answer, level * np.sqrt(BANDS), 0.1, "the shift")


def rows(answer: Any) -> str:
    """8.3: how many rows wav2vec 2.0 makes of three seconds."""
    if not hints.number(answer, 150, 0.1):
        return "The last row needs 400 samples too."
    return hints.number(answer, 149, 0.1, "the number of rows")


CHECKS = {"8.1": half, "8.2": shift, "8.3": rows}
