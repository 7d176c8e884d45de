"""All runs of a table: what they need is made ready first, then they are trained, side by side where they can be."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import numpy as np

from emibook import InputError, compute
from emibook.compute import Resources
from emibook.device import on_device
from emibook.experiments.runs import Run
from emibook.experiments.training_run import Experiment, is_finished, make_run, run_folder
from emibook.experiments.variants import BASELINE
from emibook.features import extract
from emibook.preprocess import preprocess
from emibook.sequences.load import extracted_sets, feature_names, load, modality, packed_sets
from emibook.training.live_curves import LiveCurves
from emibook.training.partitions import require_labels

SHOWN_CLIPS = 5  # of those that lack a feature set
MISSING_FEATURE_POLICY = {"train": "not trained on"} | dict.fromkeys(
    ("valid", "test"), "predicted as the training mean, in fusion by the other branch, and counted")
"""What becomes of a clip that is empty in a feature set."""


def trained_runs(
    experiment: Experiment, branches: Sequence[str], seeds: Sequence[int], resources: Resources
) -> dict[tuple[str, int], Run]:
    """The run of every (branch, seed); those that are missing are made, with the features that they need.

    Raises ``InputError`` before anything is computed where labels, features or the device would stop a long run.
    """
    prepare(experiment, branches, resources)
    return train_all(experiment, [(branch, seed) for branch in branches for seed in seeds], resources)


def prepare(experiment: Experiment, branches: Sequence[str], resources: Resources) -> None:
    """Make the features of all branches, once it is certain that their runs can be trained."""
    corpus, work, recipe = experiment.corpus, experiment.work, experiment.recipe
    on_device(resources.device)
    features = list(dict.fromkeys(branch.removesuffix(BASELINE) for branch in branches))
    for feature_set in features:
        modality(feature_set)
    for partition in ("train", "valid"):
        rows = corpus.partition(partition)
        labels = rows[list(corpus.targets)].to_numpy(float)
        require_labels(f"{corpus.root}: {partition}", list(rows["clip"]), labels, corpus.targets)
    to_extract = [name for name in features if extracted_sets(work, name)]
    if to_extract and (corpus.clips["path"] == "").all():
        raise InputError(f"features {', '.join(to_extract)} are not in {work}, which has "
                         f"{', '.join(packed_sets(work)) or 'none'}, and {corpus.root} has no media to extract them "
                         f"from; emibook simulate {corpus.root} --work {work} --features {' '.join(to_extract)} makes "
                         "those that can be simulated, with its own size and seed")
    if to_extract:
        preprocess(corpus, work, resources=Resources(workers=resources.workers, progress=resources.progress))
        names = list(dict.fromkeys(name for feature_set in to_extract for name in feature_names(feature_set)))
        extract(corpus, work, names, resources=Resources(workers=resources.workers, progress=resources.progress))
    if resources.progress:
        print(
            f"recipe {recipe.name} for {len(corpus.partition('train'))} training clips: learning rate "
            f"{recipe.learning_rate:g}, batch {recipe.batch}, {recipe.epochs} epochs",
            file=sys.stderr,
        )


def train_all(
    experiment: Experiment, items: Sequence[tuple[str, int]], resources: Resources
) -> dict[tuple[str, int], Run]:
    """The run of every (branch, seed) on features that are there.

    Trainings of one thread go side by side, others one after the other. On a GPU they go side by side where more than
    one worker is asked for: one small network leaves most of it idle.
    """
    folders = {item: run_folder(experiment, *item) for item in items}
    todo = [item for item, folder in folders.items() if not is_finished(folder)]
    for features in dict.fromkeys(branch.removesuffix(BASELINE) for branch, _ in todo):
        _pack(experiment, features, resources.progress)
    if on_device(resources.device) == "cuda":
        side_by_side = (resources.workers or 1) > 1
    else:
        side_by_side = resources.workers != 1 and experiment.recipe.threads == 1
    if len(todo) > 1 and side_by_side:
        _train_side_by_side(experiment, todo, resources)
    else:
        for branch, seed in todo:
            with LiveCurves(f"{branch}, seed {seed}", resources.progress):
                make_run(experiment, branch, seed, resources)
    return {item: Run.open(folder) for item, folder in folders.items()}


def _train_side_by_side(experiment: Experiment, todo: list[tuple[str, int]], resources: Resources) -> None:
    task = functools.partial(_make_run, experiment=experiment, device=resources.device)
    results = list(compute.run(task, todo, label="train", unit="run", limits=compute.Limits(seconds=None, memory=None),
                               resources=Resources(workers=resources.workers, progress=resources.progress)))
    for (branch, seed), result in results:
        if isinstance(result, InputError):
            raise result
        if isinstance(result, Exception):
            raise RuntimeError(f"{branch}, seed {seed}: the training failed: {result}") from result


def _make_run(item: tuple[str, int], *, experiment: Experiment, device: str | None) -> None:
    """``make_run`` as a worker process calls it."""
    make_run(experiment, *item, Resources(device=device, progress=False))


def _pack(experiment: Experiment, features: str, progress: bool) -> None:
    """Pack a feature set once for all its trainings, and report the clips that lack it and what becomes of them."""
    corpus = experiment.corpus
    for partition, policy in MISSING_FEATURE_POLICY.items():
        if corpus.partition(partition).empty:
            continue
        part = load(corpus, experiment.work, features, partition, experiment.sequence)
        empty = [part.clips[index] for index in np.flatnonzero(~part.present)]
        if empty and progress:
            shown = ", ".join(empty[:SHOWN_CLIPS]) + (", ..." if len(empty) > SHOWN_CLIPS else "")
            print(f"features {features}: {len(empty)} of {len(part)} {partition} clips have none ({shown}); they are "
                  f"{policy}", file=sys.stderr)
