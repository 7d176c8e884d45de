"""How much of the attainable correlation a training recipe reaches, on simulated features.

    plan of a simulation -> features and labels -> one training per condition -> its correlation, beside those of the
    best predictor and of ridge regression on time averages, on validation clips and on untouched test clips

Every number here is about simulated features (``studies.simulation``). It says what a recipe can do, nothing of people.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.device import on_device
from emibook.evaluation import halves, paired_difference
from emibook.experiments.recipes import IMPROVED, IMPROVEMENTS, LR_SCALED, RECIPES
from emibook.experiments.variants import BASE, Variant
from emibook.files import replacing, write_text
from emibook.fusion import late_fusion
from emibook.metrics import pearson
from emibook.sequences.packed import Sequences
from emibook.studies.settings import digest
from emibook.studies.simulation import best_predictor
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.corpus import sequences
from emibook.studies.simulation.features import Simulation
from emibook.studies.simulation.sizes import Size
from emibook.studies.simulation.tuned_ridge import ridge
from emibook.training.checkpoint import HALVES, LOG
from emibook.training.loop import Partitions, Recipe, TrainingConfig, load_model, predict, train

RESULT = "result.json"
PREDICTIONS = "predictions.safetensors"
PAPER_RECIPE = RECIPES["paper"]
TEN_TIMES, THIRTY_TIMES = LR_SCALED["ten-times"], LR_SCALED["thirty-times"]
"""The first is enough to improve the paper's recipe where signals lie in the mean and are strong."""
WITHOUT = {
    left: replace(functools.reduce(Variant.__or__, (part for name, part in IMPROVEMENTS.items() if name != left)),
                  name=f"improved without {left}")
    for left in IMPROVEMENTS
}
"""``paper_tables.IMPROVED`` without one of its parts: an ablation."""
SINGLE_SHARE = 0.9
"""A single set's attainable correlation, as a share of that of the joined sets: about as in Table 2."""
MIN_CLIPS = 200
"""Training clips below which a condition is left out."""


@dataclass(frozen=True)
class Condition:
    """One training: on which features, of what attainable correlation and patterns, with how many clips.

    ``features``: a set, several joined by ``+``, or several branches that are trained apart and fused, `` & `` between.
    """

    features: str
    level: float
    """The attainable correlation of all sets together."""
    patterns: str
    train_clips: int
    variant: Variant = BASE
    """The differences from ``recipe`` and from the paper's model."""
    seed: int = 0
    """Of the training."""
    replication: int = 0
    """The simulation's seed: each replication has other participants, clips and features."""
    recipe: Recipe = PAPER_RECIPE

    @property
    def changes(self) -> str:
        """The differences of model and recipe from the paper's, as text."""
        return ", ".join(f"{name} {value}" for name, value in {**self.variant.model, **self.variant.recipe}.items())

    @property
    def branches(self) -> list[str]:
        """The branches, each of which is trained by itself."""
        return self.features.split(" & ")

    @property
    def joined(self) -> str:
        """All feature sets joined, the input of the best predictor and of ridge regression."""
        return "+".join(self.branches)

    @property
    def modality(self) -> str:
        """``V`` or ``A``."""
        return simulated_features.MODALITY[self.joined.split("+")[0]]

    def name(self, size: Size) -> str:
        """The name of its folder, which ends with a digest of all settings."""
        features, variant = self.features.replace(" & ", "&"), self.variant.name.replace(" ", "-")
        return f"{features}-{self.patterns}-{self.level:g}-{self.train_clips}-{variant}-{digest(self, size)}"

    def plan(self, size: Size) -> Simulation:
        """Its simulation: all sets together have the level, each of them alone ``SINGLE_SHARE`` of it."""
        levels = {name: self.level * SINGLE_SHARE for name in self.joined.split("+")} | {self.joined: self.level}
        return size.plan(levels, self.patterns, self.replication)


def conditions(size: Size) -> list[Condition]:
    """The study's conditions: recipes by number of clips, by signal strength and pattern; then the improved recipe."""
    every = size.clips[0]
    sound, joined = functools.partial(Condition, "wav2vec2"), functools.partial(Condition, "resnet18+aus")
    planned = [
        *(sound(0.6, "mean", every, variant) for variant in (BASE, TEN_TIMES, IMPROVED)),
        sound(0.6, "mean", every, TEN_TIMES, seed=1, replication=1),
        *(sound(0.6, "mean", every // 4, variant) for variant in (BASE, TEN_TIMES, IMPROVED)),
        *(sound(0.6, "mean", every // 16, variant) for variant in (BASE, IMPROVED)),
        *(sound(0.28, "mean", every, variant) for variant in (BASE, TEN_TIMES, IMPROVED)),
        *(joined(0.6, "mean", every, variant) for variant in (BASE, TEN_TIMES)),
        *(sound(0.6, "mixed", every, variant) for variant in (BASE, THIRTY_TIMES, IMPROVED)),
        *(sound(0.6, "mixed", every, IMPROVED, seed=number, replication=number) for number in (1, 2)),
        *(sound(0.6, "mixed", every, variant) for variant in WITHOUT.values()),
        sound(0.6, "mixed", every // 4, IMPROVED),
        Condition("vit", 0.6, "mixed", every, IMPROVED),
        joined(0.6, "mixed", every, IMPROVED),
        *(Condition("resnet18 & aus", 0.6, "mixed", every, IMPROVED, seed=number, replication=number)
          for number in (0, 1)),
    ]
    return [condition for condition in planned if condition.train_clips >= MIN_CLIPS]


def table(planned: Sequence[Condition], size: Size, out: Path, *, progress: bool = True) -> pandas.DataFrame:
    """One row per condition, see ``score``; ``share`` is ``reached`` over ``best``.

    Of branches that are fused, ``best_epoch`` is the latest one, ``seconds`` their sum, ``by_branch`` each one's own
    correlation. ``slopes`` are those of the function of that name, emotion by emotion, with a semicolon between sets.
    """
    rows = [score(condition, size, out, progress=progress)
            for condition in tqdm(planned, desc="recovery", disable=not progress)]  # fmt: skip
    results = pandas.DataFrame(rows)
    results.insert(3, "share", results["reached"] / results["best"])
    changes = [condition.changes for condition in planned]
    results.insert(results.columns.get_loc("variant") + 1, "changes", changes)
    return results


def score(condition: Condition, size: Size, out: Path, *, progress: bool = True) -> dict:
    """The row of one condition: trained, or read where it is finished. An interrupted training resumes.

    ``reached``, ``best``, ``ridge``: the mean correlation on validation clips of the training, of the best predictor
    (the oracle, where there is no formula) and of ridge regression on time averages. ``cross_fitted``: of the training,
    with learning rate and epoch chosen on the other half of the participants. ``test``, ``test best``: on test clips.
    ``over_ridge``: ``reached`` less ``ridge``, with its 95 % interval. ``bound_low, bound_high``: see
    ``best_predictor.bounds``.
    """
    folder = out / "runs" / condition.name(size)
    if (folder / RESULT).is_file():
        return json.loads((folder / RESULT).read_text())
    simulation = condition.plan(size)
    parts = _partitions(simulation, condition.joined, condition)
    reference = _reference_predictions(simulation, condition, parts, out)
    half = halves(parts["valid"].participants)
    joined = condition.joined
    folders = {branch: folder if branch == joined else folder / branch for branch in condition.branches}
    for branch, path in folders.items():
        if not (path / PREDICTIONS).is_file():
            own = parts if branch == joined else _partitions(simulation, branch, condition)
            _train(condition, own, half, path, progress)
    result = _described(condition, simulation, parts["train"])
    result |= _scores(condition, simulation, parts, reference, folders.values())
    result = {name: float(value) if isinstance(value, np.floating) else value for name, value in result.items()}
    write_text(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def _described(condition: Condition, simulation: Simulation, training: Sequences) -> dict:
    """The columns that say what the condition is."""
    recipe = replace(condition.recipe, **condition.variant.recipe)
    low, high = best_predictor.bounds(simulation, condition.joined).mean(axis=0)
    return {
        "features": condition.features, "patterns": condition.patterns, "attainable": condition.level,
        "train_clips": condition.train_clips, "width": len(training.names), "recipe": recipe.name,
        "variant": condition.variant.name, "learning_rate": recipe.learning_rate, "batch": recipe.batch,
        "epochs": recipe.epochs, "seed": condition.seed, "replication": condition.replication,
        "bound_low": low, "bound_high": high,
    }  # fmt: skip


def _scores(
    condition: Condition, simulation: Simulation, parts: dict[str, Sequences], reference: dict[str, np.ndarray],
    folders: Iterable[Path],
) -> dict:
    """The columns that say what the condition scores, from the ``folders`` of its branches."""
    by_branch = [load_file(path / PREDICTIONS) for path in folders]
    count, valid = len(by_branch), parts["valid"]
    predicted = {name: late_fusion(*(branch[name] for branch in by_branch), present=[parts[name].present] * count)
                 for name in by_branch[0]}  # fmt: skip
    cross_fitted = late_fusion(*(pandas.read_csv(path / HALVES)[list(EMOTIONS)] for path in folders),
                               present=[valid.present] * count)  # fmt: skip
    half = halves(valid.participants)
    logs = [pandas.read_csv(path / LOG) for path in folders]
    truth = {name: part.targets for name, part in parts.items()}
    best, ridged = reference["best valid"], reference["ridge valid"]
    by_set = slopes(simulation, condition.joined, "valid", predicted["valid"], best)
    return {
        "reached": _mean(truth["valid"], predicted["valid"]), "best": _mean(truth["valid"], best),
        "ridge": _mean(truth["valid"], ridged),
        "cross_fitted": np.mean([_mean(truth["valid"][half == side], cross_fitted[half == side]) for side in (0, 1)]),
        "test": _mean(truth["test"], predicted["test"]), "test best": _mean(truth["test"], reference["best test"]),
        **_over_ridge(valid, predicted["valid"], ridged),
        "best_epoch": max(int(log["epoch"][log["mean_pearson"].idxmax()]) for log in logs),
        "seconds": round(sum(float(log["seconds"].sum()) for log in logs), 1),
        "slopes": "; ".join(" ".join(f"{slope:.2f}" for slope in of_set) for of_set in by_set),
        "by_branch": " ".join(f"{_mean(truth['valid'], branch['valid']):.4f}" for branch in by_branch),
        **_by_pattern(simulation.chosen(condition.joined)[0].patterns, truth["valid"], predicted["valid"], best),
        **{f"reached {name}": value for name, value in _by_emotion(truth["valid"], predicted["valid"])},
        **{f"best {name}": value for name, value in _by_emotion(truth["valid"], best)},
        **{f"ridge {name}": value for name, value in _by_emotion(truth["valid"], ridged)},
    }  # fmt: skip


def _partitions(simulation: Simulation, features: str, condition: Condition) -> dict[str, Sequences]:
    """Each partition; of the training clips as many as the condition has."""
    return {name: sequences(simulation, features, name, condition.train_clips if name == "train" else None)
            for name in ("train", "valid", "test")}  # fmt: skip


def _train(condition: Condition, parts: dict[str, Sequences], half: np.ndarray, folder: Path, progress: bool) -> None:
    """Train one branch of ``condition`` into ``folder``, with its predictions of validation and test clips."""
    recipe = replace(condition.recipe, **condition.variant.recipe)
    config = TrainingConfig(recipe, condition.seed, condition.variant.model_of(condition.modality))
    train(Partitions(parts["train"], parts["valid"], half), config, folder, progress=progress)
    device = on_device()
    model = load_model(folder).to(device)
    predicted = {name: predict(model, parts[name], device) for name in ("valid", "test")}
    with replacing(folder / PREDICTIONS) as temporary:
        save_file(predicted, temporary)


def slopes(
    simulation: Simulation, features: str, partition: str, predicted: np.ndarray, best: np.ndarray
) -> np.ndarray:
    """(set, emotion) the slope of a prediction on the score planted in each set, relative to the best predictor's.

    1 is as it should be; at 0 the signal in that set was not found. From a linear regression on the scores of all sets,
    over clips that are not empty.

    Args:
        predicted: (clip, emotion) of the clips of ``partition``, as is ``best``.
    """
    sets = simulation.chosen(features)
    clips = simulated_features.clips(simulation).table
    inside = (clips["partition"] == partition).to_numpy()
    present = clips.loc[inside, sets[0].modality].to_numpy()
    planted = [simulated_features.scores(simulation, feature_set)[inside][present] for feature_set in sets]
    columns = np.column_stack([np.concatenate(planted, axis=1), np.ones(present.sum())])
    ours, theirs = (np.linalg.lstsq(columns, values[present], rcond=None)[0][:-1] for values in (predicted, best))
    own = np.tile(np.eye(len(EMOTIONS), dtype=bool), (len(sets), 1))
    return (ours[own] / theirs[own]).reshape(len(sets), len(EMOTIONS))


def _over_ridge(valid: Sequences, predicted: np.ndarray, ridged: np.ndarray) -> dict[str, float]:
    gain = paired_difference(valid.targets, [predicted], [ridged], valid.participants, names=EMOTIONS)
    return {"over_ridge": gain.mean, "over_ridge_low": gain.low, "over_ridge_high": gain.high}


def _reference_predictions(
    simulation: Simulation, condition: Condition, parts: dict[str, Sequences], out: Path
) -> dict[str, np.ndarray]:
    """Predictions of the best predictor and of ridge regression; kept, because several conditions share them."""
    path = out / "reference" / f"{digest(simulation, condition.train_clips, condition.joined)}.safetensors"
    if not path.is_file():
        predictions = {}
        training, *others = parts.values()
        for name, predicted in zip(("valid", "test"), ridge(training, *others), strict=True):
            best = best_predictor.predict(simulation, name, condition.joined)
            predictions |= {f"best {name}": best, f"ridge {name}": predicted}
        with replacing(path) as temporary:
            save_file(predictions, temporary)
    return load_file(path)


def _mean(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(pearson(truth, predicted, names=EMOTIONS).mean())


def _by_pattern(patterns: Sequence[str], truth: np.ndarray, predicted: np.ndarray, best: np.ndarray) -> dict:
    """The share of the best predictor's correlation that is reached, mean over the emotions of each pattern."""
    reached, most = pearson(truth, predicted, names=EMOTIONS), pearson(truth, best, names=EMOTIONS)
    masks = {name: np.array(patterns) == name for name in dict.fromkeys(patterns)}
    return {f"share {name}": reached[mask].mean() / most[mask].mean() for name, mask in masks.items()}


def _by_emotion(truth: np.ndarray, predicted: np.ndarray) -> list[tuple[str, float]]:
    return list(zip(EMOTIONS, map(float, pearson(truth, predicted, names=EMOTIONS)), strict=True))
