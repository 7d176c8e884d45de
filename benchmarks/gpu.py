"""What both tables take on a GPU: every branch timed on noise of its width. ``train.py`` prints it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from noise import noise

from emibook.experiments.paper_rows import chosen_rows
from emibook.experiments.recipes import RECIPES
from emibook.experiments.variants import BASE, BASELINE
from emibook.studies.simulation.features import CLIPS, MODALITY, WIDTHS
from emibook.training import Partitions, Recipe, TrainingConfig, train

SEEDS, TIMED = 5, (2, 5)  # of the tables; epochs of the two trainings from which a run's time is computed


def finished(device: str) -> None:
    """Wait until the device has computed everything."""
    if device == "cuda":
        torch.cuda.synchronize()


def run_seconds(few: float, more: float, epochs: int) -> float:
    """Seconds of a run, from those of trainings of ``TIMED`` epochs: a start, and the same for every epoch."""
    epoch = (more - few) / (TIMED[1] - TIMED[0])
    return few + (epochs - TIMED[0]) * epoch


def longest(recipe: Recipe) -> float:
    """How many times as many epochs a run has at most, where both halves are forked as early as they can be."""
    return 1 + 2 * max(0, recipe.epochs - recipe.patience - 1) / recipe.epochs


def timed_branch(branch: str, clips: tuple[int, int], device: str) -> tuple[float, float]:
    """Seconds of trainings of ``TIMED`` epochs on noise of a branch's width, after one that warms up."""
    sets = branch.removesuffix(BASELINE).split("+")
    kind = MODALITY[sets[0]] + (BASELINE if branch.endswith(BASELINE) else "")
    parts = [noise(count, sum(WIDTHS[name] for name in sets)) for count in clips]
    seconds = []
    for epochs in (1, *TIMED):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            config = TrainingConfig(replace(RECIPES["paper"], epochs=epochs), 0, BASE.model_of(kind))
            train(Partitions(*parts, np.arange(clips[1]) % 2), config, folder, device=device, progress=False)
            seconds.append(time.perf_counter() - started)
    return seconds[1], seconds[2]


def tables_report(clips: tuple[int, int] = (CLIPS["train"], CLIPS["valid"]), device: str = "cuda") -> Iterator[str]:
    """The lines on both tables: every branch timed, and what all runs together then take."""
    recipe = RECIPES["paper"]
    branches = dict.fromkeys(branch for table in chosen_rows() for row in table for branch in row.branches)
    yield f"GPU: {'branch':<20} {'s an epoch':>11} {'s a run':>9}   (runs of {recipe.epochs} epochs)"
    total = 0.0
    for branch in branches:
        few, more = timed_branch(branch, clips, device)
        run = run_seconds(few, more, recipe.epochs)
        total += SEEDS * run
        yield f"GPU: {branch:<20} {(more - few) / (TIMED[1] - TIMED[0]):>11.3f} {run:>9.1f}"
    yield (
        f"GPU: every row of both tables, {SEEDS} seeds, one run after the other: {total / 60:.1f} minutes, computed "
        f"from trainings of {TIMED[0]} and {TIMED[1]} epochs (every further epoch the same); at most "
        f"{longest(recipe) * total / 60:.1f} where the halves are forked as early as they can be; reading files, "
        f"test predictions and intervals left out"
    )


NOT_MEASURED = (
    "GPU: an epoch of ours and of plain: not measured yet (no GPU here)",
    f"GPU: every row of both tables, {SEEDS} seeds, {RECIPES['paper'].epochs} epochs a run: not measured yet (no GPU "
    "here)",
)
