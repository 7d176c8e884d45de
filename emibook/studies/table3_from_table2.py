"""Whether the paper's Table 3 can follow from its Table 2: simulated branches with Table 2's correlations, averaged.

There are three ways to give a branch its correlation. It is the best predictor of features that allow no more
(``attainable``). Or the features allow more, and it is ridge regression (``attained``) or one of the paper's branches
(``trained``). In all three the noise of the visual and that of the acoustic features are independent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas

from emibook.device import on_device
from emibook.evaluation import bootstrap_interval
from emibook.experiments.paper_rows import TABLE3, Row
from emibook.experiments.variants import BASE, BASELINE
from emibook.fusion import late_fusion
from emibook.metrics import pearson
from emibook.sequences.packed import Sequences
from emibook.studies.recipe_recovery import PAPER_RECIPE, TEN_TIMES
from emibook.studies.settings import digest
from emibook.studies.simulation import best_predictor
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.attainable import expected_label
from emibook.studies.simulation.calibration import LEVELS, calibrate, fit_ridge
from emibook.studies.simulation.features import Simulation
from emibook.studies.simulation.sizes import AVERAGES, PAPER_CLIPS, Size
from emibook.training.loop import Partitions, Recipe, TrainingConfig, load_model, predict, train

RECIPE = replace(PAPER_RECIPE, **TEN_TIMES.recipe)
"""Of branches that are trained: the paper's at ten times its rate, which is enough where signals lie in the mean."""
PAIRS = tuple(row for row in TABLE3 if BASELINE not in row.features)


@dataclass(frozen=True)
class Table3Study:
    """``attainable`` on so many ``clips`` and ``attained`` at the size ``averages``, at each of the ``crossings``;
    ``trained`` by ``recipe`` in ``trained_rounds`` of calibration, at the usual crossing alone."""

    crossings: tuple[float, ...] = (0.0, simulated_features.CROSSING, 0.12)
    clips: int = 60_000
    averages: Size = AVERAGES
    recipe: Recipe = RECIPE
    trained_rounds: int = 2
    seed: int = 0


def table3(out: Path, study: Table3Study | None = None, *, progress: bool = True) -> pandas.DataFrame:
    """Each row of Table 3 by each way to make its branches; see ``_row`` for the columns.

    What is trained is kept under ``out``.
    """
    study = study or Table3Study()
    tables = [attainable(crossing, study.clips, study.seed) for crossing in study.crossings]
    tables += [attained(crossing, study.averages, study.seed) for crossing in study.crossings]
    tables += [trained(out, simulated_features.CROSSING, study, progress=progress)]
    return pandas.concat(tables, ignore_index=True)


def predict_from_scores(simulation: Simulation, partition: str, features: str) -> np.ndarray:
    """(clip, emotion) the best prediction from the planted scores of ``features``; no sequence is simulated.

    A branch like any other, but computed at once. Its correlation with the labels is the upper bound of a plan whose
    patterns are ``rhythm`` (``best_predictor.bounds``).
    """
    sets = simulation.chosen(features)
    simulated = simulated_features.clips(simulation)
    rows = simulated.table["partition"].to_numpy() == partition
    scores = np.stack([simulated_features.scores(simulation, planted)[rows] for planted in sets], axis=1)
    present = np.stack([simulated.table[planted.modality].to_numpy()[rows] for planted in sets], axis=1)
    error = np.broadcast_to(np.where(present, 0.0, np.inf)[..., None], scores.shape)
    weights, multiple = best_predictor.latent_weights(simulation.noise_correlation, sets, error)
    return expected_label(np.einsum("cse,cs->ce", weights, scores.reshape(len(scores), -1)), multiple)


def table2_simulation(crossing: float, clips: tuple[int, int, int] = PAPER_CLIPS, **options: object) -> Simulation:
    """The simulation in which predictions from the scores have the correlations of Table 2."""
    return best_predictor.plan(LEVELS, patterns="rhythm", crossing=crossing, clips=clips, **options)


def attainable(crossing: float, clips: int = 60_000, seed: int = 0) -> pandas.DataFrame:
    """Each row of Table 3 from branches that are the best predictors of features with Table 2's correlations.

    Scored on so many clips that sampling noise does not reach the third digit. See ``_row`` for the columns.
    """
    simulation = table2_simulation(crossing, (3, clips, 0), seed=seed)
    truth = simulated_features.labels(simulation, "valid")
    branches = {name: predict_from_scores(simulation, "valid", name) for name in LEVELS}
    return pandas.DataFrame([{"calibration": "attainable", "crossing": crossing,
                              **_row(row, truth, branches)} for row in PAIRS])  # fmt: skip


def attained(crossing: float, size: Size = AVERAGES, seed: int = 0) -> pandas.DataFrame:
    """Each row of Table 3 from ridge regressions that score Table 2's correlations on the paper's number of clips.

    ``low, high`` is the fused value's interval over participants. See ``calibration.calibrate``.
    """
    return _table("attained", crossing, *calibrate(fit_ridge, crossing, size, seed)[1:])


def trained(out: Path, crossing: float, study: Table3Study, *, progress: bool = True) -> pandas.DataFrame:
    """As ``attained``, from the paper's two branches, trained by the study's recipe; they are kept under ``out``."""
    size, seed = study.averages, study.seed
    levels = calibrate(fit_ridge, crossing, size, seed)[0]
    fit = TrainedFit(out, study.recipe, seed, progress)
    return _table("trained", crossing, *calibrate(fit, crossing, size, seed, study.trained_rounds, levels)[1:])


@dataclass(frozen=True)
class TrainedFit:
    """The paper's branch of a modality, trained by ``recipe`` into a folder under ``out``; see ``calibration.Fit``."""

    out: Path
    recipe: Recipe
    seed: int
    progress: bool

    def __call__(self, simulation: Simulation, features: str, training: Sequences, valid: Sequences) -> np.ndarray:
        """(clip, emotion) predictions of the validation clips."""
        folder = self.out / "table3" / f"{features}-{digest(simulation, features, self.recipe, self.seed)}"
        model = BASE.model_of(simulated_features.MODALITY[features.split("+")[0]])
        config = TrainingConfig(self.recipe, self.seed, model)
        train(Partitions(training, valid), config, folder, progress=self.progress)
        device = on_device()
        return predict(load_model(folder).to(device), valid, device)


def _table(calibration: str, crossing: float, branches: dict[str, np.ndarray], valid: Sequences) -> pandas.DataFrame:
    truth = valid.targets.astype(np.float64)
    rows = []
    for row in PAIRS:
        fused = late_fusion(*(branches[name] for name in row.branches))
        interval = bootstrap_interval(truth, [fused], valid.participants)
        rows.append({"calibration": calibration, "crossing": crossing, **_row(row, truth, branches),
                     "low": interval.low, "high": interval.high})
    return pandas.DataFrame(rows)


def _row(row: Row, truth: np.ndarray, branches: dict[str, np.ndarray]) -> dict:
    """A row's columns. ``visual, sound, fused``: correlations as simulated, mean over emotions; ``r12``, between the
    branches; ``best weights``, fused with weights fitted for each emotion on these clips; ``visual paper, sound paper,
    paper``: the paper's values."""
    one, two = (branches[name] for name in row.branches)
    weighted = []
    for emotion in range(truth.shape[1]):
        columns = np.stack([one[:, emotion], two[:, emotion], np.ones(len(one))], axis=1)
        weighted.append(columns @ np.linalg.lstsq(columns, truth[:, emotion], rcond=None)[0])
    return {
        "features": row.features,
        "visual": pearson(truth, one).mean(),
        "sound": pearson(truth, two).mean(),
        "fused": pearson(truth, late_fusion(one, two)).mean(),
        "r12": pearson(one, two).mean(),
        "best weights": pearson(truth, np.stack(weighted, axis=1)).mean(),
        "visual paper": LEVELS[row.branches[0]],
        "sound paper": LEVELS[row.branches[1]],
        "paper": row.paper,
    }

