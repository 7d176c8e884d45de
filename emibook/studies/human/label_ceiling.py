"""How well anything could predict a corpus's labels, from the labels alone.

A label that is the fraction k/n of n raters is what all possible raters would say, plus the luck of which n were
asked. Given the clip, a rater's choice of one emotion is one throw of a coin with that clip's own chance p, and n/(n-1)
f(1-f) of the fraction f is its variance without bias. So the share of a label's variance that is not luck is

    agreement = 1 - mean[f(1-f) / (n-1)] / var[f],

which is also the correlation of two groups of as many raters; whoever knew every p would correlate with the labels by
its square root, and nobody can do better but by luck. Nothing is assumed of how the p are distributed.
Source: Spearman (1904), American Journal of Psychology 15, 72-101 (correction for attenuation); Spearman (1910) and
Brown (1910), British Journal of Psychology 3, 271-295 and 296-322 (halves and wholes).
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

MOST_RATERS = 20
TOLERANCE = 6e-4
"""Labels are written with three digits or more; fractions of at most 20 raters differ by 1/380 or more."""
STRANGE = 0.05
"""The share of clips whose labels may be no fractions of so few raters before nothing is concluded."""
HALVINGS = 20
DRAWS = 2000
ON_CREMA_D = {"perfect": 0.942, "perfect_least": 0.924, "perfect_most": 0.943}
"""By ``inference_bias`` of those who had both."""
INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class Ceiling:
    """``table``: a row a target and the row ``mean``; the columns ``agreement``, of two groups of as many raters, and
    ``perfect``, what a perfect predictor correlates with the labels, with its 95 % interval ``low``, ``high``.

    Where votes are ``known``, ``halves`` is the agreement by splitting the raters in two instead. Where they are not,
    the numbers of raters are the least that the fractions allow, and ``agreement_most`` and ``perfect_most`` are from
    the most that are likely; the truth lies between. ``raters``: how many a clip has on average, by both counts.
    """

    corpus: str
    clips: int
    strange: int
    """Clips left out, whose labels are no fractions of a few raters."""
    known: bool
    raters: tuple[float, float]
    over: str
    table: pandas.DataFrame


def ceiling(
    root: Path | str, *, participants: Path | str | None = None, ratings: str | None = None, seed: int = 0
) -> Ceiling:
    """The ceiling of the labels under ``root``; media are not needed. ``participants``, ``ratings``: ``open_corpus``.

    Raises ``InputError`` where there are no labels, or labels that are no fractions of at most 20 raters.
    """
    corpus = open_corpus(root, participants, ratings=ratings, media=False)
    if crema_d.recognises(Path(root)):
        found = crema_d_votes.read(root)
        counts = found.counts[RATINGS.index(ratings or RATINGS[-1])]
        return from_counts(corpus.name, corpus.targets, counts, list(corpus.clips["participant"]), seed=seed)
    return from_fractions(corpus, seed=seed)


def from_counts(
    name: str, targets: Sequence[str], counts: np.ndarray, participants: Sequence[str], *, seed: int = 0
) -> Ceiling:
    """The ceiling of one choice a rater, (clip, target) votes. Raises ``InputError`` for a clip with one rater."""
    raters = counts.sum(axis=1)
    if (raters < 2).any():
        raise InputError(f"{name}: {int((raters < 2).sum())} of {len(raters)} clips have fewer than two raters; one "
                         "tells nothing of agreement")
    fractions = counts / raters[:, None]
    groups, over = clusters(participants)
    table = _table(targets, fractions, raters, groups, np.random.default_rng(seed))
    halves = split_halves(counts, raters, np.random.default_rng(seed))
    table.insert(0, "halves", [*halves, halves.mean()])
    mean = float(raters.mean())
    return Ceiling(name, len(counts), 0, True, (mean, mean), over, table)


def from_fractions(corpus: Corpus, *, seed: int = 0) -> Ceiling:
    """The ceiling of labels whose numbers of raters nobody has written down."""
    labels = corpus.clips[list(corpus.targets)].to_numpy(float)
    labelled = np.isfinite(labels).all(axis=1) & bool(corpus.targets)
    if labelled.sum() < 3:
        raise InputError(f"{corpus.root}: {int(labelled.sum())} clips with labels; a ceiling needs 3 or more")
    least, most = infer_raters(labels[labelled])
    strange = least == 0
    if strange.mean() > STRANGE:
        rows = corpus.clips[labelled]
        raise InputError(f"{corpus.root}: the labels of {int(strange.sum())} of {len(strange)} clips are no fractions "
                         f"of {MOST_RATERS} raters or fewer (first {rows['clip'].iloc[int(np.argmax(strange))]}), so "
                         "they do not tell how well raters agree")
    if least.max() < 2:
        raise InputError(f"{corpus.root}: every label is 0 or 1, as of one rater a clip: that tells no agreement")
    kept = np.flatnonzero(labelled)[~strange]
    least, most, fractions = least[~strange], most[~strange], labels[kept]
    groups, over = clusters(list(corpus.clips["participant"].iloc[kept]))
    table = _table(corpus.targets, fractions, least, groups, np.random.default_rng(seed))
    upper = _table(corpus.targets, fractions, most, groups, np.random.default_rng(seed))
    table["agreement_most"], table["perfect_most"] = upper["agreement"], upper["perfect"]
    counts = float(least.mean()), float(most.mean())
    return Ceiling(corpus.name, len(kept), int(strange.sum()), False, counts, over, table)


def infer_raters(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(clip,) the least number of raters that (clip, target) fractions allow, and the most that is likely.

    The least is the common denominator, 0 where none up to ``MOST_RATERS`` fits. A multiple of it fits as well; the
    most is the largest multiple that is no more than the largest denominator of any clip. 2/10 and 4/10 look like five
    raters, so the least is too small and its ceiling too low; the most is often too large.
    """
    numbers = np.arange(1, MOST_RATERS + 1)
    product = fractions[None] * numbers[:, None, None]  # (number, clip, target)
    fits = (np.abs(product - np.round(product)) <= TOLERANCE * numbers[:, None, None]).all(axis=2)
    fits &= ((fractions > -TOLERANCE) & (fractions < 1 + TOLERANCE)).all(axis=1)
    least = np.where(fits.any(axis=0), numbers[fits.argmax(axis=0)], 0)
    largest = least.max(initial=0)
    most = np.where(least > 0, largest // np.maximum(least, 1) * least, 0)
    return least, most


def luck(fractions: np.ndarray, raters: np.ndarray) -> np.ndarray:
    """(clip, target) the variance that the luck of the draw of raters gives each fraction, without bias.

    0 for a single rater, whose fractions are 0 or 1 and tell nothing of it.
    """
    return fractions * (1 - fractions) / np.maximum(raters - 1, 1)[:, None]


def agreement(fractions: np.ndarray, raters: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(draw, target) the agreement in clips whose ``groups`` (clip,) count ``weights`` (draw, group) times."""
    centred = fractions - fractions.mean(axis=0)
    moments = np.stack([np.ones_like(centred), centred, centred**2, luck(fractions, raters)])  # (moment, clip, target)
    sums = np.zeros((weights.shape[1], *moments.shape[::2]))
    np.add.at(sums, groups, moments.transpose(1, 0, 2))
    count, first, second, by_luck = np.einsum("dg,gmt->mdt", weights, sums)
    variance = second / count - (first / count) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance > 1e-12, 1 - by_luck / count / variance, np.nan)


def split_halves(counts: np.ndarray, raters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(target,) the correlation of two random halves of every clip's raters, brought to whole groups.

    By 2r / (1 + r), the mean over ``HALVINGS`` halvings. Which votes a half has of one emotion is hypergeometric.
    """
    half = raters // 2
    first = rng.hypergeometric(counts, raters[:, None] - counts, half[:, None], (HALVINGS, *counts.shape))
    one, other = first / half[:, None], (counts - first) / (raters - half)[:, None]
    one, other = (part - part.mean(axis=1, keepdims=True) for part in (one, other))
    together = (one * other).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = together / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))  # (halving, target)
    return (2 * rho / (1 + rho)).mean(axis=0)


def _table(
    targets: Sequence[str], fractions: np.ndarray, raters: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> pandas.DataFrame:
    """Agreement and perfect predictor of each target and on average, with intervals over ``groups``."""
    count = int(groups.max()) + 1
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)])
    found = agreement(fractions, raters, groups, weights)  # the first row is the clips as they are
    found = np.concatenate([found, found.mean(axis=1, keepdims=True)], axis=1)
    perfect = np.sqrt(np.maximum(found[:, :-1], 0))
    perfect = np.concatenate([perfect, perfect.mean(axis=1, keepdims=True)], axis=1)
    low, high = np.nanquantile(perfect[1:], INTERVAL, axis=0)
    return pandas.DataFrame(
        {"agreement": found[0], "perfect": perfect[0], "low": low, "high": high},
        index=pandas.Index([*targets, "mean"], name="target"),
    )


def inference_bias(found: crema_d_votes.Votes) -> pandas.DataFrame:
    """What counting denominators gets wrong, where the votes are known: a row for each of ``RATINGS``.

    ``raters`` as they are, and by the least and the most of ``infer_raters``; then the mean ``perfect`` by each.
    """
    rows = {}
    for had, fractions, raters in zip(RATINGS, found.fractions, found.raters, strict=True):
        least, most = infer_raters(fractions)
        one = np.zeros(len(raters), int), np.ones((1, 1))
        counted = {"": raters, "_least": least, "_most": most}
        perfect = {f"perfect{name}": float(np.sqrt(agreement(fractions, each, *one).clip(min=0)).mean())
                   for name, each in counted.items()}
        rows[had] = {f"raters{name}": float(each.mean()) for name, each in counted.items()} | perfect
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("ratings")


def in_words(found: Ceiling) -> str:
    """The ceiling as lines of text: the table, then what it rests on."""
    least, most = found.raters
    lines = [found.table.to_string(float_format=lambda value: f"{value:.3f}")]
    if found.known:
        lines.append(f"{found.corpus}: {found.clips} clips, {least:.1f} raters a clip, as the votes say.")
    else:
        lines += [
            f"{found.corpus}: {found.clips} clips; by the denominators of the labels {least:.1f} raters a clip "
            f"at the least and {most:.1f} at the most that is likely.",
            "The truth most likely lies between perfect and perfect_most. On CREMA-D, whose votes are known, these are "
            f"{ON_CREMA_D['perfect_least']:.3f} and {ON_CREMA_D['perfect_most']:.3f} where {ON_CREMA_D['perfect']:.3f} "
            "is right.",
        ]
        if found.strange:
            lines.append(f"{found.strange} clips were left out: their labels are no fractions of a few raters.")
    lines.append("perfect: what a predictor that knows what all possible raters would say correlates with the labels; "
                 f"low, high: its 95 % interval over {found.over}.")
    return "\n".join(lines)
