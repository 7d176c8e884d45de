"""What bounds a training's epoch on a GPU, and what both tables take there. ``train.py`` prints it.

Three things take an epoch's time. Each is counted, and measured alone on the same GPU:

    matrix products    their floating-point operations (``operations``)    two large matrices multiplied, in bfloat16
    memory             what its operators read and write (``Counted``)     a large tensor copied
    the host           the operators that it starts (``Counted``)          an operator on one number, many times over

A count over its rate is what the epoch would take if nothing else took any time; as a part of what the epoch does take
it is a share, and ``bound`` says what follows from the three.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from noise import noise
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from emibook.experiments.paper_rows import chosen_rows
from emibook.experiments.recipes import RECIPES
from emibook.experiments.variants import BASE, BASELINE
from emibook.models import Branch
from emibook.models.transformer import SelfAttention
from emibook.sequences.packed import Feed, Sequences
from emibook.studies.simulation.features import CLIPS, MODALITY, WIDTHS
from emibook.training.loop import Recipe, gradient, train

SIDE, COPIED, STARTED = 8192, 2**30, 2000  # of the matrices, bytes, operators
FREE = ("_unsafe_view", "empty", "empty_like", "empty_strided", "lift_fresh", "unsafe_split")
"""Operators that touch no element, beside those that PyTorch itself calls views."""
PICKING = ("index_select", "gather", "index")  # read as much as they write, not all of what they pick from
MATRIX, MEMORY, HOST = "matrix products", "memory", "the host"
MOST = 0.5
SEEDS, TIMED = 5, (2, 5)  # of the tables; epochs of the two trainings that a run is reckoned from


def operations(model: Branch, clips: int, steps: int) -> int:
    """Floating-point operations of a training step's matrix products, for ``clips`` padded to ``steps``.

    A weight is multiplied and added once for every step, behind the pooling once for every clip; the way back does the
    same for the weight's gradient, and again for that of its input, which the first layer does without. The two
    products of attention, all steps with all steps, come back as four. What a kernel computes twice to save memory is
    counted once.
    """
    weights = [(name, weight.numel()) for name, weight in model.named_parameters() if weight.ndim > 1]
    total = 0
    for number, (name, size) in enumerate(weights):
        rows = clips if name.startswith(("ffn.", "output.")) else clips * steps
        total += (4 if number == 0 else 6) * rows * size
    widths = [module.width for module in model.modules() if isinstance(module, SelfAttention)]
    return total + sum(12 * clips * steps**2 * width for width in widths)


class Counted(TorchDispatchMode):
    """Counts the operators that run inside it on a ``device``, and the bytes that they read and write.

    Every operator is taken to fetch its inputs from memory and to leave its results there. A cache that keeps something
    from one operator to the next makes the true bytes fewer.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.operators, self.bytes = device, 0, 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        made = operator(*args, **(kwargs or {}))
        name = operator.name().removeprefix("aten::").partition(".")[0]
        if operator.is_view or name in FREE:
            return made
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        left = [each for each in tree_leaves(made) if isinstance(each, torch.Tensor)]
        if any(each.device.type == self.device for each in (*given, *left)):
            new = sum(_bytes(each) for each in left if not any(each is other for other in given))
            read = 2 * new if name in PICKING else new + sum(map(_bytes, given))
            self.operators += 1
            self.bytes += read + sum(map(_bytes, _changed(operator, args, kwargs or {})))
        return made


def _changed(operator, args: tuple, kwargs: dict) -> Iterator[torch.Tensor]:
    """The tensors that an operator writes into."""
    for number, argument in enumerate(operator._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[number] if number < len(args) else kwargs.get(argument.name)
            yield from (each for each in tree_leaves(value) if isinstance(each, torch.Tensor))


def _bytes(tensor: torch.Tensor) -> int:
    """In memory: what is repeated by a stride of zero is there once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(side for side, stride in sides if stride or not side) * tensor.element_size()


class Noted(Feed):
    """A feed that keeps in mind the shape, (clips, steps), of every batch that it gave."""

    def batch(self, clips: np.ndarray, multiple: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``Feed``'s."""
        values, mask = super().batch(clips, multiple)
        self.shapes = [*getattr(self, "shapes", []), tuple(mask.shape)]
        return values, mask


def counts(model: Branch, part: Sequences, recipe: Recipe, device: str) -> dict[str, float]:
    """An epoch's operations of matrix products, bytes and operators; ``padding``, the share of steps that are none."""
    feed, model = Noted(part, device), model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    order = np.random.default_rng(0).permutation(len(part))
    with Counted(device) as counted:
        for first in range(0, len(part), recipe.batch):
            optimizer.zero_grad()
            gradient(model, feed, order[first : first + recipe.batch], recipe)
            optimizer.step()
    return {
        MATRIX: sum(operations(model, *shape) for shape in feed.shapes),
        MEMORY: counted.bytes,
        HOST: counted.operators,
        "padding": 1 - part.lengths.sum() / sum(math.prod(shape) for shape in feed.shapes),
    }


def rates(device: str) -> dict[str, float]:
    """What the device does in a second: operations of a matrix product, bytes of a copy, operators on one number."""
    matrix = torch.randn(SIDE, SIDE, device=device, dtype=torch.bfloat16)
    large = torch.zeros(COPIED, device=device, dtype=torch.uint8)
    other, one = torch.empty_like(large), torch.zeros(1, device=device)

    def many() -> None:
        for _ in range(STARTED):
            one.add_(1)

    return {
        MATRIX: 2 * SIDE**3 / seconds(lambda: matrix @ matrix, device),
        MEMORY: 2 * COPIED / seconds(lambda: other.copy_(large), device),
        HOST: STARTED / seconds(many, device),
    }


def seconds(function: Callable[[], object], device: str, times: int = 20) -> float:
    """What one call takes, of so many after one that warms up."""
    function()
    finished(device)
    started = time.perf_counter()
    for _ in range(times):
        function()
    finished(device)
    return (time.perf_counter() - started) / times


def finished(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def bound(shares: dict[str, float]) -> str:
    """What bounds an epoch: what has the largest share, if that is half of the time or more; else no one thing."""
    largest = max(shares, key=shares.__getitem__)
    return largest if shares[largest] >= MOST else "none of them alone: they wait for each other"


def told_epoch(model: Branch, part: Sequences, recipe: Recipe, took: float, device: str = "cuda") -> list[str]:
    """The lines on what bounds an epoch that ``took`` so many seconds."""
    counted, rate = counts(model, part, recipe, device), rates(device)
    shares = {name: counted[name] / rate[name] / took for name in (MATRIX, MEMORY, HOST)}
    return [
        f"GPU: measured alone {rate[MATRIX] / 1e12:.3g} TFLOP/s, {rate[MEMORY] / 1e12:.3g} TB/s, "
        f"{rate[HOST] / 1e3:.3g} thousand operators/s; an epoch counts {counted[MATRIX] / 1e12:.3g} TFLOP, "
        f"{counted[MEMORY] / 1e12:.3g} TB, {counted[HOST] / 1e3:.3g} thousand operators; "
        f"{counted['padding']:.0%} of its steps are padding",
        f"GPU: share of an epoch's time: {', '.join(f'{name} {share:.1%}' for name, share in shares.items())}; "
        f"bound by {bound(shares)}",
    ]


def run_seconds(few: float, more: float, epochs: int) -> float:
    """A run of so many epochs, from what trainings of ``TIMED`` epochs took: a start, and the same for every epoch."""
    epoch = (more - few) / (TIMED[1] - TIMED[0])
    return few + (epochs - TIMED[0]) * epoch


def longest(recipe: Recipe) -> float:
    """How many times as many epochs a run has at most, where both halves part from the whole as early as they can."""
    return 1 + 2 * max(0, recipe.epochs - recipe.patience - 1) / recipe.epochs


def timed_branch(branch: str, clips: tuple[int, int], device: str) -> tuple[float, float]:
    """Seconds of trainings of ``TIMED`` epochs on noise of a branch's width, after one that warms up."""
    sets = branch.removesuffix(BASELINE).split("+")
    kind = MODALITY[sets[0]] + (BASELINE if branch.endswith(BASELINE) else "")
    parts = [noise(count, sum(WIDTHS[name] for name in sets)) for count in clips]
    took = []
    for epochs in (1, *TIMED):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            train(*parts, replace(RECIPES["paper"], epochs=epochs), 0, folder, model=BASE.model_of(kind),
                  halves=np.arange(clips[1]) % 2, device=device, progress=False)
            took.append(time.perf_counter() - started)
    return took[1], took[2]


def told_tables(clips: tuple[int, int] = (CLIPS["train"], CLIPS["valid"]), device: str = "cuda") -> Iterator[str]:
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
        f"GPU: every row of both tables, {SEEDS} seeds, one run after the other: {total / 60:.1f} minutes, reckoned "
        f"from trainings of {TIMED[0]} and {TIMED[1]} epochs (every further epoch the same); at most "
        f"{longest(recipe) * total / 60:.1f} where the choices on halves part from the whole at once; reading files, "
        f"test predictions and intervals left out"
    )


NOT_MEASURED = (
    "GPU: an epoch of ours and of plain, shares of the measured matrix rate, bandwidth and operators, and what bounds "
    "it: not measured yet (no GPU here)",
    f"GPU: every row of both tables, {SEEDS} seeds, {RECIPES['paper'].epochs} epochs a run: not measured yet (no GPU "
    "here)",
)
