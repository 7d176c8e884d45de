"""How the puppet corpus comes by its labels: what a clip shows, and what a few raters make of it.

A clip has a latent strength of each emotion, most of it from its seed video, some from the participant and some of
its own. Its ``felt`` share in 0..1 is what the face and the voice then show. Each of a few raters ticks every emotion
with a probability that grows with it, and the label is the fraction k/N of raters who did. That N counts raters is an
inference: nothing published says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
SHARES = {"seed_video": 0.62, "participant": 0.14, "clip": 0.24}
"""Of the variance of the latent strengths."""


@dataclass(frozen=True)
class Labels:
    """One row a clip."""

    latent: np.ndarray
    """(clip, emotion) strengths, each of variance 1."""
    felt: np.ndarray
    """(clip, emotion) 0..1, what the clip shows."""
    raters: np.ndarray
    """(clip,)"""
    values: np.ndarray
    """(clip, emotion) fractions k/N."""


def draw_labels(
    seed_video: np.ndarray, participant: np.ndarray, rng: np.random.Generator, shares: Mapping[str, float] = SHARES
) -> Labels:
    """Labels for clips whose seed video and participant are given as numbers from 0, ``(clip,)`` each."""
    factor = np.linalg.cholesky(LATENT)
    latent = np.zeros((len(seed_video), 6))
    for share, groups in (
        (shares["seed_video"], seed_video),
        (shares["participant"], participant),
        (shares["clip"], np.arange(len(seed_video))),
    ):
        latent += np.sqrt(share) * (rng.standard_normal((int(groups.max()) + 1, 6)) @ factor.T)[groups]
    felt = 1 / (1 + np.exp(-STEEPNESS * (latent - THRESHOLD)))
    raters = rng.choice(RATERS, len(seed_video), p=RATERS_SHARES)
    ticks = rng.binomial(raters[:, None], HIGHEST * felt)
    return Labels(latent, felt, raters, ticks / raters[:, None])


def beside_published(emotions: Sequence[str], clips: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """Statistics of that many drawn labels beside those of Hume-Vidmimic2: no corpus, labels only.

    One row a pair of emotions, then ``share of zeros``: index ``statistic``, columns ``published`` and ``drawn``.
    What the labels are is told by ``emotions`` in the order of ``PUBLISHED``. The share of zeros is not published
    ("mostly zero"), so NaN stands there. Participants and seed videos recur as often as in the real set: about 25
    clips each.
    """
    rng = np.random.default_rng(seed)
    groups = max(1, clips // 25)
    values = draw_labels(rng.integers(0, groups, clips), rng.integers(0, groups, clips), rng).values
    drawn = np.corrcoef(values.T)
    rows = {
        f"correlation {emotions[one]}, {emotions[two]}": (PUBLISHED[one, two], drawn[one, two])
        for one, two in zip(*np.triu_indices(len(emotions), 1), strict=True)
    }
    rows["share of zeros"] = (np.nan, np.mean(values == 0))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["published", "drawn"]).rename_axis("statistic")


def variance_shares(values: np.ndarray, seed_video: np.ndarray, participant: np.ndarray) -> dict[str, float]:
    """Of the variance of ``values`` ``(clip, emotion)``, what goes with each factor; the mean over emotions.

    ``seed_video`` and ``participant`` are ``(clip,)``, any labels. A factor's share is the mean product of the
    standardised values over all pairs of clips that have it in common and the other not; what is left is ``clip``.
    The shares of a small corpus scatter, and may be slightly negative.

    Raises ``ValueError`` where no two clips share a factor, for then nothing can be said of it.
    """
    values = np.asarray(values, float)
    deviation = values.std(0)
    if not (deviation > 0).all():
        raise ValueError("an emotion is the same in every clip: it has no variance to share out")
    standard = (values - values.mean(0)) / deviation
    groups = {"seed_video": np.asarray(seed_video), "participant": np.asarray(participant)}
    both = pd.MultiIndex.from_arrays(list(groups.values()))
    shares = {}
    for name, group in groups.items():
        sums, pairs = 0.0, 0
        # Pairs within the factor, less those that have the other in common too.
        for keys, sign in ((group, 1), (both, -1)):
            codes, _ = pd.factorize(keys)
            total = np.zeros((codes.max() + 1, values.shape[1]))
            np.add.at(total, codes, standard)
            counts = np.bincount(codes)
            sums += sign * ((total**2).sum(0) - (standard**2).sum(0))
            pairs += sign * int((counts * (counts - 1)).sum())
        if not pairs:
            raise ValueError(f"no two clips have a {name} in common")
        shares[name] = float(np.mean(sums / pairs))
    return {**shares, "clip": 1 - sum(shares.values())}
