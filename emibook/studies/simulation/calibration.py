"""Simulations on which a given way to fit a branch scores the correlations of the paper's Table 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from emibook.experiments.paper_rows import TABLE2
from emibook.experiments.variants import BASELINE
from emibook.metrics import pearson
from emibook.sequences.packed import Sequences
from emibook.studies.simulation.corpus import sequences
from emibook.studies.simulation.features import Simulation
from emibook.studies.simulation.sizes import Size
from emibook.studies.simulation.tuned_ridge import ridge

LEVELS = {row.features: row.paper for row in TABLE2 if BASELINE not in row.features}
"""The paper's Table 2 without the organisers' baselines: mean correlation by feature set."""
ROUNDS = 4
Fit = Callable[[Simulation, str, Sequences, Sequences], np.ndarray]
"""The simulation, the branch's features, training and validation clips -> predictions of the validation clips."""


def calibrate(
    fit: Fit, crossing: float, size: Size, seed: int = 0, rounds: int = ROUNDS, levels: Mapping[str, float] = LEVELS
) -> tuple[dict[str, float], dict[str, np.ndarray], Sequences]:
    """Raise the attainable correlations until ``fit`` scores ``LEVELS`` on the validation clips.

    The search uses the very clips that are scored: the paper's values are of one set of clips as well. All signals lie
    in the mean.

    Args:
        levels: where the search begins.

    Returns:
        The attainable correlations by feature set, the predictions of ``fit`` there, and the validation clips.
    """
    levels, predictions = dict(levels), {}
    for _ in range(rounds):
        simulation, attainable = size.plan(levels, "mean", seed, crossing), levels
        training, valid = ({name: sequences(simulation, name, partition) for name in LEVELS}
                           for partition in ("train", "valid"))
        predictions = {name: fit(simulation, name, training[name], valid[name]) for name in LEVELS}
        truth = valid["wav2vec2"].targets
        ratios = {name: LEVELS[name] / pearson(truth, predictions[name]).mean() for name in LEVELS}
        levels = {name: level * (ratios[name] if 0 < ratios[name] < 2 else 2) for name, level in levels.items()}
        levels["resnet18+aus"] = max(levels["resnet18+aus"], 1.01 * levels["resnet18"], 1.01 * levels["aus"])
    return attainable, predictions, valid["wav2vec2"]


def fit_ridge(simulation: Simulation, features: str, training: Sequences, valid: Sequences) -> np.ndarray:
    """(clip, emotion) of ``valid`` by ridge regression on time averages."""
    return ridge(training, valid)[0]
