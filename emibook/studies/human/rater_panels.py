"""Panels of raters of any size, and what they reach: correlations from votes, with expectations in place of draws.

A group of raters predicts by the fraction that chose an emotion. The fraction f of n raters has a variance of which
f(1-f)/(n-1) is luck (``ceiling.luck``), so exactly m raters drawn for every clip would have the rest of it and
n/(n-1) f(1-f)/m. For m <= n this is the expectation over all ways to leave raters out (hypergeometric); it holds for
more raters too, and for infinitely many, who have no luck left. Covariances do not change. Every number is then a
function of sums over clips, which are added up by actor once; drawing actors with replacement is one product with a
matrix, and all rows share the draws, so differences are paired.
Source: Spearman (1904), American Journal of Psychology 15, 72-101 (attenuation); Bates and Granger (1969), Operational
Research Quarterly 20, 451-468 (weights of two forecasts).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emibook.corpus import RATINGS
from emibook.corpus.crema_d_votes import Votes
from emibook.evaluation import weighted_pearson
from emibook.studies.human.label_ceiling import luck

SHOW_DRAWS = 100
"""Times that raters are really drawn, to be set beside the formula."""
TEN = 10


@dataclass(frozen=True)
class Group:
    """Who predicts: ``faces`` raters who saw and ``voices`` who heard, None for all there are, 0 for none.

    ``share`` is the weight of those who saw; None weighs every rater alike. ``exact``: against a target without luck.
    """

    name: str
    faces: float | None
    voices: float | None
    share: float | None = None
    exact: bool = False


class Sums:
    """Sums over the clips of each actor, (actor, emotion), from which every correlation here is computed.

    ``f``, ``v``, ``b``: fractions of those who saw, heard, had both, less their mean over all clips; ``ff``, ``fv``
    and so on: their products; ``luck_f``: what luck has given of ``ff``, and ``one_f`` what it would give a single
    rater; the same for ``v`` and ``b``.
    """

    def __init__(self, found: Votes) -> None:
        self.actors, index = np.unique(found.actors, return_inverse=True)
        parts = {}
        for letter, fractions, raters in zip("vfb", found.fractions, found.raters, strict=True):
            parts[letter] = fractions - fractions.mean(axis=0)
            parts[f"luck_{letter}"] = luck(fractions, raters)
            parts[f"one_{letter}"] = luck(fractions, raters) * raters[:, None]
        parts |= {one + other: parts[one] * parts[other] for one in "fvb" for other in "fvb"}
        parts["n"] = np.ones_like(parts["f"])
        self._sums = {name: np.zeros((len(self.actors), part.shape[1])) for name, part in parts.items()}
        for name, part in parts.items():
            np.add.at(self._sums[name], index, part)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._sums[name]

    def of(self, letter: str, raters: np.ndarray | float | None) -> np.ndarray:
        """(actor, emotion) the squares of one group's fractions if each were of so many raters; None: as they are."""
        if raters is None:
            return self[letter * 2]
        with np.errstate(divide="ignore"):
            one = np.where(np.equal(raters, 0), 0.0, self[f"one_{letter}"] / np.asarray(raters, float))
        return self[letter * 2] - self[f"luck_{letter}"] + one

    def blend(
        self, share: np.ndarray | float, faces: np.ndarray | float | None, voices: np.ndarray | float | None,
        exact: bool = False,
    ) -> np.ndarray:
        """(moment, actor, emotion) sums of 1, b, p, b^2, p^2, b p for the prediction p = share f + (1 - share) v.

        Every argument may be a number or (actor, emotion).
        """
        rest = 1 - np.asarray(share)
        squares = (share**2 * self.of("f", faces) + rest**2 * self.of("v", voices) + 2 * share * rest * self["fv"])
        truth = self["bb"] - (self["luck_b"] if exact else 0)
        predicted, together = (share * self[one] + rest * self[other] for one, other in (("f", "v"), ("fb", "vb")))
        return np.stack([self["n"], self["b"], predicted, truth, squares, together])


def correlation(sums: np.ndarray) -> np.ndarray:
    """From sums of 1, y, p, y^2, p^2, y p along the first axis."""
    n, y, p, yy, pp, yp = sums
    return (yp - y * p / n) / np.sqrt((yy - y**2 / n) * (pp - p**2 / n))


def share_of(group: Group) -> float:
    """The weight of those who saw."""
    return group.faces / (group.faces + group.voices) if group.share is None else group.share


def best_shares(sums: Sums) -> np.ndarray:
    """(actor, emotion) for each actor the weight of those who saw, of all raters, that is best for the other actors.

    The two weights of a regression, divided by their sum: correlation does not ask for more.
    """
    left = {name: sums[name].sum(axis=0) - sums[name] for name in ("n", "f", "v", "b", "ff", "vv", "fv", "fb", "vb")}

    def covariance(one: str, other: str) -> np.ndarray:
        return left[one + other] / left["n"] - left[one] * left[other] / left["n"] ** 2

    face = covariance("v", "v") * covariance("f", "b") - covariance("f", "v") * covariance("v", "b")
    voice = covariance("f", "f") * covariance("v", "b") - covariance("f", "v") * covariance("f", "b")
    return face / (face + voice)


def best_splits(sums: Sums) -> np.ndarray:
    """(actor, emotion) for each actor how many of ten raters should see the clip, best for the other actors."""
    scores = []
    for faces in range(TEN + 1):
        blend = sums.blend(faces / TEN, faces, TEN - faces)
        scores.append(correlation(blend.sum(axis=1, keepdims=True) - blend))
    return np.argmax(scores, axis=0)


def drawn_raters(
    found: Votes, faces: int, voices: int, rng: np.random.Generator, draws: int = SHOW_DRAWS
) -> np.ndarray:
    """(emotion,) the correlation when so many raters are drawn for each clip, without replacement, weighed alike.

    The mean over ``draws``. A clip with fewer raters than are wanted keeps all it has.
    """
    total = np.zeros((draws, *found.counts.shape[1:]))
    voice, face, both = range(len(RATINGS))
    for had, wanted in ((face, faces), (voice, voices)):
        if wanted:
            raters = found.raters[had][:, None]
            taken = np.minimum(raters, wanted)
            chosen = rng.hypergeometric(found.counts[had], raters - found.counts[had], taken, total.shape)
            total += wanted / (faces + voices) * chosen / taken
    truth = found.fractions[both]
    one = np.ones((1, 1))
    return weighted_pearson(truth, total, one, np.zeros(len(truth), int))[0].mean(axis=0)
