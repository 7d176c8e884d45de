"""Labels of the puppet corpus: latent emotions of a clip, and the votes of a few raters.

A clip has a latent strength of each emotion, most of it from its seed video, some from the participant and some of
its own. The ``felt`` intensity 0..1 is its logistic; face and voice show it. Each of a few raters selects every emotion
with a probability proportional to it, and the label is the fraction k/N of raters who did. That N counts raters is
inferred: no publication says so.
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
"""Correlations between the labels of Hume-Vidmimic2, train and valid together, in the order of ``EMOTIONS``.

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
"""Correlations of the latent strengths, fitted so that the labels have those of ``PUBLISHED``."""

THRESHOLD, STEEPNESS, MAX_VOTE_PROBABILITY = 0.9, 5.0, 0.75
"""The felt intensity is a logistic of the latent strength with this threshold and slope; a rater selects an emotion
with the felt intensity times ``MAX_VOTE_PROBABILITY``."""
RATERS = (1, 2, 3, 4, 5, 6)
"""Possible numbers of raters per clip, and their probabilities."""
RATERS_PROBABILITIES = (0.02, 0.12, 0.28, 0.28, 0.20, 0.10)
VARIANCE_SHARES = {"seed_video": 0.62, "participant": 0.14, "clip": 0.24}
"""Shares of the variance of the latent strengths."""


@dataclass(frozen=True)
class Labels:
    """Sampled labels, one row per clip."""

    latent: np.ndarray
    """(clip, emotion) strengths, each of variance 1."""
    felt: np.ndarray
    """(clip, emotion) intensity 0..1 that the clip shows."""
    raters: np.ndarray
    """(clip,) number of raters."""
    values: np.ndarray
    """(clip, emotion) fractions k/N."""


def sample_labels(
    seed_video: np.ndarray,
    participant: np.ndarray,
    rng: np.random.Generator,
    shares: Mapping[str, float] = VARIANCE_SHARES,
) -> Labels:
    """Sample labels.

    Args:
        seed_video: (clip,) integers from 0.
        participant: (clip,) integers from 0.
        rng: source of the random numbers.
        shares: of the variance of the latent strengths, as ``VARIANCE_SHARES``.
    """
    factor = np.linalg.cholesky(LATENT)
    latent = np.zeros((len(seed_video), 6))
    for share, groups in (
        (shares["seed_video"], seed_video),
        (shares["participant"], participant),
        (shares["clip"], np.arange(len(seed_video))),
    ):
        latent += np.sqrt(share) * (rng.standard_normal((int(groups.max()) + 1, 6)) @ factor.T)[groups]
    felt = 1 / (1 + np.exp(-STEEPNESS * (latent - THRESHOLD)))
    raters = rng.choice(RATERS, len(seed_video), p=RATERS_PROBABILITIES)
    votes = rng.binomial(raters[:, None], MAX_VOTE_PROBABILITY * felt)
    return Labels(latent, felt, raters, votes / raters[:, None])


def compare_with_published(emotions: Sequence[str], clips: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """Statistics of sampled labels beside those of Hume-Vidmimic2.

    Participants and seed videos have about 25 clips each, as in the data set.

    Args:
        emotions: names in the order of ``PUBLISHED``.
        clips: how many to sample.
        seed: of the random numbers.

    Returns:
        Index ``statistic`` (the correlation of each pair of emotions, then ``share of zeros``), columns ``published``
        and ``sampled``. The share of zeros is not published ("mostly zero") and is NaN there.
    """
    rng = np.random.default_rng(seed)
    groups = max(1, clips // 25)
    values = sample_labels(rng.integers(0, groups, clips), rng.integers(0, groups, clips), rng).values
    sampled = np.corrcoef(values.T)
    rows = {
        f"correlation {emotions[one]}, {emotions[two]}": (PUBLISHED[one, two], sampled[one, two])
        for one, two in zip(*np.triu_indices(len(emotions), 1), strict=True)
    }
    rows["share of zeros"] = (np.nan, np.mean(values == 0))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["published", "sampled"]).rename_axis("statistic")


def variance_shares(values: np.ndarray, seed_video: np.ndarray, participant: np.ndarray) -> dict[str, float]:
    """Shares of the variance of ``values`` by factor, averaged over emotions.

    A factor's share is the mean product of the standardised values over all pairs of clips that have it in common but
    not the other factor; the remainder is ``clip``. In a small corpus the estimates vary, and may be slightly negative.

    Args:
        values: (clip, emotion).
        seed_video: (clip,) ids of any type.
        participant: (clip,) ids of any type.

    Returns:
        ``seed_video``, ``participant`` and ``clip``, with the sum 1.

    Raises:
        ValueError: an emotion has no variance, or no two clips have a factor in common.
    """
    values = np.asarray(values, float)
    deviation = values.std(0)
    if not (deviation > 0).all():
        raise ValueError("an emotion is the same in every clip: it has no variance")
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
