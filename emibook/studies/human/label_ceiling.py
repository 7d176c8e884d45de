"""The noise ceiling: how well anything could predict a corpus's labels, from the labels alone.

A label that is the fraction k/n of n raters is what all possible raters would say, plus rater noise: the sampling error
of asking these n. Given the clip, a rater's choice of an emotion is a Bernoulli draw with that clip's own chance p, and
f(1-f) / (n-1) is an unbiased estimate of the noise variance of the fraction f. So the share of a label's variance that
is not noise is the inter-rater reliability

    reliability = 1 - mean[f(1-f) / (n-1)] / var[f],

which is also the correlation of two groups of as many raters. A predictor that knew every p would correlate with the
labels by its square root, the noise ceiling; nothing does better but by chance. No distribution of the p is assumed.
Source: Spearman (1904), American Journal of Psychology 15, 72-101 (correction for attenuation); Spearman (1910) and
Brown (1910), British Journal of Psychology 3, 271-295 and 296-322 (split halves).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas

from emibook import InputError
from emibook.corpus import RATINGS, Corpus, crema_d, crema_d_votes, open_corpus
from emibook.evaluation import clusters

MAX_RATERS = 20
TOLERANCE = 6e-4
"""Labels are written with three digits or more; fractions of at most 20 raters differ by 1/380 or more."""
MAX_EXCLUDED = 0.05
"""The share of clips whose labels may be no fractions of so few raters before nothing is concluded."""
SPLITS = 20
DRAWS = 2000
ON_CREMA_D = {"noise_ceiling": 0.942, "noise_ceiling_min": 0.924, "noise_ceiling_max": 0.943}
"""By ``inference_bias`` of the raters who both saw and heard."""
INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class Ceiling:
    """A corpus's noise ceiling.

    ``table`` has a row per target and the row ``mean``; its columns are ``reliability``, of two groups of as many
    raters, and ``noise_ceiling``, a perfect predictor's correlation with the labels, with its 95 % interval ``low,
    high``. Where the votes are ``known``, ``split_half`` is the reliability by splitting the raters in two instead.
    Where they are not, the numbers of raters are the least that the fractions allow, and ``reliability_max`` and
    ``noise_ceiling_max`` are from the most that are likely; the true values lie between.
    """

    corpus: str
    clips: int
    excluded: int
    """Clips left out, because their labels are no fractions of a few raters."""
    known: bool
    raters: tuple[float, float]
    """Mean number of raters per clip, by the least and by the most."""
    over: str
    """The units of the bootstrap."""
    table: pandas.DataFrame


def ceiling(
    root: Path | str, *, participants: Path | str | None = None, ratings: str | None = None, seed: int = 0
) -> Ceiling:
    """The noise ceiling of the labels under ``root``; media are not needed.

    Args:
        participants: as ``open_corpus`` takes them, as are ``ratings``.

    Raises:
        InputError: no labels, or labels that are no fractions of at most 20 raters.
    """
    corpus = open_corpus(root, participants, ratings=ratings, media=False)
    if crema_d.recognises(Path(root)):
        votes = crema_d_votes.read(root)
        counts = votes.counts[RATINGS.index(ratings or RATINGS[-1])]
        return from_counts(corpus.name, corpus.targets, counts, list(corpus.clips["participant"]), seed=seed)
    return from_fractions(corpus, seed=seed)


def from_counts(
    name: str, targets: Sequence[str], counts: np.ndarray, participants: Sequence[str], *, seed: int = 0
) -> Ceiling:
    """The noise ceiling where each rater makes one choice, from (clip, target) votes.

    Raises:
        InputError: a clip with fewer than two raters.
    """
    raters = counts.sum(axis=1)
    if (raters < 2).any():
        raise InputError(f"{name}: {int((raters < 2).sum())} of {len(raters)} clips have fewer than two raters; one "
                         "rater gives no reliability")
    fractions = counts / raters[:, None]
    groups, over = clusters(participants)
    table = _table(targets, fractions, raters, groups, np.random.default_rng(seed))
    split_half = split_half_reliability(counts, raters, np.random.default_rng(seed))
    table.insert(0, "split_half", [*split_half, split_half.mean()])
    mean = float(raters.mean())
    return Ceiling(name, len(counts), 0, True, (mean, mean), over, table)


def from_fractions(corpus: Corpus, *, seed: int = 0) -> Ceiling:
    """The noise ceiling of labels whose numbers of raters are not known.

    Raises:
        InputError: fewer than three labelled clips, or labels that are no fractions of a few raters.
    """
    labels = corpus.clips[list(corpus.targets)].to_numpy(float)
    labelled = np.isfinite(labels).all(axis=1) & bool(corpus.targets)
    if labelled.sum() < 3:
        raise InputError(f"{corpus.root}: {int(labelled.sum())} clips with labels; a ceiling needs 3 or more")
    least, most = infer_raters(labels[labelled])
    excluded = least == 0
    if excluded.mean() > MAX_EXCLUDED:
        first = corpus.clips.loc[labelled, "clip"].iloc[int(np.argmax(excluded))]
        raise InputError(f"{corpus.root}: the labels of {int(excluded.sum())} of {len(excluded)} clips are no "
                         f"fractions of {MAX_RATERS} raters or fewer (first {first}), so they do not show the raters' "
                         "reliability")
    if least.max() < 2:
        raise InputError(f"{corpus.root}: every label is 0 or 1, as of one rater per clip: that gives no reliability")
    kept = np.flatnonzero(labelled)[~excluded]
    least, most, fractions = least[~excluded], most[~excluded], labels[kept]
    groups, over = clusters(list(corpus.clips["participant"].iloc[kept]))
    table = _table(corpus.targets, fractions, least, groups, np.random.default_rng(seed))
    upper = _table(corpus.targets, fractions, most, groups, np.random.default_rng(seed))
    table["reliability_max"], table["noise_ceiling_max"] = upper["reliability"], upper["noise_ceiling"]
    counts = float(least.mean()), float(most.mean())
    return Ceiling(corpus.name, len(kept), int(excluded.sum()), False, counts, over, table)


def infer_raters(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(clip,) the least number of raters that (clip, target) fractions allow, and the most that is likely.

    The least is the common denominator, 0 where none up to ``MAX_RATERS`` fits. A multiple of it fits as well; the
    most is the largest multiple that is no more than the largest denominator of any clip. 2/10 and 4/10 look like five
    raters, so the least is too small and its noise ceiling too low; the most is often too large.
    """
    numbers = np.arange(1, MAX_RATERS + 1)
    product = fractions[None] * numbers[:, None, None]  # (number, clip, target)
    fits = (np.abs(product - np.round(product)) <= TOLERANCE * numbers[:, None, None]).all(axis=2)
    fits &= ((fractions > -TOLERANCE) & (fractions < 1 + TOLERANCE)).all(axis=1)
    least = np.where(fits.any(axis=0), numbers[fits.argmax(axis=0)], 0)
    largest = least.max(initial=0)
    most = np.where(least > 0, largest // np.maximum(least, 1) * least, 0)
    return least, most


def rater_noise(fractions: np.ndarray, raters: np.ndarray) -> np.ndarray:
    """(clip, target) the unbiased variance that sampling so many raters gives each fraction.

    0 for a single rater, whose fractions are 0 or 1 and contain no estimate of it.
    """
    return fractions * (1 - fractions) / np.maximum(raters - 1, 1)[:, None]


def reliability(fractions: np.ndarray, raters: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(draw, target) inter-rater reliability, for clips weighted in each draw of a bootstrap.

    Args:
        fractions: (clip, target).
        raters: (clip,).
        groups: (clip,) the group of each clip.
        weights: (draw, group) how often each group counts.

    Returns:
        At most 1; NaN for a target that does not vary.
    """
    centred = fractions - fractions.mean(axis=0)
    noise = rater_noise(fractions, raters)
    moments = np.stack([np.ones_like(centred), centred, centred**2, noise])  # (moment, clip, target)
    sums = np.zeros((weights.shape[1], *moments.shape[::2]))
    np.add.at(sums, groups, moments.transpose(1, 0, 2))
    count, first, second, of_noise = np.einsum("dg,gmt->mdt", weights, sums)
    variance = second / count - (first / count) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance > 1e-12, 1 - of_noise / count / variance, np.nan)


def split_half_reliability(counts: np.ndarray, raters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(target,) the correlation of two random halves of every clip's raters, stepped up to whole groups.

    By the Spearman-Brown formula 2r / (1 + r), mean over ``SPLITS`` splits. A half's votes for one emotion are
    hypergeometric.
    """
    half = raters // 2
    first = rng.hypergeometric(counts, raters[:, None] - counts, half[:, None], (SPLITS, *counts.shape))
    one, other = first / half[:, None], (counts - first) / (raters - half)[:, None]
    one, other = (part - part.mean(axis=1, keepdims=True) for part in (one, other))
    together = (one * other).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = together / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))  # (split, target)
    return (2 * rho / (1 + rho)).mean(axis=0)


def _table(
    targets: Sequence[str], fractions: np.ndarray, raters: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> pandas.DataFrame:
    """Reliability and noise ceiling of each target and on average, with percentile intervals over ``groups``."""
    count = int(groups.max()) + 1
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)])
    values = reliability(fractions, raters, groups, weights)  # the first row is the clips as they are
    values = np.concatenate([values, values.mean(axis=1, keepdims=True)], axis=1)
    ceilings = np.sqrt(np.maximum(values[:, :-1], 0))
    ceilings = np.concatenate([ceilings, ceilings.mean(axis=1, keepdims=True)], axis=1)
    low, high = np.nanquantile(ceilings[1:], INTERVAL, axis=0)
    return pandas.DataFrame(
        {"reliability": values[0], "noise_ceiling": ceilings[0], "low": low, "high": high},
        index=pandas.Index([*targets, "mean"], name="target"),
    )


def inference_bias(votes: crema_d_votes.Votes) -> pandas.DataFrame:
    """The error of inferring raters from denominators, where the votes are known: a row for each of ``RATINGS``.

    ``raters``, the true mean number, and by the least and most of ``infer_raters``; ``noise_ceiling`` by each of them.
    """
    rows = {}
    for rating, fractions, raters in zip(RATINGS, votes.fractions, votes.raters, strict=True):
        least, most = infer_raters(fractions)
        once = np.zeros(len(raters), int), np.ones((1, 1))
        counts = {"": raters, "_min": least, "_max": most}
        ceilings = {f"noise_ceiling{name}": float(np.sqrt(reliability(fractions, count, *once).clip(min=0)).mean())
                    for name, count in counts.items()}  # fmt: skip
        rows[rating] = {f"raters{name}": float(count.mean()) for name, count in counts.items()} | ceilings
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("ratings")


def summary(result: Ceiling) -> str:
    """The noise ceiling as lines of text: the table, then what it rests on."""
    least, most = result.raters
    lines = [result.table.to_string(float_format=lambda value: f"{value:.3f}")]
    if result.known:
        lines.append(f"{result.corpus}: {result.clips} clips, {least:.1f} raters per clip, counted from the votes.")
    else:
        lines += [
            f"{result.corpus}: {result.clips} clips; by the denominators of the labels {least:.1f} raters per clip "
            f"at the least and {most:.1f} at the most that is likely.",
            "The true value most likely lies between noise_ceiling and noise_ceiling_max. On CREMA-D, whose votes are "
            f"known, these are {ON_CREMA_D['noise_ceiling_min']:.3f} and {ON_CREMA_D['noise_ceiling_max']:.3f} where "
            f"{ON_CREMA_D['noise_ceiling']:.3f} is right.",
        ]
        if result.excluded:
            lines.append(f"{result.excluded} clips were left out: their labels are no fractions of a few raters.")
    lines.append("noise_ceiling: the correlation with the labels of a predictor that knows what all possible raters "
                 f"would say; low, high: its 95 % interval over {result.over}.")
    return "\n".join(lines)
