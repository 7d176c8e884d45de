"""How far a table's value may be off, measured where the truth can be drawn again: on simulated labels and scores.

    other people, other seed videos -> the same predictors -> how much the mean correlation varies
    one training, seen epoch by epoch -> the epoch chosen on some people -> what it scores on others
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
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
from emibook.studies.recipe_recovery import Size
from emibook.studies.simulation import best_predictor
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.corpus import sequences
from emibook.studies.simulation.features import Simulation
from emibook.studies.table3_from_table2 import LEVELS, PAPERS_CLIPS, told
from emibook.training.loop import Recipe, TrainingConfig, epochs, predict, standardised
from emibook.training.optimizer import Learner

DRAWS = 400
FIRST_SEED = 10_000
"""Of the samples that are drawn anew; the next ones follow."""
ENDS = 2 * 1.96
"""The width of 95 % of a normal distribution, in its standard deviations."""
LEVEL, PATTERN = LEVELS["wav2vec2"], "mean"
RECIPE = replace(RECIPES["paper"], name="restless", learning_rate=1e-3, epochs=20)
"""Of the training whose epoch is chosen: where scores only rise there is nothing to choose."""
SEEDS = (0, 1, 2, 3)
PEOPLE = (5, 10, 20, 50, 100)
ATTEMPTS = 50
"""How many times as many draws are tried as are wanted, where some have an emotion without variation."""


def drawn_again(simulation: Simulation, rows: Sequence[Sequence[str]], repeats: int) -> np.ndarray:
    """(repeat, row) mean correlations on validation clips of people, seed videos and raters drawn anew each time.

    A row is one feature set, or several whose predictions are averaged.
    """
    found = np.empty((repeats, len(rows)))
    for repeat in range(repeats):
        anew = replace(simulation, seed=FIRST_SEED + repeat)
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
        anew = replace(simulation, seed=FIRST_SEED + sample)
        truth = _labels(anew, "valid")
        table = simulated_features.clips(anew).table
        people = pandas.factorize(table.loc[table["partition"] == "valid", "participant"])[0]
        for number, row in enumerate(rows):
            predicted = late_fusion(*(told(anew, "valid", name) for name in row))[None]
            for over, groups in (("clips", np.arange(len(truth))), ("participants", people)):
                drawn = resampled(truth, predicted, groups, DRAWS, np.random.default_rng(sample))
                found[over][sample, number] = ENDS * np.nanstd(drawn)
    return pandas.DataFrame(
        {"mean": scores.mean(axis=0), "anew": ENDS * scores.std(axis=0, ddof=1),
         **{over: width.mean(axis=0) for over, width in found.items()}},
        index=pandas.Index([" & ".join(row) for row in rows], name="features"),
    )  # fmt: skip


ALREADY = {"vit (baseline)": "facenet", "wav2vec2 (baseline)": "mfcc"}
"""Simulated sets that stand for the organisers' rows, as others of their modality: a model of one's own on the very
same features would resemble them more, and chance would do less to the difference."""


def differences(
    crossing: float, legible: float, repeats: int, clips: tuple[int, int, int] = PAPERS_CLIPS
) -> pandas.DataFrame:
    """Rows of the paper's tables beside others: what is reported, and what chance alone does to such a difference.

    Each row beside the one that the paper compares it with, the one before it, and a fused row beside its sound alone.
    ``anew`` is half the width that holds 95 % of the difference over people and seed videos drawn anew, both rows
    scored on the same ones; ``larger``, whether the reported difference exceeds it.
    """
    levels = {ALREADY.get(row.features, row.features): row.paper for row in TABLE2}
    simulation = best_predictor.plan(levels, patterns="rhythm", crossing=crossing, legible=legible, clips=clips)
    rows = (*TABLE2, *TABLE3)
    branches = {row.features: tuple(ALREADY.get(name, name) for name in row.branches) for row in rows}
    values = {row.features: row.paper for row in rows}
    scores = drawn_again(simulation, list(branches.values()), repeats)
    of_row = dict(zip(branches, scores.T, strict=True))
    found = []
    for table in (TABLE2, TABLE3):
        for place, row in enumerate(table):
            before = table[place - 1] if place and table[place - 1].modality == row.modality else None
            beside = [before.features if before else None, row.against, row.branches[-1] if table is TABLE3 else None]
            for other in dict.fromkeys(name for name in beside if name):
                anew = ENDS / 2 * (of_row[row.features] - of_row[other]).std(ddof=1)
                reported = values[row.features] - values[other]
                found.append({"features": row.features, "beside": other, "difference": reported, "anew": anew,
                              "larger": abs(reported) > anew})  # fmt: skip
    return pandas.DataFrame(found)


def optimism(
    truth: np.ndarray, by_epoch: np.ndarray, participants: Sequence[str], people: Sequence[int], draws: int = DRAWS
) -> pandas.DataFrame:
    """What choosing the epoch on the clips that are then reported adds to a score.

    ``by_epoch`` (epoch, clip, emotion) are one training's predictions. In each draw so many ``people`` are taken to
    choose the epoch on, and as many others to score it on. Both sides are drawn alike, so without a choice they score
    the same on average: what the first score more is the choice's doing.

    Index ``people``; ``clips`` a side, ``reported``, ``fresh``, ``optimism`` and its standard error over draws.

    Raises:
        InputError: with so few people an emotion hardly ever varies on both sides.
    """
    groups = pandas.factorize(np.asarray(participants))[0]
    found = []
    for count in people:
        rng = np.random.default_rng(count)
        pairs = []
        for _ in range(ATTEMPTS * draws):
            if len(pairs) == draws:
                break
            order = rng.permutation(groups.max() + 1)
            sides = [np.isin(groups, order[:count]), np.isin(groups, order[count : 2 * count])]
            scores = [_by_epoch(truth[side], by_epoch[:, side]) for side in sides]
            if all(np.isfinite(each).all() for each in scores):
                # Either side may choose: the two together cancel what is luck of the draw.
                pairs.append([(scores[one].max(), scores[1 - one][scores[one].argmax()]) for one in (0, 1)])
        if len(pairs) < draws:
            raise InputError(f"optimism: with {count} people a side, {len(pairs)} of {ATTEMPTS * draws} draws have a "
                             "correlation for every emotion; take more clips")
        reported, fresh = np.array(pairs).mean(axis=1).T
        found.append({"people": count, "clips": float(len(truth) * count / (groups.max() + 1)),
                      "reported": reported.mean(), "fresh": fresh.mean(), "optimism": (reported - fresh).mean(),
                      "error": (reported - fresh).std(ddof=1) / np.sqrt(draws)})
    return pandas.DataFrame(found).set_index("people")


def of_choosing_the_epoch(
    out: Path, size: Size, *, train_clips: int = 2000, recipe: Recipe = RECIPE, seeds: Sequence[int] = SEEDS,
    progress: bool = True,
) -> pandas.DataFrame:
    """Mean ``optimism`` of trainings of the sound branch, each on people and clips of its own; ``error`` is among them.

    The level is Table 2's for wav2vec 2.0. Few clips and a high rate, so that scores rise and fall: where they only
    rise there is nothing to choose. ``people`` are of those on the validation and test clips, on which nothing else was
    chosen. The predictions of every epoch are kept under ``out``.

    Raises:
        InputError: fewer than two people on the validation and test clips, or as ``optimism``.
    """
    each = pandas.concat([_of_one(out, size, train_clips, recipe, seed, progress) for seed in seeds])
    found = each.groupby("people").mean()
    return found.assign(error=each.groupby("people")["optimism"].sem()).reset_index()


def _of_one(
    out: Path, size: Size, train_clips: int, recipe: Recipe, seed: int, progress: bool
) -> pandas.DataFrame:
    """``optimism`` of one training."""
    simulation = size.plan({"wav2vec2": LEVEL}, PATTERN, seed)
    decided = sha256(repr((simulation, train_clips, recipe, MODELS["A"], seed)).encode()).hexdigest()[:12]
    path = out / "optimism" / f"{decided}.safetensors"
    parts = [sequences(simulation, "wav2vec2", name) for name in ("valid", "test")]
    truth = np.concatenate([part.targets for part in parts])
    participants = sum((part.participants for part in parts), ())
    everybody = len(set(participants)) // 2
    if not everybody:
        raise InputError(f"optimism: {len(set(participants))} people on {len(truth)} validation and test clips; two "
                         "are the least: one who chooses, one who is asked")
    if not path.is_file():
        training = sequences(simulation, "wav2vec2", "train", train_clips)
        with seeded(seed, on_device()):
            by_epoch = np.stack(list(_epochs(training, parts, TrainingConfig(recipe, seed, MODELS["A"]), progress)))
        with replacing(path) as temporary:
            save_file({"by_epoch": by_epoch.astype(np.float16)}, temporary)
    people = [*(count for count in PEOPLE if count < everybody), everybody]
    return optimism(truth, load_file(path)["by_epoch"].astype(np.float64), participants, people)


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
    """(epoch,) mean correlations; NaN where an emotion is absent."""
    if (truth.min(axis=0) == truth.max(axis=0)).any():
        return np.full(len(by_epoch), np.nan)
    return np.array([pearson(truth, predicted, names=EMOTIONS).mean() for predicted in by_epoch])


def _labels(simulation: Simulation, partition: str) -> np.ndarray:
    table = simulated_features.clips(simulation).table
    return table.loc[table["partition"] == partition, list(EMOTIONS)].to_numpy()
