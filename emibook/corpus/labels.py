"""How the puppet corpus comes by its labels: what a clip shows, and what a few raters make of it.

A clip has a latent strength of each emotion, most of it from its seed video, some from the participant and some of
its own. Its ``felt`` share in 0..1 is what the face and the voice then show. Each of a few raters ticks every emotion
with a probability that grows with it, and the label is the fraction k/N of raters who did. That N counts raters is an
inference: nothing published says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PUBLISHED = np.array(
    [
        [1.000, -0.073, -0.121, -0.012, -0.040, 0.037],
        [-0.073, 1.000, -0.106, -0.084, 0.027, 0.067],
        [-0.121, -0.106, 1.000, -0.039, -0.132, -0.143],
        [-0.012, -0.084, -0.039, 1.000, -0.097, -0.088],
        [-0.040, 0.027, -0.132, -0.097, 1.000, 0.229],
        [0.037, 0.067, -0.143, -0.088, 0.229, 1.000],
    ]
)
"""Correlations between the labels of Hume-Vidmimic2, train and valid together, in the order of ``layout.EMOTIONS``.

Source: the data set's published label statistics (6th ABAW, emotional mimicry intensity challenge).
"""

LATENT = np.array(
    [
        [1.00, -0.16, -0.28, -0.03, -0.09, 0.07],
        [-0.16, 1.00, -0.24, -0.19, 0.05, 0.13],
        [-0.28, -0.24, 1.00, -0.08, -0.31, -0.34],
        [-0.03, -0.19, -0.08, 1.00, -0.22, -0.20],
        [-0.09, 0.05, -0.31, -0.22, 1.00, 0.42],
        [0.07, 0.13, -0.34, -0.20, 0.42, 1.00],
    ]
)
"""Correlations of the latent strengths: fitted so that the fractions have those of ``PUBLISHED``."""

THRESHOLD, STEEPNESS, HIGHEST = 0.9, 5.0, 0.75
"""The felt share is a logistic of the latent strength; at its height a rater ticks with probability ``HIGHEST``."""
RATERS = (1, 2, 3, 4, 5, 6)
RATERS_SHARES = (0.02, 0.12, 0.28, 0.28, 0.20, 0.10)
SHARES = {"seed": 0.70, "participant": 0.08, "clip": 0.22}
"""Of the variance of the latent strengths."""


@dataclass(frozen=True)
class Labels:
    """One row a clip."""

    felt: np.ndarray
    """(clip, emotion) 0..1, what the clip shows."""
    raters: np.ndarray
    """(clip,)"""
    values: np.ndarray
    """(clip, emotion) fractions k/N."""


def draw_labels(seed_video: np.ndarray, participant: np.ndarray, rng: np.random.Generator) -> Labels:
    """Labels for clips whose seed video and participant are given as numbers from 0, ``(clip,)`` each."""
    factor = np.linalg.cholesky(LATENT)
    latent = np.zeros((len(seed_video), 6))
    for share, groups in (
        (SHARES["seed"], seed_video),
        (SHARES["participant"], participant),
        (SHARES["clip"], np.arange(len(seed_video))),
    ):
        latent += np.sqrt(share) * (rng.standard_normal((int(groups.max()) + 1, 6)) @ factor.T)[groups]
    felt = 1 / (1 + np.exp(-STEEPNESS * (latent - THRESHOLD)))
    raters = rng.choice(RATERS, len(seed_video), p=RATERS_SHARES)
    ticks = rng.binomial(raters[:, None], HIGHEST * felt)
    return Labels(felt, raters, ticks / raters[:, None])
