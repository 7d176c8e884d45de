"""Measures of our networks, their training, the late fusion and the metric. Each runs the code."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from emibook import InputError
from emibook.device import seeded
from emibook.experiments.recipes import RECIPES
from emibook.experiments.variants import MODELS
from emibook.fusion import late_fusion
from emibook.metrics import mean_pearson, pearson
from emibook.models import TCN, IntensityRegressor
from emibook.models.tcn import causal
from emibook.sequences.load import modality
from emibook.sequences.packed import Sequences
from emibook.training import loop
from emibook.training.loop import Partitions, Recipe, TrainingConfig, train

CLIPS, TARGETS = 12, 6
FLAT = 1e-30  # a learning rate that changes no weight, so that the metric stays the same
PATIENCE = 10


@functools.cache
def _branch(modality: str) -> IntensityRegressor:
    """The paper's branch of a modality, as runs build it, with weights from a seed."""
    options = {key: value for key, value in MODELS[modality].items() if key != "kind"}
    width = {"V": 546, "A": 1024}[modality]
    with seeded(0):
        return IntensityRegressor(width, **options).eval()


@functools.cache
def _values(features: int, steps: int = 120) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(features).normal(size=(1, steps, features)).astype(np.float32))


def _layer() -> nn.Conv1d:
    """The second layer of the paper's TCN, whose dilation is not one."""
    return _branch("A").tcn.convolutions[1]


@torch.inference_mode()
def _steps_changed_before() -> int:
    """Steps before a change of the input at which the TCN's output changes too."""
    tcn, values = _branch("A").tcn, _values(1024).clone()
    before = tcn(values)
    values[0, 80] += 1
    changed = (tcn(values) - before)[0].abs().amax(dim=1) > 1e-6
    return int(changed[:80].sum())


@functools.cache
def _steps_depended_on() -> int:
    """How many steps of its input a step of the TCN's output depends on: those with a gradient."""
    values = _values(1024).clone().requires_grad_()
    _branch("A").tcn(values)[0, 100].sum().backward()
    return int((values.grad[0].abs().amax(dim=1) > 0).sum())


def _plain() -> TCN:
    """Two layers of one channel, all weights 1 and biases 0.1."""
    with seeded(3):
        tcn = TCN(1, channels=1, layers=2).eval()
    for layer in tcn.convolutions:
        nn.init.constant_(layer.weight, 1.0)
        nn.init.constant_(layer.bias, 0.1)
    return tcn


def _taps() -> int:
    """How many steps of its input a layer reads: those with a gradient."""
    tcn, values = _plain(), torch.ones(1, 50, 1, requires_grad=True)
    causal(tcn.convolutions[0], values)[0, 40, 0].backward()
    return int((values.grad[0, :, 0] != 0).sum())


@torch.inference_mode()
def _layer_follows_equation() -> bool:
    """Whether ``_plain`` equals the sums and maxima written out."""
    values = torch.randn(1, 30, 1, generator=torch.Generator().manual_seed(1))
    expected = np.pad(values[0, :, 0].numpy().astype(float), (2, 0))
    expected = np.maximum(expected[2:] + expected[1:-1] + expected[:-2] + 0.1, 0)
    expected = np.pad(expected, (4, 0))
    expected = np.maximum(expected[4:] + expected[2:-2] + expected[:-4] + 0.1, 0)
    return bool(np.allclose(_plain()(values)[0, :, 0].numpy(), expected, atol=1e-5))


@torch.inference_mode()
def _widths_apart() -> int:
    one, other = (_branch(kind).tcn(_values(width)).shape[-1] for kind, width in (("V", 546), ("A", 1024)))
    return abs(one - other)


@torch.inference_mode()
def _ffn_follows_equation_3() -> bool:
    ffn = _branch("V").ffn
    layers = [layer for layer in ffn if isinstance(layer, nn.Linear)]
    if len(layers) != 2:
        return False
    first, second = layers
    inputs = torch.randn(3, first.in_features, generator=torch.Generator().manual_seed(2))
    expected = torch.relu(inputs @ first.weight.T + first.bias) @ second.weight.T + second.bias
    return torch.allclose(ffn(inputs), expected, atol=1e-5)


@torch.inference_mode()
def _outputs(kind: str, width: int) -> int:
    return _branch(kind)(_values(width), torch.ones(1, 120)).shape[-1]


@torch.inference_mode()
def _pooled(how: str) -> np.ndarray:
    """The acoustic branch's six outputs, its steps pooled in the given way."""
    branch, values = _branch("A"), _values(1024)
    if how == "ours":
        return branch(values, torch.ones(1, 120))[0].numpy()
    hidden = branch.tcn(values)
    pooled = {"mean": hidden.mean(dim=1), "last": hidden[:, -1], "largest": hidden.amax(dim=1)}[how]
    return branch.ffn(pooled)[0].numpy()


def _one_run_may_hold_both() -> bool:
    try:
        modality("resnet18+mfcc")
    except InputError:
        return False
    return True


def _ffns_of_two_branches() -> int:
    """The number of different weights among the feedforward networks of both branches."""
    return len({id(_branch(kind).ffn[0].weight) for kind in ("V", "A")})


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """(clip, emotion) random labels and predictions."""
    rng = np.random.default_rng(7)
    return rng.random((40, TARGETS)), rng.random((40, TARGETS))


def _written_pearson() -> np.ndarray:
    """Equation (9), as printed."""
    truth, predicted = (table - table.mean(axis=0) for table in _tables())
    covariance = (truth * predicted).mean(axis=0)
    return covariance / np.sqrt((truth**2).mean(axis=0) * (predicted**2).mean(axis=0))


def _average_apart() -> float:
    one, other = _tables()
    return float(np.abs(late_fusion(one, other) - (one + other) / 2).max())


def _loss_over_emotions() -> float:
    """Equation (7) where i runs over the six emotions of a clip, then the mean over clips."""
    truth, predicted = _tables()
    return float(np.mean([np.sum((y - p) ** 2) / TARGETS for y, p in zip(truth, predicted, strict=True)]))


def _loss_over_samples() -> float:
    """Equation (7) where i runs over the clips, each with its vector of six."""
    truth, predicted = _tables()
    return float(sum(np.sum((y - p) ** 2) for y, p in zip(truth, predicted, strict=True)) / len(truth))


@dataclass(frozen=True)
class FlatTraining:
    """A training whose weights do not change: its log, the mean square of its errors, and the optimizers' classes."""

    log: pandas.DataFrame
    mean_square: float
    optimizers: frozenset[str]


@functools.cache
def _flat_training() -> FlatTraining:
    rng = np.random.default_rng(0)

    def partition(name: str) -> Sequences:
        values = rng.normal(size=(CLIPS * 2, 4)).astype(np.float16)
        targets = rng.random((CLIPS, TARGETS)).astype(np.float32)
        clips = tuple(f"{name}{number}" for number in range(CLIPS))
        names = tuple(f"feature {number}" for number in range(4))
        emotions = tuple(f"emotion {number}" for number in range(TARGETS))
        return Sequences("made", names, values, np.arange(CLIPS + 1) * 2, targets, emotions, clips, clips, ("made",))

    parts = partition("t"), partition("v")
    recipe = Recipe("flat", learning_rate=FLAT, batch=CLIPS, epochs=PATIENCE + 2, patience=PATIENCE, threads=1)
    optimizers: set[str] = set()
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: optimizers.add(type(optimizer).__name__))
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = TrainingConfig(recipe, model={"kind": "linear"})
            train(Partitions(*parts), config, Path(folder) / "run", device="cpu", progress=False)
            log = pandas.read_csv(Path(folder) / "run" / loop.LOG)
            predicted = loop.predict(loop.load_model(Path(folder) / "run"), parts[0])
    finally:
        hook.remove()
    squares = (parts[0].targets.astype(float) - predicted) ** 2
    return FlatTraining(log, float(squares.mean()), frozenset(optimizers))


def _rate_after_flat_epochs() -> float:
    """The learning rate after ``PATIENCE`` epochs without an improvement, as a share of the initial one."""
    rates = _flat_training().log["learning_rate"].to_numpy()
    return float(rates[PATIENCE + 1] / rates[0]) if rates[PATIENCE] == rates[0] else float("nan")


def _logged_loss_apart() -> float:
    return abs(float(_flat_training().log["loss"].iloc[-1]) - _flat_training().mean_square)


def _optimizer() -> str:
    """The classes of the optimizers that take the steps of a training."""
    return ", ".join(sorted(_flat_training().optimizers))


def _recurrent_layers() -> int:
    return sum(isinstance(module, nn.RNNBase | nn.RNNCellBase) for kind in "VA" for module in _branch(kind).modules())


MEASURES: dict[str, Callable[[], Any]] = {
    "tcn_kernel": lambda: _branch("A").tcn.kernel_size,
    "tcn_layers": lambda: len(_branch("A").tcn.convolutions),
    "tcn_receptive_field": _steps_depended_on,
    "tcn_steps_changed_before_a_change": _steps_changed_before,
    "tcn_layer_is_relu_of_weights_and_bias": _layer_follows_equation,
    "taps_of_a_tcn_layer": _taps,
    "tcn_width_visual_less_acoustic": _widths_apart,
    "visual_branch_has_transformer": lambda: _branch("V").transformer is not None,
    "acoustic_branch_has_transformer": lambda: _branch("A").transformer is not None,
    "transformer_blocks": lambda: len(_branch("V").transformer.blocks),
    "transformer_heads": lambda: _branch("V").transformer.blocks[0].attention.heads,
    "width_transformer": lambda: _branch("V").transformer.blocks[0].attention.project_out.out_features,
    "recurrent_layers": _recurrent_layers,
    "ffn_follows_equation_3": _ffn_follows_equation_3,
    "outputs_visual": lambda: _outputs("V", 546),
    "outputs_acoustic": lambda: _outputs("A", 1024),
    "pooled_by_mean": lambda: _pooled("mean"),
    "pooled_by_last": lambda: _pooled("last"),
    "pooled_by_largest": lambda: _pooled("largest"),
    "pooled_by_our_branch": lambda: _pooled("ours"),
    "ffns_of_two_branches": _ffns_of_two_branches,
    "one_run_may_hold_both_modalities": _one_run_may_hold_both,
    "late_fusion_less_average": _average_apart,
    "logged_loss_less_mean_square": _logged_loss_apart,
    "loss_over_emotions": _loss_over_emotions,
    "loss_over_samples": _loss_over_samples,
    "mean_pearson_less_equation_8": lambda: float(abs(mean_pearson(*_tables()) - sum(_written_pearson()) / TARGETS)),
    "pearson_less_equation_9": lambda: float(np.abs(pearson(*_tables()) - _written_pearson()).max()),
    "framework": lambda: type(_branch("A")).__mro__[-2].__module__.split(".")[0],
    "optimizer": _optimizer,
    "recipe_rate": lambda: RECIPES["paper"].learning_rate,
    "recipe_batch": lambda: RECIPES["paper"].batch,
    "recipe_patience": lambda: RECIPES["paper"].patience,
    "rate_after_ten_flat_epochs": _rate_after_flat_epochs,
}
"""Measures by name; a claim gives the name and the paper's value."""
