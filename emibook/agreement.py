"""Table 3 from Table 2, tried out: branches with the paper's unimodal correlations, simulated, and their average.

Two ways to have a branch with a given correlation: the best predictor of features that allow no more (``attainable``),
or ridge regression, trained on features that allow more than it reaches (``attained``). Either way the noises of what
is seen and what is heard have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas

from emibook.corpus import reachable, simulated
from emibook.corpus.attainable import best_guess
from emibook.corpus.layout import EMOTIONS
from emibook.corpus.simulated import Simulation
from emibook.drawn import sequences
from emibook.evaluation import bootstrap_interval
from emibook.fusion import late_fusion
from emibook.metrics import pearson
from emibook.recovery import PAPERS_CLIPS, Size, ridge
from emibook.rows import TABLE2, TABLE3, Row
from emibook.variants import BASELINE

AVERAGES = Size("averages", PAPERS_CLIPS, 10, 1.0, 64)
"""Where only time averages are looked at, few steps are enough."""
ROUNDS = 4
LEVELS = {row.features: row.paper for row in TABLE2 if BASELINE not in row.features}
PAIRS = tuple(row for row in TABLE3 if BASELINE not in row.features)


def told(simulation: Simulation, partition: str, features: str) -> np.ndarray:
    """(clip, emotion) what the best predictor says that is told the scores of ``features``; no sequence is drawn.

    A branch like any other, but made at once: what it correlates with the labels is the upper bound of a plan whose
    patterns are ``rhythm`` (``reachable.bounds``).
    """
    sets = simulation.chosen(features)
    drawn = simulated.clips(simulation)
    rows = drawn.table["partition"].to_numpy() == partition
    seen = np.stack([simulated.scores(simulation, each)[rows] for each in sets], axis=1)
    there = np.stack([drawn.table[each.modality].to_numpy()[rows] for each in sets], axis=1)
    error = np.broadcast_to(np.where(there, 0.0, np.inf)[..., None], seen.shape)
    weights, multiple = reachable.guess(simulation.alike, sets, error)
    return best_guess(np.einsum("cse,cs->ce", weights, seen.reshape(len(seen), -1)), multiple)


def papers(crossing: float, clips: tuple[int, int, int] = PAPERS_CLIPS, **options: object) -> Simulation:
    """The plan whose attainable correlations, scores told, are those of Table 2."""
    return reachable.plan(LEVELS, patterns="rhythm", crossing=crossing, clips=clips, **options)


def attainable(crossing: float, clips: int = 60_000, seed: int = 0) -> pandas.DataFrame:
    """Each row of Table 3 from branches that are the best predictors of features with Table 2's correlations.

    Scored on so many clips that chance leaves the third digit alone. See ``_row`` for the columns.
    """
    simulation = papers(crossing, (3, clips, 0), seed=seed)
    truth = _labels(simulation, "valid")
    branches = {name: told(simulation, "valid", name) for name in LEVELS}
    return pandas.DataFrame([{"calibration": "attainable", "crossing": crossing,
                              **_row(row, truth, branches)} for row in PAIRS])  # fmt: skip


def attained(crossing: float, size: Size = AVERAGES, seed: int = 0) -> pandas.DataFrame:
    """Each row of Table 3 from ridge regressions that score Table 2's correlations on the paper's number of clips.

    The plan's levels are raised until what is reached is what Table 2 has, on the very clips that are scored: the
    paper's values are of one set of clips as well. ``low, high`` is the fused value's interval over participants.
    """
    levels, branches = dict(LEVELS), {}
    for _ in range(ROUNDS):
        simulation = size.plan(levels, "mean", seed, crossing)
        for name in LEVELS:
            training, valid = (sequences(simulation, name, partition) for partition in ("train", "valid"))
            branches[name] = ridge(training, valid)[0]
            reached = pearson(valid.targets, branches[name]).mean()
            levels[name] *= LEVELS[name] / reached
        levels["resnet18+aus"] = max(levels["resnet18+aus"], 1.01 * levels["resnet18"], 1.01 * levels["aus"])
    truth = valid.targets.astype(np.float64)
    found = []
    for row in PAIRS:
        fused = late_fusion(*(branches[name] for name in row.branches))
        interval = bootstrap_interval(truth, [fused], valid.participants)
        found.append({"calibration": "attained", "crossing": crossing, **_row(row, truth, branches),
                      "low": interval.low, "high": interval.high})
    return pandas.DataFrame(found)


def _row(row: Row, truth: np.ndarray, branches: dict[str, np.ndarray]) -> dict:
    """``visual, sound, fused`` as simulated, mean over emotions; ``r12``; ``best weights``, fitted for each emotion on
    these clips; ``paper``, the fused value of the paper; ``visual paper, sound paper``."""
    one, two = (branches[name] for name in row.branches)
    both = []
    for emotion in range(truth.shape[1]):
        columns = np.stack([one[:, emotion], two[:, emotion], np.ones(len(one))], axis=1)
        both.append(columns @ np.linalg.lstsq(columns, truth[:, emotion], rcond=None)[0])
    return {
        "features": row.features,
        "visual": pearson(truth, one).mean(),
        "sound": pearson(truth, two).mean(),
        "fused": pearson(truth, late_fusion(one, two)).mean(),
        "r12": pearson(one, two).mean(),
        "best weights": pearson(truth, np.stack(both, axis=1)).mean(),
        "visual paper": LEVELS[row.branches[0]],
        "sound paper": LEVELS[row.branches[1]],
        "paper": row.paper,
    }


def table3(
    crossings: Sequence[float] = (0.0, simulated.CROSSING, 0.12),
    clips: int = 60_000,
    averages: Size = AVERAGES,
    seed: int = 0,
) -> pandas.DataFrame:
    """``attainable`` on so many ``clips``, and ``attained`` at the size ``averages``, at each crossing."""
    found = [attainable(crossing, clips, seed) for crossing in crossings]
    found += [attained(crossing, averages, seed) for crossing in crossings]
    return pandas.concat(found, ignore_index=True)


def _labels(simulation: Simulation, partition: str) -> np.ndarray:
    table = simulated.clips(simulation).table
    return table.loc[table["partition"] == partition, list(EMOTIONS)].to_numpy()
