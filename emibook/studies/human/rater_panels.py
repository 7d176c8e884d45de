"""Panels of raters of any size: their correlation with other raters, from votes, as expectations and without sampling.

A panel predicts by the fraction that chose an emotion. The variance of the fraction f of n raters contains the rater
noise f(1-f)/(n-1) (``label_ceiling.rater_noise``). With exactly m raters for every clip the noise would be
n/(n-1) f(1-f)/m instead. For m <= n this is the expectation over all ways to leave raters out (hypergeometric); it also
holds for more raters, and for infinitely many, who have no noise. Covariances do not change. Every correlation is then
a function of sums over clips, which are added up once per actor. A bootstrap over actors is one product with a matrix
of weights, and all panels share its draws, so differences are paired.
Source: Spearman (1904), American Journal of Psychology 15, 72-101 (attenuation); Bates and Granger (1969), Operational
Research Quarterly 20, 451-468 (weights of two forecasts).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emibook.corpus import RATINGS
from emibook.corpus.crema_d_votes import Votes
from emibook.evaluation import weighted_pearson
from emibook.studies.human.label_ceiling import rater_noise

SAMPLED_DRAWS = 100
"""How often raters are really sampled, to check the formula."""
PANEL = 10
"""Raters of the panel whose composition varies."""


@dataclass(frozen=True)
class Panel:
    """A panel of raters: so many saw the clip without sound, so many heard it without picture.

    ``face_raters``, ``voice_raters``: None for all there are, 0 for none, infinity for noise-free ones. ``weight`` of
    the face raters; None weighs every rater alike. ``noise_free_target``: correlated with a target without rater noise.
    """

    name: str
    face_raters: float | None
    voice_raters: float | None
    weight: float | None = None
    noise_free_target: bool = False

    @property
    def face_weight(self) -> float:
        """The weight of the face raters' fraction."""
        if self.weight is None:
            return self.face_raters / (self.face_raters + self.voice_raters)
        return self.weight

    def moments(self, sums: ActorSums) -> np.ndarray:
        """(moment, actor, emotion) of this panel, see ``ActorSums.moments``."""
        return sums.moments(self.face_weight, self.face_raters, self.voice_raters, self.noise_free_target)


class ActorSums:
    """Sums over the clips of each actor, (actor, emotion), from which every correlation is computed.

    ``f``, ``v``, ``b``: the fractions of those who saw, heard, and both saw and heard, less their mean over all clips;
    ``ff``, ``fv`` and so on: their products; ``noise_f``: the part of ``ff`` that is rater noise, and ``single_f``, the
    noise of a single rater; the same for ``v`` and ``b``; ``n``, the number of clips.
    """

    def __init__(self, votes: Votes) -> None:
        self.actors, index = np.unique(votes.actors, return_inverse=True)
        parts = {}
        for letter, fractions, raters in zip("vfb", votes.fractions, votes.raters, strict=True):
            parts[letter] = fractions - fractions.mean(axis=0)
            parts[f"noise_{letter}"] = rater_noise(fractions, raters)
            parts[f"single_{letter}"] = rater_noise(fractions, raters) * raters[:, None]
        parts |= {one + other: parts[one] * parts[other] for one in "fvb" for other in "fvb"}
        parts["n"] = np.ones_like(parts["f"])
        self._sums = {name: np.zeros((len(self.actors), part.shape[1])) for name, part in parts.items()}
        for name, part in parts.items():
            np.add.at(self._sums[name], index, part)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._sums[name]

    def squares(self, letter: str, raters: np.ndarray | float | None) -> np.ndarray:
        """(actor, emotion) sums of one group's squared fractions if each were of so many raters; None: as they are."""
        if raters is None:
            return self[letter * 2]
        with np.errstate(divide="ignore"):
            noise = np.where(np.equal(raters, 0), 0.0, self[f"single_{letter}"] / np.asarray(raters, float))
        return self[letter * 2] - self[f"noise_{letter}"] + noise

    def moments(
        self,
        face_weight: np.ndarray | float,
        face_raters: np.ndarray | float | None,
        voice_raters: np.ndarray | float | None,
        noise_free_target: bool = False,
    ) -> np.ndarray:
        """(moment, actor, emotion) sums of 1, b, p, b^2, p^2, b p for the prediction p = w f + (1 - w) v.

        The weight w and the numbers of raters may be numbers or (actor, emotion).
        """
        weight, rest = face_weight, 1 - np.asarray(face_weight)
        squares = (weight**2 * self.squares("f", face_raters) + rest**2 * self.squares("v", voice_raters)
                   + 2 * weight * rest * self["fv"])  # fmt: skip
        truth = self["bb"] - (self["noise_b"] if noise_free_target else 0)
        predicted, together = (weight * self[one] + rest * self[other] for one, other in (("f", "v"), ("fb", "vb")))
        return np.stack([self["n"], self["b"], predicted, truth, squares, together])


def correlation(moments: np.ndarray) -> np.ndarray:
    """Pearson's correlation from sums of 1, y, p, y^2, p^2, y p along the first axis."""
    n, y, p, yy, pp, yp = moments
    return (yp - y * p / n) / np.sqrt((yy - y**2 / n) * (pp - p**2 / n))


def best_weights(sums: ActorSums) -> np.ndarray:
    """(actor, emotion) for each actor the weight of the face raters that is best for the other actors.

    The two weights of a regression, divided by their sum: their scale does not change a correlation.
    """
    left = {name: sums[name].sum(axis=0) - sums[name] for name in ("n", "f", "v", "b", "ff", "vv", "fv", "fb", "vb")}

    def covariance(one: str, other: str) -> np.ndarray:
        return left[one + other] / left["n"] - left[one] * left[other] / left["n"] ** 2

    face = covariance("v", "v") * covariance("f", "b") - covariance("f", "v") * covariance("v", "b")
    voice = covariance("f", "f") * covariance("v", "b") - covariance("f", "v") * covariance("f", "b")
    return face / (face + voice)


def best_splits(sums: ActorSums) -> np.ndarray:
    """(actor, emotion) for each actor the number of face raters of a ``PANEL`` that is best for the other actors."""
    scores = []
    for face_raters in range(PANEL + 1):
        moments = sums.moments(face_raters / PANEL, face_raters, PANEL - face_raters)
        scores.append(correlation(moments.sum(axis=1, keepdims=True) - moments))
    return np.argmax(scores, axis=0)


def sampled_panel(
    votes: Votes, face_raters: int, voice_raters: int, rng: np.random.Generator, draws: int = SAMPLED_DRAWS
) -> np.ndarray:
    """(emotion,) the correlation with so many raters sampled for each clip, without replacement, weighed alike.

    Mean over ``draws``. A clip with fewer raters than that keeps all of them.
    """
    total = np.zeros((draws, *votes.counts.shape[1:]))
    voice, face, both = range(len(RATINGS))
    for rating, wanted in ((face, face_raters), (voice, voice_raters)):
        if wanted:
            raters = votes.raters[rating][:, None]
            taken = np.minimum(raters, wanted)
            chosen = rng.hypergeometric(votes.counts[rating], raters - votes.counts[rating], taken, total.shape)
            total += wanted / (face_raters + voice_raters) * chosen / taken
    truth = votes.fractions[both]
    once = np.ones((1, 1))
    return weighted_pearson(truth, total, once, np.zeros(len(truth), int))[0].mean(axis=0)
