"""The training loop: one branch, one seed.

Source: paper section 3.6 (mean squared error), section 4.2 (Adam; the learning rate is halved where the validation
metric has not improved for 10 epochs). Learning rate and epoch are chosen on the validation partition that is then
reported, as in the paper: its validation scores are therefore optimistic. With halves of that partition, each half is
also predicted by a choice made on the other half alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from emibook import InputError
from emibook.device import native_precision, on_device, seeded
from emibook.metrics import pearson
from emibook.models import Branch
from emibook.sequences.packed import Feed, Sequences
from emibook.training.checkpoint import (
    ALL,
    HALVES,
    LOG,
    WEIGHTS,
    TrainingState,
    claim,
    finish_training,
    load_model,
    training_states,
)
from emibook.training.microbatch import gradient, predict
from emibook.training.optimizer import Learner
from emibook.training.partitions import Partitions, statistics
from emibook.training.recipe import Recipe, TrainingConfig

__all__ = ["HALVES", "LOG", "Recipe", "TrainingConfig", "Partitions", "epochs", "load_model", "on_epoch_end", "predict",
           "train"]

on_epoch_end: ContextVar[Callable[[list[dict]], None]] = ContextVar("on_epoch_end", default=lambda rows: None)
"""Called after every epoch with the rows of ``log.csv`` so far. A notebook that waits for a training sets it
(``live_curves``): between the two lie a table's rows and runs, which know nothing of it."""


def train(
    partitions: Partitions, config: TrainingConfig, folder: Path | str, *, device: str | None = None,
    progress: bool = True,
) -> Path:
    """Train one branch and keep the weights of the epoch with the best mean correlation on the validation clips.

    ``folder`` gets ``weights.safetensors``, ``training.json`` (the recipe, the seed and the numbers that build the
    model) and ``log.csv`` (one row per epoch). Where the process is killed, the next call resumes after the last whole
    epoch and ends with the same numbers; a finished training is left as it is. Empty clips are not trained on.

    Args:
        partitions: what is trained on and what chooses. With halves, ``folder`` gets ``halves.csv`` too: each
            validation clip predicted where the other half alone chose learning rate and epoch. This costs further
            epochs only from where the halves would continue with different learning rates.
        config: recipe, seed and model.
        device: ``cpu`` or ``cuda``; by default a GPU where there is one.

    Returns:
        ``folder``.

    Raises:
        InputError: a feature that is not finite, a loss that is no longer finite, bfloat16 where the hardware does not
            compute in it, or a folder that holds a training with other settings.
    """
    recipe, device, folder = config.recipe, on_device(device), Path(folder)
    if recipe.precision == "bfloat16" != native_precision(device):
        raise InputError(f"device {device} has no bfloat16 of its own, so it would be slow; take float32 or native")
    folder.mkdir(parents=True, exist_ok=True)
    with seeded(config.seed, device), _threads(recipe.threads):
        model = config.build(partitions.train)
        claim(folder, model, partitions, config)
        if (folder / WEIGHTS).is_file():
            return folder
        learner = Learner.of(standardised(model, partitions.train, recipe, device), recipe)
        feeds = Feed(partitions.train, device), Feed(partitions.valid, device)
        for state in training_states(folder, learner, recipe.learning_rate, partitions.halves is not None):
            run_epochs(state, partitions, feeds, config, progress)
        finish_training(folder, partitions)
    return folder


def run_epochs(
    state: TrainingState, partitions: Partitions, feeds: tuple[Feed, Feed], config: TrainingConfig, progress: bool
) -> None:
    """Train and score epoch after epoch, from the first that ``state`` lacks to the recipe's last.

    ``feeds`` are those of the training and the validation partition.
    """
    train, valid, learner = partitions.train, partitions.valid, state.learner
    label = f"{train.features}, seed {config.seed}" + ("" if state.name == ALL else f", {state.name} half")
    first = len(state.rows)
    losses = epochs(learner, feeds[0], np.flatnonzero(train.present), config, first)
    bar = tqdm(losses, desc=label, initial=first, total=config.recipe.epochs, disable=not progress)
    started = time.perf_counter()
    for epoch, loss in enumerate(bar, first + 1):
        if not math.isfinite(loss):
            raise _nonfinite_error(train, f"{label}: the loss is not finite in epoch {epoch}", config.recipe)
        predicted = predict(learner.scored, valid, feed=feeds[1])  # (clip, target)
        if not np.isfinite(predicted).all():
            raise _nonfinite_error(valid, f"{label}: a prediction is not finite in epoch {epoch}", config.recipe)
        rho = pearson(valid.targets, predicted, names=valid.target_names)  # (target,)
        row = {
            "epoch": epoch,
            "loss": loss,
            "learning_rate": learner.optimizer.param_groups[0]["lr"],
            "mean_pearson": float(np.mean(rho)),
            **{f"pearson {name}": float(value) for name, value in zip(valid.target_names, rho, strict=True)},
            "seconds": round(time.perf_counter() - started, 4),
        }
        state.finish_epoch(row, predicted, partitions, config.recipe.patience)
        if state.name == ALL:
            on_epoch_end.get()(state.rows)
        started = time.perf_counter()  # writing the checkpoint is no part of an epoch's seconds


def epochs(
    learner: Learner, feed: Feed, clips: np.ndarray, config: TrainingConfig, first: int = 0
) -> Iterator[float]:
    """The loop that trains: each item is one more epoch, and is its mean loss; from epoch ``first``, counted from 0.

    ``clips`` are the indices of those trained on in the partition of ``feed``.
    """
    model, recipe = learner.model, config.recipe
    for epoch in range(first, recipe.epochs):
        # Everything random in an epoch comes from (seed, epoch), so an epoch is the same whatever came before it.
        rng = np.random.default_rng([config.seed, epoch])
        order = rng.permutation(clips)
        torch.manual_seed(int(rng.integers(2**63)))
        model.train()
        total = torch.zeros((), device=feed.device)
        for start in range(0, len(order), recipe.batch):
            batch = order[start : start + recipe.batch]  # (clip,); the last may be smaller, no clip is dropped
            learner.optimizer.zero_grad()
            # (clip,) -> values (clip, time, feature) -> output (clip, target) -> loss ()
            total += gradient(model, feed, batch, recipe) * len(batch)
            learner.step()
        yield total.item() / len(order)


def standardised(model: Branch, train: Sequences, recipe: Recipe, device: str) -> Branch:
    """``model`` on ``device``, with the training partition's means and scales where the recipe standardises."""
    mean, scale, target_mean = (torch.from_numpy(numbers) for numbers in statistics(train, device))
    if not recipe.standardise:
        mean, scale = torch.zeros_like(mean), torch.ones_like(scale)
    model.standardise(mean, scale, target_mean)
    return model.to(device)


def _nonfinite_error(sequences: Sequences, message: str, recipe: Recipe) -> InputError:
    """Why numbers are no longer finite: a feature was not, or else the steps are too large."""
    feature = sequences.first_nonfinite()
    if feature:
        return InputError(f"{feature}; make the set again")
    return InputError(f"{message}; lower the learning rate {recipe.learning_rate}")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """``count`` torch threads inside, where it is given; the number from before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
