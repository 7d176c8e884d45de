"""A rehearsal of the paper's training on simulated features: how much of what can be reached does a recipe reach?

    plan of a simulation -> features and labels -> one training a case -> correlation, beside that of the best predictor
    there is, of ridge regression on time averages, and of clips that nothing was chosen on

Every number here is about simulated features (``corpus.simulated``): it says what a recipe can do, nothing of people.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
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
from emibook.models.ridge import RidgeOnAverages
from emibook.sequences.packed import Sequences
from emibook.studies.simulation import best_predictor
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.corpus import sequences
from emibook.studies.simulation.features import Simulation
from emibook.training.checkpoint import HALVES, LOG
from emibook.training.loop import Partitions, Recipe, TrainingConfig, load_model, predict, train

PENALTIES = np.geomspace(1, 1e6, 13)
"""Of ridge regression, in clips: what a penalty of as many clips without signal would do."""
RESULT = "result.json"
PREDICTIONS = "predictions.safetensors"


@dataclass(frozen=True)
class Size:
    """How large a rehearsal is. ``width`` is the most features a set has; None for as many as the real one."""

    name: str
    clips: tuple[int, int, int]
    steps: int
    rate: float
    width: int | None

    def plan(
        self, levels: dict[str, float], patterns: str, seed: int = 0, crossing: float = simulated_features.CROSSING
    ) -> Simulation:
        """A simulation of this size whose attainable correlations are ``levels``."""
        widths = {name: min(width, self.width or width) for name, width in simulated_features.WIDTHS.items()}
        return best_predictor.plan(levels, patterns=patterns, crossing=crossing, widths=widths, clips=self.clips,
                              steps=self.steps, rate=self.rate, seed=seed)


PAPERS_CLIPS = tuple(simulated_features.CLIPS.values())
SIZES = {
    size.name: size
    for size in (
        Size("full", PAPERS_CLIPS, 300, 30.0, None),
        Size("reduced", PAPERS_CLIPS, 75, 7.5, 64),
        Size("tiny", (240, 120, 120), 20, 2.0, 8),
    )
}
"""``full``: as the real set, for a GPU. ``reduced``: every clip, a quarter of the steps, at most 64 features a set."""

PAPER_SEQUENCE = RECIPES["paper"]
TEN_TIMES, THIRTY_TIMES = LR_SCALED["ten-times"], LR_SCALED["thirty-times"]
"""The first is what mends the paper's recipe where signals lie in the mean and are strong."""
WITHOUT = {
    left: replace(functools.reduce(Variant.__or__, (each for name, each in IMPROVEMENTS.items() if name != left)),
                  name=f"mended but for {left}")
    for left in IMPROVEMENTS
}
"""``experiments.IMPROVED`` without one of its parts: what each of them is worth."""
ALONE = 0.9  # of what joined feature sets allow together, each of them alone: about as in Table 2
FEWEST = 200  # training clips that are worth a case


@dataclass(frozen=True)
class Case:
    """One training: of which features, of what attainable correlation, planted how, with how many clips.

    ``features``: a set, several joined by ``+``, or several that are trained apart and fused, `` & `` between them.
    """

    features: str
    level: float
    patterns: str
    train_clips: int
    variant: Variant = BASE
    """What is otherwise than in ``recipe`` and in the paper's model."""
    seed: int = 0
    """Of the training."""
    drawn: int = 0
    """Of the simulation: other people, clips and features."""
    recipe: Recipe = PAPER_SEQUENCE

    @property
    def otherwise(self) -> str:
        """What the model and the recipe have otherwise than the paper's, in one line."""
        return ", ".join(f"{name} {value}" for name, value in {**self.variant.model, **self.variant.recipe}.items())

    @property
    def branches(self) -> list[str]:
        """What is trained: each of them by itself."""
        return self.features.split(" & ")

    @property
    def seen(self) -> str:
        """All feature sets together, which the best predictor and ridge regression see."""
        return "+".join(self.branches)

    @property
    def kind(self) -> str:
        """The modality, ``V`` or ``A``."""
        return simulated_features.MODALITY[self.seen.split("+")[0]]

    def name(self, size: Size) -> str:
        """A folder's name: what it is, and a hash of all that decides it."""
        digest = sha256(repr((self, size)).encode()).hexdigest()[:8]
        features, variant = self.features.replace(" & ", "&"), self.variant.name.replace(" ", "-")
        return f"{features}-{self.patterns}-{self.level:g}-{self.train_clips}-{variant}-{digest}"

    def plan(self, size: Size) -> Simulation:
        """What is drawn; all sets together have the level, each of them alone ``ALONE`` of it."""
        levels = {name: self.level * ALONE for name in self.seen.split("+")} | {self.seen: self.level}
        return size.plan(levels, self.patterns, self.drawn)


def cases(size: Size) -> list[Case]:
    """What is measured: the recipes by training size, by signal and by where it lies; then what mends them, and why."""
    every = size.clips[0]
    sound, joined = functools.partial(Case, "wav2vec2"), functools.partial(Case, "resnet18+aus")
    found = [
        *(sound(0.6, "mean", every, variant) for variant in (BASE, TEN_TIMES, IMPROVED)),
        sound(0.6, "mean", every, TEN_TIMES, seed=1, drawn=1),
        *(sound(0.6, "mean", every // 4, variant) for variant in (BASE, TEN_TIMES, IMPROVED)),
        *(sound(0.6, "mean", every // 16, variant) for variant in (BASE, IMPROVED)),
        *(sound(0.28, "mean", every, variant) for variant in (BASE, TEN_TIMES, IMPROVED)),
        *(joined(0.6, "mean", every, variant) for variant in (BASE, TEN_TIMES)),
        *(sound(0.6, "mixed", every, variant) for variant in (BASE, THIRTY_TIMES, IMPROVED)),
        *(sound(0.6, "mixed", every, IMPROVED, seed=again, drawn=again) for again in (1, 2)),
        *(sound(0.6, "mixed", every, variant) for variant in WITHOUT.values()),
        sound(0.6, "mixed", every // 4, IMPROVED),
        Case("vit", 0.6, "mixed", every, IMPROVED),
        joined(0.6, "mixed", every, IMPROVED),
        *(Case("resnet18 & aus", 0.6, "mixed", every, IMPROVED, seed=again, drawn=again) for again in (0, 1)),
    ]
    return [case for case in found if case.train_clips >= FEWEST]


def ridge(training: Sequences, *others: Sequences) -> list[np.ndarray]:
    """(clip, target) for each of ``others``: ridge regression on time averages, its penalty tuned within ``training``.

    For each target the penalty is the one that predicts participants left out best. A clip without a step is predicted
    as the training mean.
    """
    model = RidgeOnAverages.fit(training, PENALTIES / len(training.names))
    return [model.predict(clips) for clips in others]


def score(case: Case, size: Size, out: Path, *, progress: bool = True) -> dict:
    """Train one case, or read what came of it; ``out`` gets a folder for it. Killed, it goes on where it stopped."""
    folder = out / "runs" / case.name(size)
    if (folder / RESULT).is_file():
        return json.loads((folder / RESULT).read_text())
    simulation, recipe = case.plan(size), replace(case.recipe, **case.variant.recipe)
    parts = _drawn(simulation, case.seen, case)
    beside = _beside(simulation, case, parts, out)
    half = halves(parts["valid"].participants)
    folders = {branch: folder if branch == case.seen else folder / branch for branch in case.branches}
    for branch, place in folders.items():
        if not (place / PREDICTIONS).is_file():
            own = parts if branch == case.seen else _drawn(simulation, branch, case)
            _train(case, own, half, place, progress)
    told = [load_file(place / PREDICTIONS) for place in folders.values()]
    predicted = {name: late_fusion(*(each[name] for each in told), present=[parts[name].present] * len(told))
                 for name in told[0]}
    unseen = late_fusion(*(pandas.read_csv(place / HALVES)[list(EMOTIONS)] for place in folders.values()),
                         present=[parts["valid"].present] * len(told))
    logs = [pandas.read_csv(place / LOG) for place in folders.values()]
    truth = {name: part.targets for name, part in parts.items()}
    low, high = best_predictor.bounds(simulation, case.seen).mean(axis=0)
    result = {
        "features": case.features, "patterns": case.patterns, "attainable": case.level,
        "train_clips": case.train_clips, "width": len(parts["train"].names), "recipe": recipe.name,
        "variant": case.variant.name, "rate": recipe.learning_rate, "batch": recipe.batch, "epochs": recipe.epochs,
        "seed": case.seed, "drawn": case.drawn, "bound_low": low, "bound_high": high,
        "reached": _mean(truth["valid"], predicted["valid"]), "best": _mean(truth["valid"], beside["best valid"]),
        "ridge": _mean(truth["valid"], beside["ridge valid"]),
        "honest": np.mean([_mean(truth["valid"][half == each], unseen[half == each]) for each in (0, 1)]),
        "fresh": _mean(truth["test"], predicted["test"]), "fresh best": _mean(truth["test"], beside["best test"]),
        **_over_ridge(parts["valid"], predicted["valid"], beside["ridge valid"]),
        "best_epoch": max(int(log["epoch"][log["mean_pearson"].idxmax()]) for log in logs),
        "seconds": round(sum(float(log["seconds"].sum()) for log in logs), 1),
        "slopes": "; ".join(" ".join(f"{slope:.2f}" for slope in each) for each in slopes(
            simulation, case.seen, "valid", predicted["valid"], beside["best valid"])),
        "by_branch": " ".join(f"{_mean(truth['valid'], each['valid']):.4f}" for each in told),
        **_by_pattern(simulation.chosen(case.seen)[0].patterns, truth["valid"], predicted["valid"],
                      beside["best valid"]),
        **{f"reached {name}": value for name, value in _each(truth["valid"], predicted["valid"])},
        **{f"best {name}": value for name, value in _each(truth["valid"], beside["best valid"])},
        **{f"ridge {name}": value for name, value in _each(truth["valid"], beside["ridge valid"])},
    }  # fmt: skip
    result = {name: float(value) if isinstance(value, np.floating) else value for name, value in result.items()}
    write_text(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def _drawn(simulation: Simulation, features: str, case: Case) -> dict[str, Sequences]:
    """Each partition; of the training clips as many as the case has."""
    return {name: sequences(simulation, features, name, case.train_clips if name == "train" else None)
            for name in ("train", "valid", "test")}  # fmt: skip


def _train(case: Case, parts: dict[str, Sequences], half: np.ndarray, folder: Path, progress: bool) -> None:
    """One branch of ``case`` into ``folder``, with what it says of the clips that it was not trained on."""
    recipe = replace(case.recipe, **case.variant.recipe)
    config = TrainingConfig(recipe, case.seed, case.variant.model_of(case.kind))
    train(Partitions(parts["train"], parts["valid"], half), config, folder, progress=progress)
    device = on_device()
    model = load_model(folder).to(device)
    predicted = {name: predict(model, parts[name], device) for name in ("valid", "test")}
    with replacing(folder / PREDICTIONS) as path:
        save_file(predicted, path)


def table(every: Sequence[Case], size: Size, out: Path, *, progress: bool = True) -> pandas.DataFrame:
    """A row a case, see ``score``; ``share`` is what is reached over what the best predictor reaches on these clips.

    Of branches that are fused, ``best_epoch`` is the latest of them, ``seconds`` all together, ``by_branch`` each one's
    own score. ``slopes`` are those of the function of that name, emotion by emotion, a semicolon between sets.
    """
    rows = [score(case, size, out, progress=progress) for case in tqdm(every, desc="recovery", disable=not progress)]
    found = pandas.DataFrame(rows)
    found.insert(3, "share", found["reached"] / found["best"])
    found.insert(found.columns.get_loc("variant") + 1, "otherwise", [case.otherwise for case in every])
    return found


def slopes(
    simulation: Simulation, features: str, partition: str, predicted: np.ndarray, best: np.ndarray
) -> np.ndarray:
    """(set, emotion) how much a prediction moves with the score planted in each set, over what the best one does.

    1: as much as it should; 0: what lies in that set was not found. ``predicted``, ``best``: (clip, emotion) of the
    clips of ``partition``. Of a linear regression on the scores of all sets, over clips that are not empty.
    """
    sets = simulation.chosen(features)
    table = simulated_features.clips(simulation).table
    clips = (table["partition"] == partition).to_numpy()
    there = table.loc[clips, sets[0].modality].to_numpy()
    planted = np.concatenate([simulated_features.scores(simulation, each)[clips][there] for each in sets], axis=1)
    planted = np.column_stack([planted, np.ones(len(planted))])
    ours, theirs = (np.linalg.lstsq(planted, each[there], rcond=None)[0][:-1] for each in (predicted, best))
    own = np.tile(np.eye(len(EMOTIONS), dtype=bool), (len(sets), 1))
    return (ours[own] / theirs[own]).reshape(len(sets), len(EMOTIONS))


def _over_ridge(valid: Sequences, predicted: np.ndarray, ridged: np.ndarray) -> dict[str, float]:
    gain = paired_difference(valid.targets, [predicted], [ridged], valid.participants, names=EMOTIONS)
    return {"over_ridge": gain.mean, "over_ridge_low": gain.low, "over_ridge_high": gain.high}


def _beside(simulation: Simulation, case: Case, parts: dict[str, Sequences], out: Path) -> dict:
    """What the best predictor and ridge regression say; kept, because several cases share it."""
    name = sha256(repr((simulation, case.train_clips, case.seen)).encode()).hexdigest()[:12]
    path = out / "beside" / f"{name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {}
        training, *others = parts.values()
        for name, predicted in zip(("valid", "test"), ridge(training, *others), strict=True):
            found |= {f"best {name}": best_predictor.best(simulation, name, case.seen), f"ridge {name}": predicted}
        with replacing(path) as temporary:
            save_file(found, temporary)
    return load_file(path)


def _mean(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(pearson(truth, predicted, names=EMOTIONS).mean())


def _by_pattern(patterns: Sequence[str], truth: np.ndarray, predicted: np.ndarray, best: np.ndarray) -> dict:
    """What share of the best predictor's correlation is reached, mean over the emotions planted in each pattern."""
    reached, most = pearson(truth, predicted, names=EMOTIONS), pearson(truth, best, names=EMOTIONS)
    where = {name: np.array(patterns) == name for name in dict.fromkeys(patterns)}
    return {f"share {name}": reached[here].mean() / most[here].mean() for name, here in where.items()}


def _each(truth: np.ndarray, predicted: np.ndarray) -> list[tuple[str, float]]:
    return list(zip(EMOTIONS, map(float, pearson(truth, predicted, names=EMOTIONS)), strict=True))
