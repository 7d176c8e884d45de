"""Table 3 from Table 2, tried out: branches with the paper's unimodal correlations, simulated, and their average.

Three ways to have a branch with a given correlation: the best predictor of features that allow no more
(``attainable``), or, of features that allow more than it reaches, ridge regression (``attained``) or the paper's
branches (``trained``). In each the noises of what is seen and what is heard have nothing to do with each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas

from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.device import on_device
from emibook.evaluation import bootstrap_interval
from emibook.experiments.paper_rows import TABLE2, TABLE3, Row
from emibook.experiments.variants import BASE, BASELINE
from emibook.fusion import late_fusion
from emibook.metrics import pearson
from emibook.sequences.packed import Sequences
from emibook.studies.recipe_recovery import PAPER_SEQUENCE, PAPERS_CLIPS, TEN_TIMES, Size, ridge
from emibook.studies.simulation import best_predictor
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.attainable import best_guess
from emibook.studies.simulation.corpus import sequences
from emibook.studies.simulation.features import Simulation
from emibook.training.loop import Partitions, Recipe, TrainingConfig, load_model, predict, train

AVERAGES = Size("averages", PAPERS_CLIPS, 10, 1.0, 64)
"""Where only time averages are looked at, few steps are enough."""
ROUNDS, TRAINED_ROUNDS = 4, 2
RECIPE = replace(PAPER_SEQUENCE, **TEN_TIMES.recipe)
"""Of branches that are trained: the paper's, ten times as fast, which is enough where signals lie in the mean."""
Fit = Callable[[Simulation, str, Sequences, Sequences], np.ndarray]
"""The plan, the branch's features, the training and the validation clips -> what it says of the latter."""
LEVELS = {row.features: row.paper for row in TABLE2 if BASELINE not in row.features}
PAIRS = tuple(row for row in TABLE3 if BASELINE not in row.features)


def told(simulation: Simulation, partition: str, features: str) -> np.ndarray:
    """(clip, emotion) what the best predictor says that is told the scores of ``features``; no sequence is drawn.

    A branch like any other, but made at once: what it correlates with the labels is the upper bound of a plan whose
    patterns are ``rhythm`` (``reachable.bounds``).
    """
    sets = simulation.chosen(features)
    drawn = simulated_features.clips(simulation)
    rows = drawn.table["partition"].to_numpy() == partition
    seen = np.stack([simulated_features.scores(simulation, each)[rows] for each in sets], axis=1)
    there = np.stack([drawn.table[each.modality].to_numpy()[rows] for each in sets], axis=1)
    error = np.broadcast_to(np.where(there, 0.0, np.inf)[..., None], seen.shape)
    weights, multiple = best_predictor.guess(simulation.alike, sets, error)
    return best_guess(np.einsum("cse,cs->ce", weights, seen.reshape(len(seen), -1)), multiple)


def papers(crossing: float, clips: tuple[int, int, int] = PAPERS_CLIPS, **options: object) -> Simulation:
    """The plan whose attainable correlations, scores told, are those of Table 2."""
    return best_predictor.plan(LEVELS, patterns="rhythm", crossing=crossing, clips=clips, **options)


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

    ``low, high`` is the fused value's interval over participants. See ``raised``.
    """
    return _table("attained", crossing, *raised(by_ridge, crossing, size, seed)[1:])


def trained(
    out: Path,
    crossing: float,
    size: Size = AVERAGES,
    seed: int = 0,
    recipe: Recipe = RECIPE,
    rounds: int = TRAINED_ROUNDS,
    progress: bool = True,
) -> pandas.DataFrame:
    """As ``attained``, from the paper's two branches, trained by ``recipe``; what is trained is kept under ``out``."""
    levels = raised(by_ridge, crossing, size, seed)[0]
    fit = functools.partial(_by_training, out=out, recipe=recipe, seed=seed, progress=progress)
    return _table("trained", crossing, *raised(fit, crossing, size, seed, rounds, levels)[1:])


def raised(
    fit: Fit, crossing: float, size: Size, seed: int = 0, rounds: int = ROUNDS, levels: Mapping[str, float] = LEVELS
) -> tuple[dict[str, float], dict[str, np.ndarray], Sequences]:
    """Attainable levels at which ``fit`` reaches ``LEVELS``, its predictions there, and the clips that it predicts.

    ``levels`` are where the search begins. It goes by what is reached on the very clips that are scored: the paper's
    values are of one set of clips as well. All signals lie in the mean.
    """
    levels, branches = dict(levels), {}
    for _ in range(rounds):
        simulation, at = size.plan(levels, "mean", seed, crossing), levels
        training, valid = ({name: sequences(simulation, name, partition) for name in LEVELS}
                           for partition in ("train", "valid"))
        branches = {name: fit(simulation, name, training[name], valid[name]) for name in LEVELS}
        truth = valid["wav2vec2"].targets
        short = {name: LEVELS[name] / pearson(truth, branches[name]).mean() for name in LEVELS}
        levels = {name: level * (short[name] if 0 < short[name] < 2 else 2) for name, level in levels.items()}
        levels["resnet18+aus"] = max(levels["resnet18+aus"], 1.01 * levels["resnet18"], 1.01 * levels["aus"])
    return at, branches, valid["wav2vec2"]


def by_ridge(simulation: Simulation, features: str, training: Sequences, valid: Sequences) -> np.ndarray:
    """(clip, emotion) of ``valid`` by ridge regression on time averages."""
    return ridge(training, valid)[0]


def _by_training(
    simulation: Simulation, features: str, training: Sequences, valid: Sequences,
    *, out: Path, recipe: Recipe, seed: int, progress: bool,
) -> np.ndarray:
    digest = sha256(repr((simulation, features, recipe, seed)).encode()).hexdigest()[:12]
    folder = out / "agreement" / f"{features}-{digest}"
    model = BASE.model_of(simulated_features.MODALITY[features.split("+")[0]])
    train(Partitions(training, valid), TrainingConfig(recipe, seed, model), folder, progress=progress)
    device = on_device()
    return predict(load_model(folder).to(device), valid, device)


def _table(calibration: str, crossing: float, branches: dict[str, np.ndarray], valid: Sequences) -> pandas.DataFrame:
    truth = valid.targets.astype(np.float64)
    found = []
    for row in PAIRS:
        fused = late_fusion(*(branches[name] for name in row.branches))
        interval = bootstrap_interval(truth, [fused], valid.participants)
        found.append({"calibration": calibration, "crossing": crossing, **_row(row, truth, branches),
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
    out: Path,
    *,
    crossings: Sequence[float] = (0.0, simulated_features.CROSSING, 0.12),
    clips: int = 60_000,
    averages: Size = AVERAGES,
    recipe: Recipe = RECIPE,
    trained_rounds: int = TRAINED_ROUNDS,
    seed: int = 0,
    progress: bool = True,
) -> pandas.DataFrame:
    """``attainable`` on so many ``clips`` and ``attained`` at the size ``averages``, at each crossing; ``trained`` at
    that size by ``recipe``, at the usual crossing alone."""
    found = [attainable(crossing, clips, seed) for crossing in crossings]
    found += [attained(crossing, averages, seed) for crossing in crossings]
    found += [trained(out, simulated_features.CROSSING, averages, seed, recipe, trained_rounds, progress)]
    return pandas.concat(found, ignore_index=True)


def _labels(simulation: Simulation, partition: str) -> np.ndarray:
    table = simulated_features.clips(simulation).table
    return table.loc[table["partition"] == partition, list(EMOTIONS)].to_numpy()
