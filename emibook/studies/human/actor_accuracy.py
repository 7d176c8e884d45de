"""How well people tell what was to be acted, by what they had of a clip and by who acted: sex, age, race, ethnicity.

The differences are between actors, of whom each group has few, and say nothing of why: who volunteered to act, what
they were asked for, and who rated them are not the same in all groups.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas

from emibook import InputError
from emibook.corpus import RATINGS, crema_d_votes
from emibook.corpus.crema_d_votes import Votes
from emibook.studies.human.label_ceiling import INTERVAL

TOO_FEW, LARGE = 10, 0.05
"""Actors, and a difference of shares that would matter: fixed before anything was computed."""
UNCLEAR = "too few to conclude"
OLD = 40
KINDS: dict[str, Callable[[pandas.DataFrame], pandas.Series]] = {
    "sex": lambda actors: actors["sex"],
    "age": lambda actors: pandas.Series(np.where(actors["age"] < OLD, f"under {OLD}", f"{OLD} and over"), actors.index),
    "race": lambda actors: actors["race"],
    "ethnicity": lambda actors: actors["ethnicity"],
}
"""Each compared with the largest group of its kind."""


def accuracy(found: Votes, actors: pandas.DataFrame, rng: np.random.Generator, draws: int) -> pandas.DataFrame:
    """The share of raters who chose what was to be acted, by what they had and by who acted.

    Columns: ``ratings, kind, group, actors, accuracy, low, high``, then the difference from the largest group of the
    kind with its interval, ``difference, difference_low, difference_high``, and ``verdict``: ``differs`` where the
    interval leaves out 0, ``alike`` where it leaves out every difference of ``LARGE``, else "too few to conclude"; so
    always for fewer than ``TOO_FEW`` actors. Intervals are 95 %, each by itself, over the actors within a group.
    """
    names, index = np.unique(found.actors, return_inverse=True)
    if unknown := sorted(set(names) - set(actors.index)):
        raise InputError(f"actor {unknown[0]} is not in {crema_d_votes.ACTORS}; "
                         "it is of another version than the votes")
    right = found.counts[:, np.arange(len(index)), found.intended] / found.raters  # (ratings, clip)
    by_actor = np.stack([np.bincount(index, share) / np.bincount(index) for share in right])  # (ratings, actor)
    about = actors.loc[names]
    rows = []
    for had, scores in zip(RATINGS, by_actor, strict=True):
        rows.append(_group_row(had, "all", "all", scores, _means(scores, rng, draws), None))
        for kind, divide in KINDS.items():
            group = divide(about).to_numpy(str)
            sizes = pandas.Series(group).value_counts()
            first = None
            for name in sizes.index:
                means = _means(scores[group == name], rng, draws)
                rows.append(_group_row(had, kind, name, scores[group == name], means, first))
                first = first if first is not None else (scores[group == name].mean(), means, len(means))
    return pandas.DataFrame(rows)


def _means(scores: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """(draw,) means of as many actors drawn with replacement."""
    return scores[rng.integers(len(scores), size=(draws, len(scores)))].mean(axis=1)


def _group_row(
    had: str, kind: str, name: str, scores: np.ndarray, means: np.ndarray, first: tuple[float, np.ndarray, int] | None
) -> dict:
    few = len(scores) < TOO_FEW
    low, high = (np.nan, np.nan) if len(scores) < 2 else np.quantile(means, INTERVAL)
    row = {"ratings": had, "kind": kind, "group": name, "actors": len(scores), "accuracy": scores.mean(),
           "low": low, "high": high, "difference": np.nan, "difference_low": np.nan, "difference_high": np.nan}
    if first is None:
        return row | {"verdict": ""}
    least, most = (np.nan, np.nan) if len(scores) < 2 else np.quantile(means - first[1], INTERVAL)
    verdict = UNCLEAR
    if not few and (least > 0 or most < 0):
        verdict = "differs"
    elif not few and -LARGE < least and most < LARGE:
        verdict = "alike"
    return row | {"difference": scores.mean() - first[0], "difference_low": least, "difference_high": most,
                  "verdict": verdict}
