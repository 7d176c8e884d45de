"""How well raters recognise the intended emotion, by the modality that they had and by the actor's group.

The groups are sex, age, race and ethnicity. The differences are between actors, of whom each group has few, and do not
show a cause: who volunteered to act, what they were asked for, and who rated them differ between the groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas

from emibook import InputError
from emibook.corpus import RATINGS, crema_d_votes
from emibook.corpus.crema_d_votes import Votes
from emibook.studies.human.label_ceiling import INTERVAL

TOO_FEW, LARGE = 10, 0.05
"""Actors, and a difference of accuracy that would matter: both fixed before anything was computed."""
UNCLEAR = "too few to conclude"
OLD = 40
KINDS: dict[str, Callable[[pandas.DataFrame], pandas.Series]] = {
    "sex": lambda actors: actors["sex"],
    "age": lambda actors: pandas.Series(np.where(actors["age"] < OLD, f"under {OLD}", f"{OLD} and over"), actors.index),
    "race": lambda actors: actors["race"],
    "ethnicity": lambda actors: actors["ethnicity"],
}
"""Each group is compared with the largest one of its kind."""


def accuracy(votes: Votes, actors: pandas.DataFrame, rng: np.random.Generator, draws: int) -> pandas.DataFrame:
    """The share of raters who chose the intended emotion, by modality and by the actors' group.

    Args:
        actors: by id, as ``crema_d_votes.read_actors`` gives them.
        draws: of the bootstrap over actors.

    Returns:
        Columns ``ratings, kind, group, actors, accuracy, low, high``, then the difference from the largest group of the
        kind with its interval, ``difference, difference_low, difference_high``, and ``verdict``: ``differs`` where the
        interval excludes 0, ``alike`` where it excludes every difference of ``LARGE``, else "too few to conclude"; that
        is also the verdict for fewer than ``TOO_FEW`` actors. Intervals are 95 % percentile intervals over the actors
        within a group, not corrected for multiple comparisons.

    Raises:
        InputError: an actor who is not in the table.
    """
    names, index = np.unique(votes.actors, return_inverse=True)
    if unknown := sorted(set(names) - set(actors.index)):
        raise InputError(f"actor {unknown[0]} is not in {crema_d_votes.ACTORS}; "
                         "it is of another version than the votes")
    right = votes.counts[:, np.arange(len(index)), votes.intended] / votes.raters  # (ratings, clip)
    by_actor = np.stack([np.bincount(index, share) / np.bincount(index) for share in right])  # (ratings, actor)
    table = actors.loc[names]
    rows = []
    for rating, scores in zip(RATINGS, by_actor, strict=True):
        everybody = Group(rating, "all", "all", scores, _means(scores, rng, draws))
        rows.append(everybody.row(None))
        for kind, divide in KINDS.items():
            groups = divide(table).to_numpy(str)
            reference = None
            for name in pandas.Series(groups).value_counts().index:
                means = _means(scores[groups == name], rng, draws)
                group = Group(rating, kind, name, scores[groups == name], means)
                rows.append(group.row(reference))
                reference = reference or group
    return pandas.DataFrame(rows)


def _means(scores: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """(draw,) means of as many actors drawn with replacement."""
    return scores[rng.integers(len(scores), size=(draws, len(scores)))].mean(axis=1)


@dataclass(frozen=True, eq=False)
class Group:
    """The actors of one group: ``scores`` (actor,) and ``means`` (draw,), the bootstrap of their mean."""

    rating: str
    kind: str
    name: str
    scores: np.ndarray
    means: np.ndarray

    def row(self, reference: Group | None) -> dict:
        """The group's row, compared with ``reference``."""
        single = len(self.scores) < 2
        low, high = (np.nan, np.nan) if single else np.quantile(self.means, INTERVAL)
        row = {"ratings": self.rating, "kind": self.kind, "group": self.name, "actors": len(self.scores),
               "accuracy": self.scores.mean(), "low": low, "high": high,
               "difference": np.nan, "difference_low": np.nan, "difference_high": np.nan}  # fmt: skip
        if reference is None:
            return row | {"verdict": ""}
        least, most = (np.nan, np.nan) if single else np.quantile(self.means - reference.means, INTERVAL)
        verdict = UNCLEAR
        if len(self.scores) >= TOO_FEW and (least > 0 or most < 0):
            verdict = "differs"
        elif len(self.scores) >= TOO_FEW and -LARGE < least and most < LARGE:
            verdict = "alike"
        difference = self.scores.mean() - reference.scores.mean()
        return row | {"difference": difference, "difference_low": least, "difference_high": most, "verdict": verdict}
