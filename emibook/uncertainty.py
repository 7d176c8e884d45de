"""How far a table's value may be off, measured where the truth can be drawn again: on simulated labels and scores.

    other people, other seed videos -> the same predictors -> how much the mean correlation varies
    one training, seen epoch by epoch -> the epoch chosen on some people -> what it scores on others
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas

from emibook.corpus import reachable, simulated
from emibook.corpus.attainable import best_guess
from emibook.corpus.layout import EMOTIONS
from emibook.corpus.simulated import Simulation
from emibook.evaluation import resampled
from emibook.fusion import late_fusion
from emibook.metrics import mean_pearson, pearson

DRAWS = 400


def told(simulation: Simulation, partition: str, features: str) -> np.ndarray:
    """(clip, emotion) what the best predictor says that is told the scores of ``features``; no sequence is drawn."""
    sets = simulation.chosen(features)
    rows = simulated.clips(simulation).table["partition"].to_numpy() == partition
    seen = np.stack([simulated.scores(simulation, each)[rows] for each in sets], axis=1)
    there = np.stack([simulated.clips(simulation).table[each.modality].to_numpy()[rows] for each in sets], axis=1)
    error = np.broadcast_to(np.where(there, 0.0, np.inf)[..., None], seen.shape)
    weights, multiple = reachable.guess(simulation.alike, sets, error)
    return best_guess(np.einsum("cse,cs->ce", weights, seen.reshape(len(seen), -1)), multiple)


def drawn_again(simulation: Simulation, rows: Sequence[Sequence[str]], repeats: int) -> np.ndarray:
    """(repeat, row) mean correlations on validation clips of people, seed videos and raters drawn anew each time.

    A row is one feature set, or several whose predictions are averaged.
    """
    found = np.empty((repeats, len(rows)))
    for repeat in range(repeats):
        anew = replace(simulation, seed=10_000 + repeat)
        truth = _labels(anew, "valid")
        branches = {name: told(anew, "valid", name) for name in dict.fromkeys(sum(map(tuple, rows), ()))}
        found[repeat] = [mean_pearson(truth, late_fusion(*(branches[name] for name in row))) for row in rows]
    return found


def widths(simulation: Simulation, rows: Sequence[Sequence[str]], repeats: int, samples: int = 10) -> pandas.DataFrame:
    """How wide 95 % of a mean correlation is: as it truly varies, and by two bootstraps of one sample.

    Index: the row's name. ``mean``; ``anew``, the width that holds 95 % of ``repeats`` draws of other people and seed
    videos; ``clips`` and ``participants``, the mean width of bootstraps over either, in ``samples`` of these draws.
    """
    scores = drawn_again(simulation, rows, repeats)
    found = {"clips": np.zeros((samples, len(rows))), "participants": np.zeros((samples, len(rows)))}
    for sample in range(samples):
        anew = replace(simulation, seed=10_000 + sample)
        truth = _labels(anew, "valid")
        table = simulated.clips(anew).table
        people = pandas.factorize(table.loc[table["partition"] == "valid", "participant"])[0]
        for number, row in enumerate(rows):
            predicted = late_fusion(*(told(anew, "valid", name) for name in row))[None]
            for over, groups in (("clips", np.arange(len(truth))), ("participants", people)):
                drawn = resampled(truth, predicted, groups, DRAWS, np.random.default_rng(sample))
                found[over][sample, number] = 2 * 1.96 * np.nanstd(drawn)
    return pandas.DataFrame(
        {"mean": scores.mean(axis=0), "anew": 2 * 1.96 * scores.std(axis=0, ddof=1),
         **{over: width.mean(axis=0) for over, width in found.items()}},
        index=pandas.Index([" & ".join(row) for row in rows], name="features"),
    )  # fmt: skip


def differences(
    simulation: Simulation, rows: Sequence[Sequence[str]], values: Mapping[str, float], repeats: int
) -> pandas.DataFrame:
    """Each row beside the one before: the difference of ``values``, and what chance alone does to such a difference.

    ``anew`` is half the width that holds 95 % of the difference over people and seed videos drawn anew, both rows
    scored on the same ones; ``larger``, whether the reported difference exceeds it.
    """
    scores = drawn_again(simulation, rows, repeats)
    found = []
    for number in range(1, len(rows)):
        name, other = (" & ".join(rows[place]) for place in (number, number - 1))
        chance = 1.96 * (scores[:, number] - scores[:, number - 1]).std(ddof=1)
        reported = values[name] - values[other]
        found.append({"features": name, "beside": other, "difference": reported, "anew": chance,
                      "larger": abs(reported) > chance})
    return pandas.DataFrame(found)


def optimism(
    truth: np.ndarray, by_epoch: np.ndarray, participants: Sequence[str], people: Sequence[int], draws: int = DRAWS
) -> pandas.DataFrame:
    """What choosing the epoch on the clips that are then reported adds to a score.

    ``by_epoch`` (epoch, clip, emotion) are one training's predictions. In each draw so many ``people`` are taken to
    choose the epoch on, and as many others to score it on. Both sides are drawn alike, so without a choice they score
    the same on average: what the first score more is the choice's doing.

    Index ``people``; ``clips`` a side, ``reported``, ``fresh``, ``optimism`` and its standard error over draws.
    """
    groups = pandas.factorize(np.asarray(participants))[0]
    found = []
    for count in people:
        rng = np.random.default_rng(count)
        pairs = []
        while len(pairs) < draws:
            order = rng.permutation(groups.max() + 1)
            sides = [np.isin(groups, order[:count]), np.isin(groups, order[count : 2 * count])]
            scores = [_by_epoch(truth[side], by_epoch[:, side]) for side in sides]
            if all(np.isfinite(each).all() for each in scores):
                # Either side may choose: the two together cancel what is luck of the draw.
                pairs.append([(scores[one].max(), scores[1 - one][scores[one].argmax()]) for one in (0, 1)])
        reported, fresh = np.array(pairs).mean(axis=1).T
        found.append({"people": count, "clips": float(len(truth) * count / (groups.max() + 1)),
                      "reported": reported.mean(), "fresh": fresh.mean(), "optimism": (reported - fresh).mean(),
                      "error": (reported - fresh).std(ddof=1) / np.sqrt(draws)})
    return pandas.DataFrame(found).set_index("people")


def _by_epoch(truth: np.ndarray, by_epoch: np.ndarray) -> np.ndarray:
    """(epoch,) mean correlations; NaN where an emotion is absent."""
    if (truth.min(axis=0) == truth.max(axis=0)).any():
        return np.full(len(by_epoch), np.nan)
    return np.array([pearson(truth, predicted, names=EMOTIONS).mean() for predicted in by_epoch])


def _labels(simulation: Simulation, partition: str) -> np.ndarray:
    table = simulated.clips(simulation).table
    return table.loc[table["partition"] == partition, list(EMOTIONS)].to_numpy()
