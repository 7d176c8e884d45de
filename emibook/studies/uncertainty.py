"""How uncertain a table's values are, measured where the data can be simulated again.

    other participants, other seed videos -> the same predictors -> how much the mean correlation varies
    one training, scored after each epoch -> the epoch chosen on some participants -> its score on others
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas
import torch
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from emibook import InputError
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.device import on_device, seeded
from emibook.evaluation import resampled
from emibook.experiments.paper_rows import TABLE2, TABLE3
from emibook.experiments.recipes import RECIPES
from emibook.experiments.variants import MODELS
from emibook.files import replacing
from emibook.fusion import late_fusion
from emibook.metrics import mean_pearson, pearson
from emibook.sequences.packed import Feed, Sequences
from emibook.studies.settings import digest
from emibook.studies.simulation import best_predictor
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.calibration import LEVELS
from emibook.studies.simulation.corpus import sequences
from emibook.studies.simulation.features import Simulation
from emibook.studies.simulation.sizes import PAPER_CLIPS, Size
from emibook.studies.table3_from_table2 import predict_from_scores
from emibook.training.loop import Recipe, TrainingConfig, epochs, predict, standardised
from emibook.training.optimizer import Learner

DRAWS = 400
FIRST_SEED = 10_000
"""Of the replications of a simulation; the others follow."""
WIDTH_95 = 2 * 1.96
"""The width of 95 % of a normal distribution, in standard deviations."""
LEVEL, PATTERN = LEVELS["wav2vec2"], "mean"
RECIPE = replace(RECIPES["paper"], name="overfitting", learning_rate=1e-3, epochs=20)
"""Of the training whose epoch is chosen. It overfits: where scores only rise there is nothing to choose."""
SEEDS = (0, 1, 2, 3)
PARTICIPANTS = (5, 10, 20, 50, 100)
ATTEMPTS = 50
"""Factor on the number of draws: so many are tried, because an emotion may be constant in a draw."""


def replicated_scores(simulation: Simulation, rows: Sequence[Sequence[str]], repeats: int) -> np.ndarray:
    """(repeat, row) mean correlations on the validation clips of replications of the simulation.

    Each replication has other participants, seed videos and raters. A row is one feature set, or several whose
    predictions are averaged.
    """
    scores = np.empty((repeats, len(rows)))
    for repeat in range(repeats):
        replication = replace(simulation, seed=FIRST_SEED + repeat)
        truth = simulated_features.labels(replication, "valid")
        names = dict.fromkeys(sum(map(tuple, rows), ()))
        branches = {name: predict_from_scores(replication, "valid", name) for name in names}
        scores[repeat] = [mean_pearson(truth, late_fusion(*(branches[name] for name in row))) for row in rows]
    return scores


def widths(simulation: Simulation, rows: Sequence[Sequence[str]], repeats: int, samples: int = 10) -> pandas.DataFrame:
    """The width of a mean correlation's 95 % interval: over replications, and by two bootstraps of one sample.

    Index: the row's name. ``mean``; ``replications``, the width that holds 95 % of ``repeats`` replications with other
    participants and seed videos; ``clips`` and ``participants``, the mean width of bootstraps over either, in
    ``samples`` of these replications.
    """
    scores = replicated_scores(simulation, rows, repeats)
    bootstraps = {"clips": np.zeros((samples, len(rows))), "participants": np.zeros((samples, len(rows)))}
    for sample in range(samples):
        replication = replace(simulation, seed=FIRST_SEED + sample)
        truth = simulated_features.labels(replication, "valid")
        table = simulated_features.clips(replication).table
        participants = pandas.factorize(table.loc[table["partition"] == "valid", "participant"])[0]
        for number, row in enumerate(rows):
            predicted = late_fusion(*(predict_from_scores(replication, "valid", name) for name in row))[None]
            for over, groups in (("clips", np.arange(len(truth))), ("participants", participants)):
                resamples = resampled(truth, predicted, groups, DRAWS, np.random.default_rng(sample))
                bootstraps[over][sample, number] = WIDTH_95 * np.nanstd(resamples)
    return pandas.DataFrame(
        {"mean": scores.mean(axis=0), "replications": WIDTH_95 * scores.std(axis=0, ddof=1),
         **{over: width.mean(axis=0) for over, width in bootstraps.items()}},
        index=pandas.Index([" & ".join(row) for row in rows], name="features"),
    )  # fmt: skip


BASELINE_SUBSTITUTES = {"vit (baseline)": "facenet", "wav2vec2 (baseline)": "mfcc"}
"""Simulated sets that take the place of the organisers' rows, as other sets of their modality. A model on the very same
features would correlate more with ours, and the difference would vary less by chance."""


def differences(
    crossing: float, between_person_sd: float, repeats: int, clips: tuple[int, int, int] = PAPER_CLIPS
) -> pandas.DataFrame:
    """Differences between rows of the paper's tables, and how much they vary by chance alone.

    Each row is compared with the one that the paper compares it with, with the one before it, and a fused row with its
    sound alone. ``margin`` is half the width that holds 95 % of the difference over replications with other
    participants and seed videos, both rows scored on the same ones; ``larger``, whether the reported difference
    exceeds it.
    """
    levels = {BASELINE_SUBSTITUTES.get(row.features, row.features): row.paper for row in TABLE2}
    simulation = best_predictor.plan(
        levels, patterns="rhythm", crossing=crossing, between_person_sd=between_person_sd, clips=clips)
    rows = (*TABLE2, *TABLE3)
    branches = {row.features: tuple(BASELINE_SUBSTITUTES.get(name, name) for name in row.branches) for row in rows}
    values = {row.features: row.paper for row in rows}
    scores = replicated_scores(simulation, list(branches.values()), repeats)
    of_row = dict(zip(branches, scores.T, strict=True))
    comparisons = []
    for table in (TABLE2, TABLE3):
        for index, row in enumerate(table):
            before = table[index - 1] if index and table[index - 1].modality == row.modality else None
            others = [before.features if before else None, row.against, row.branches[-1] if table is TABLE3 else None]
            for other in dict.fromkeys(name for name in others if name):
                margin = WIDTH_95 / 2 * (of_row[row.features] - of_row[other]).std(ddof=1)
                reported = values[row.features] - values[other]
                comparisons.append({"features": row.features, "compared_with": other, "difference": reported,
                                    "margin": margin, "larger": abs(reported) > margin})  # fmt: skip
    return pandas.DataFrame(comparisons)


def optimism(
    truth: np.ndarray, by_epoch: np.ndarray, participants: Sequence[str], counts: Sequence[int], draws: int = DRAWS
) -> pandas.DataFrame:
    """Selection optimism: what choosing the epoch on the clips that are then reported adds to a score.

    Each draw takes so many participants to choose the epoch on, and as many others to score it on. Both sides are drawn
    in the same way, so without a choice their scores have the same mean: the difference is the effect of the choice.

    Args:
        by_epoch: (epoch, clip, emotion) one training's predictions.
        counts: numbers of participants on a side.

    Returns:
        Index ``participants``; ``clips`` on a side; ``reported``, the score on the side that chose; ``held_out``, on
        the other; ``optimism``, their difference, and its ``standard_error`` over draws.

    Raises:
        InputError: with so few participants an emotion hardly ever varies on both sides.
    """
    groups = pandas.factorize(np.asarray(participants))[0]
    rows = []
    for count in counts:
        rng = np.random.default_rng(count)
        pairs = []
        for _ in range(ATTEMPTS * draws):
            if len(pairs) == draws:
                break
            order = rng.permutation(groups.max() + 1)
            sides = [np.isin(groups, order[:count]), np.isin(groups, order[count : 2 * count])]
            scores = [_by_epoch(truth[side], by_epoch[:, side]) for side in sides]
            if all(np.isfinite(side).all() for side in scores):
                # Either side chooses once: the differences between the two sides then cancel.
                pairs.append([(scores[one].max(), scores[1 - one][scores[one].argmax()]) for one in (0, 1)])
        if len(pairs) < draws:
            raise InputError(f"optimism: with {count} people a side, {len(pairs)} of {ATTEMPTS * draws} draws have a "
                             "correlation for every emotion; take more clips")
        reported, held_out = np.array(pairs).mean(axis=1).T
        rows.append({"participants": count, "clips": float(len(truth) * count / (groups.max() + 1)),
                     "reported": reported.mean(), "held_out": held_out.mean(),
                     "optimism": (reported - held_out).mean(),
                     "standard_error": (reported - held_out).std(ddof=1) / np.sqrt(draws)})
    return pandas.DataFrame(rows).set_index("participants")


@dataclass(frozen=True)
class OptimismStudy:
    """Trainings of the sound branch, one per seed, each on participants and clips of its own."""

    size: Size
    train_clips: int = 2000
    recipe: Recipe = RECIPE
    seeds: tuple[int, ...] = SEEDS


def epoch_optimism(out: Path, study: OptimismStudy, *, progress: bool = True) -> pandas.DataFrame:
    """Mean ``optimism`` over the study's trainings; ``standard_error`` is among trainings.

    The level is Table 2's for wav2vec 2.0. Few clips and a high learning rate, so that scores rise and fall. The
    participants are those of the validation and test clips, on which nothing else was chosen. The predictions of every
    epoch are kept under ``out``.

    Raises:
        InputError: fewer than two participants on the validation and test clips, or as ``optimism``.
    """
    tables = pandas.concat([_of_seed(out, study, seed, progress) for seed in study.seeds])
    means = tables.groupby("participants").mean()
    return means.assign(standard_error=tables.groupby("participants")["optimism"].sem()).reset_index()


def _of_seed(out: Path, study: OptimismStudy, seed: int, progress: bool) -> pandas.DataFrame:
    """``optimism`` of one training."""
    simulation = study.size.plan({"wav2vec2": LEVEL}, PATTERN, seed)
    name = digest(simulation, study.train_clips, study.recipe, MODELS["A"], seed)
    path = out / "optimism" / f"{name}.safetensors"
    parts = [sequences(simulation, "wav2vec2", name) for name in ("valid", "test")]
    truth = np.concatenate([part.targets for part in parts])
    participants = sum((part.participants for part in parts), ())
    half = len(set(participants)) // 2
    if not half:
        raise InputError(f"optimism: {len(set(participants))} people on {len(truth)} validation and test clips; two "
                         "are the least, one to choose on and one to score on")
    if not path.is_file():
        training = sequences(simulation, "wav2vec2", "train", study.train_clips)
        config = TrainingConfig(study.recipe, seed, MODELS["A"])
        with seeded(seed, on_device()):
            by_epoch = np.stack(list(_epochs(training, parts, config, progress)))
        with replacing(path) as temporary:
            save_file({"by_epoch": by_epoch.astype(np.float16)}, temporary)
    counts = [*(count for count in PARTICIPANTS if count < half), half]
    return optimism(truth, load_file(path)["by_epoch"].astype(np.float64), participants, counts)


def _epochs(
    training: Sequences, parts: list[Sequences], config: TrainingConfig, progress: bool
) -> Iterator[np.ndarray]:
    """(clip, emotion) predictions of all parts, after each epoch."""
    device = on_device()
    model = standardised(config.build(training), training, config.recipe, device)
    # Not the fused Adam of other trainings, whose last bits differ: the kept predictions were made with this one.
    learner = Learner(model, torch.optim.Adam(model.parameters(), lr=config.recipe.learning_rate))
    feed, *others = (Feed(part, device) for part in (training, *parts))
    losses = epochs(learner, feed, np.flatnonzero(training.present), config)
    for _ in tqdm(losses, desc="optimism", total=config.recipe.epochs, disable=not progress):
        yield np.concatenate([predict(model, part, feed=other) for part, other in zip(parts, others, strict=True)])


def _by_epoch(truth: np.ndarray, by_epoch: np.ndarray) -> np.ndarray:
    """(epoch,) mean correlations; NaN where an emotion is constant."""
    if (truth.min(axis=0) == truth.max(axis=0)).any():
        return np.full(len(by_epoch), np.nan)
    return np.array([pearson(truth, predicted, names=EMOTIONS).mean() for predicted in by_epoch])

