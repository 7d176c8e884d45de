"""Every row of the paper's Tables 2 and 3 as data, and the way from a corpus to both tables.

Source: paper section 4.2 (training), Tables 2 and 3 (rows and values).
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import torch

from emibook import InputError, cluster
from emibook.corpus import Corpus
from emibook.dataset import feature_names, modality
from emibook.evaluation import bootstrap_interval
from emibook.features import extract
from emibook.fusion import late_fusion
from emibook.metrics import pearson
from emibook.preprocess import preprocess
from emibook.runs import BASELINE, Run, is_finished, make_run, run_folder, write_text
from emibook.training import Recipe, require_labels

# Rate, batch and patience of "paper" are the paper's; it states no number of epochs, no weights to start from (the
# TCN's are He et al.'s), no normalisation (features are standardised by the training partition), no dropout (none).
# "small" is ours: a few clips make less than one batch of 128, and the paper's rate would hardly move the weights.
RECIPES = {
    "paper": Recipe("paper", rate=3e-5, batch=128, epochs=30),
    "small": Recipe("small", rate=1e-3, batch=16, epochs=20, threads=1),
}
SMALL_BELOW = 1000  # training clips


@dataclass(frozen=True)
class Row:
    """A row of a table. ``paper`` is the paper's mean Pearson correlation on its validation partition.

    ``branches`` are the runs that are fused: a feature set, or several joined by ``+``, with `` (baseline)`` behind
    where the model is the organisers' and not the paper's.
    """

    features: str
    modality: str
    paper: float | None
    branches: tuple[str, ...]


def _one(features: str, modality: str, paper: float | None = None) -> Row:
    return Row(features, modality, paper, (features,))


def _two(video: str, sound: str, paper: float | None = None) -> Row:
    return Row(f"{video} & {sound}", "V+A", paper, (video, sound))


TABLE2 = (
    _one("vit (baseline)", "V", 0.09),
    _one("vit", "V", 0.10),
    _one("resnet18", "V", 0.1236),
    _one("aus", "V", 0.1352),
    _one("resnet18+aus", "V", 0.1479),
    _one("wav2vec2 (baseline)", "A", 0.24),
    _one("wav2vec2", "A", 0.2808),
)
TABLE3 = (
    Row("vit & wav2vec2 (baseline)", "V+A", 0.25, ("vit (baseline)", "wav2vec2 (baseline)")),
    _two("vit", "wav2vec2", 0.2835),
    _two("resnet18", "wav2vec2", 0.2983),
    _two("aus", "wav2vec2", 0.3026),
    _two("resnet18+aus", "wav2vec2", 0.3288),
)
# Not in the paper: a sound feature that needs no weights, so that fusion shows where there are none for wav2vec 2.0.
EXTRA_TABLE2 = (_one("mfcc", "A"),)
EXTRA_TABLE3 = tuple(_two(video, "mfcc") for video in ("vit", "resnet18", "aus", "resnet18+aus"))


def recipe_for(corpus: Corpus, recipe: Recipe | str | None = None) -> Recipe:
    """The recipe of that name; without one ``small`` below 1,000 training clips, else ``paper``."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe is None:
        recipe = "small" if len(corpus.partition("train")) < SMALL_BELOW else "paper"
    if recipe not in RECIPES:
        raise InputError(f"no recipe named {recipe!r}; there are {', '.join(RECIPES)}")
    return RECIPES[recipe]


def train(
    corpus: Corpus,
    work: Path | str,
    features: str,
    seed: int = 0,
    recipe: Recipe | str | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Train one branch with one seed; the folder of its run, ``WORK/runs/<id>`` (``runs`` says what is in it).

    Clips that are not preprocessed or lack features are seen to first. A finished run is not repeated.

    ``features``: a feature set, several of one modality joined by ``+``, or a row of ``TABLE2`` as ``vit (baseline)``.

    Raises:
        InputError: fewer than three clips or no labels in a partition, a label that never varies, features or a recipe
            that do not exist.
    """
    chosen = _ready(corpus, Path(work), [features], recipe, workers, progress)
    return make_run(corpus, Path(work), features, seed, chosen, progress=progress)


def tables(
    corpus: Corpus,
    work: Path | str,
    *,
    seeds: int = 3,
    recipe: Recipe | str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Tables 2 and 3 on ``corpus``: makes what is missing, then writes ``WORK/tables/table2.csv`` and ``table3.csv``.

    Columns: ``features, modality``; ``paper``, the paper's value, empty for rows that it has not; ``mean`` over seeds
    and targets; ``low, high``, its interval (95 %, ``evaluation.bootstrap_interval``); ``seeds``; ``weights``, what the
    encoders' numbers are; ``recipe``; ``corpus``; ``note``; ``clips``, validation clips, all of which count;
    ``missing``, those among them that are empty in a modality of the row (in a fused row the other branch carries
    them); ``interval_over``; ``dropped_draws``; and each target's correlation, mean over seeds. All of it is of the
    validation partition, on which the epoch was chosen as well.

    Raises:
        InputError: as ``train``.
    """
    if seeds < 1:
        raise InputError(f"{seeds} seeds asked for; give 1 or more")
    work = Path(work)
    rows = {"table2.csv": (*TABLE2, *EXTRA_TABLE2), "table3.csv": (*TABLE3, *EXTRA_TABLE3)}
    branches = list(dict.fromkeys(branch for table in rows.values() for row in table for branch in row.branches))
    chosen = _ready(corpus, work, branches, recipe, workers, progress)
    items = [(branch, seed) for branch in branches for seed in range(seeds)]
    runs = _runs(corpus, work, items, chosen, workers, progress)
    made = []
    for name, table in rows.items():
        by_seed = {row: [[runs[branch, seed] for branch in row.branches] for seed in range(seeds)] for row in table}
        made.append(pandas.DataFrame([_score(row, by_seed[row], corpus) for row in table]))
        write_text(work / "tables" / name, made[-1].to_csv(index=False))
    return made[0], made[1]


def _ready(
    corpus: Corpus, work: Path, branches: list[str], recipe: Recipe | str | None, workers: int | None, progress: bool
) -> Recipe:
    """The recipe, which is said, once nothing is left that would stop a long run at its end; features are all there."""
    chosen = recipe_for(corpus, recipe)
    features = [branch.removesuffix(BASELINE) for branch in branches]
    for each in features:
        modality(each)
    for partition in ("train", "valid"):
        rows = corpus.partition(partition)
        labels = rows[list(corpus.targets)].to_numpy(float)
        require_labels(f"{corpus.root}: {partition}", list(rows["clip"]), labels, corpus.targets)
    preprocess(corpus, work, workers=workers, progress=progress)
    names = list(dict.fromkeys(name for each in features for name in feature_names(each)))
    extract(corpus, work, names, workers=workers, progress=progress)
    if progress:
        print(
            f"recipe {chosen.name} for {len(corpus.partition('train'))} training clips: rate {chosen.rate:g}, "
            f"batch {chosen.batch}, {chosen.epochs} epochs",
            file=sys.stderr,
        )
    return chosen


def _runs(
    corpus: Corpus, work: Path, items: list[tuple[str, int]], recipe: Recipe, workers: int | None, progress: bool
) -> dict[tuple[str, int], Run]:
    """The run of every (branch, seed). Trainings of one thread go side by side, others one after the other."""
    folders = {item: run_folder(corpus, work, *item, recipe) for item in items}
    todo = [item for item, folder in folders.items() if not is_finished(folder)]
    if len(todo) > 1 and workers != 1 and recipe.threads == 1 and not torch.cuda.is_available():
        task = functools.partial(_make_run, corpus=corpus, work=work, recipe=recipe)
        results = list(cluster.run(task, todo, label="train", unit="run", workers=workers, progress=progress,
                                   limits=cluster.Limits(seconds=None, memory=None)))
        for (branch, seed), result in results:
            if isinstance(result, InputError):
                raise result
            if isinstance(result, Exception):
                raise RuntimeError(f"{branch}, seed {seed}: the training failed: {result}") from result
    else:
        for branch, seed in todo:
            make_run(corpus, work, branch, seed, recipe, progress=progress)
    return {item: Run.open(folder) for item, folder in folders.items()}


def _make_run(item: tuple[str, int], *, corpus: Corpus, work: Path, recipe: Recipe) -> Path:
    """``make_run`` as a worker process calls it."""
    return make_run(corpus, work, *item, recipe, progress=False)


def _score(row: Row, runs: list[list[Run]], corpus: Corpus) -> dict:
    """A row of a table from its runs, (seed, branch): fused seed by seed, clips matched by their ids."""
    valid = corpus.partition("valid")
    truth = valid[list(corpus.targets)].to_numpy(float)
    fused = []
    for branches in runs:
        predicted, present = zip(*(run.predictions("valid", valid["clip"]) for run in branches), strict=True)
        fused.append(late_fusion(*predicted, present=present))
    interval = bootstrap_interval(truth, fused, list(valid["participant"]), names=corpus.targets)
    by_target = np.mean([pearson(truth, prediction, names=corpus.targets) for prediction in fused], axis=0)
    return {
        "features": row.features,
        "modality": row.modality,
        "paper": row.paper,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "seeds": len(runs),
        "weights": " & ".join(run.metrics["weights"] for run in runs[0]),
        "recipe": runs[0][0].config["recipe"]["name"],
        "corpus": corpus.name,
        "note": corpus.note,
        "clips": len(valid),
        "missing": int((~np.all(present, axis=0)).sum()),
        "interval_over": interval.over,
        "dropped_draws": interval.dropped,
        **{f"pearson {target}": value for target, value in zip(corpus.targets, by_target, strict=True)},
    }
