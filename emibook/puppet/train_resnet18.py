"""Trains the built-in ResNet-18 on stills, through a linear layer that is then dropped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from emibook.device import native_precision, seeded
from emibook.features.action_units import MAX_INTENSITY
from emibook.features.resnet18 import builtin_input, resnet18_trunk
from emibook.puppet.stills import SEED, Stills

COMPONENTS_WEIGHT = 2.0  # of their error, beside that of action units and emotions
READOUT = 2500  # stills at most: that principal components and the linear readout are fitted on
PATCHES_FROM = 200  # stills at most, for the first convolution


@dataclass(frozen=True)
class FitRecipe:
    """How many stills are rendered and how long is trained.

    Steps are fixed, never a clock, so that a repeated fit gives the same numbers. ``people`` are rendered, each on
    ``stills.STILLS`` stills; ``held_out`` of them are only scored. ResNet-18 takes ``steps`` steps, each on a batch of
    ``batch`` stills, while its learning rate rises to ``learning_rate`` and falls to zero. It predicts ``components``
    numbers for each still besides action units and emotions.
    """

    people: int = 400
    held_out: int = 60
    steps: int = 880
    batch: int = 16
    learning_rate: float = 3e-3
    components: int = 256


def train(
    stills: Stills, dense: np.ndarray, recipe: FitRecipe, progress: bool
) -> tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Train the trunk to predict action units, emotions and ``dense`` (still, component), through a linear layer.

    The components are the principal ones of the histograms that ``aus`` reads. Seventeen sparse numbers tell a network
    little about a picture; these tell it where everything in a face is, and the trunk learns units several times as
    fast. Source: Wei et al. (2022), arXiv 2112.09133, for histograms of gradients as what a network is to predict.
    It reads reduced pictures (``builtin_input``), and of each stage only the first residual block is trained, while the
    second stays the identity: in the same time, twice as many steps of half the depth reach more.

    Returns:
        The trunk's state, and the function from images (face, 112, 112, 3) uint8 to features (face, 512).
    """
    labels = torch.from_numpy(np.concatenate([stills.units / MAX_INTENSITY, stills.emotions], axis=1))
    truth = torch.cat([labels, torch.from_numpy(dense)], dim=1)
    truth = (truth - truth.mean(0)) / truth.std(0).clamp_min(1e-3)
    images, rng = torch.from_numpy(stills.images), np.random.default_rng(SEED)
    with repeatable():
        trunk, identities = _trunk(images)
        model = nn.Sequential(trunk, nn.Linear(512, truth.shape[1])).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.15, cycle_momentum=False)
        batches = tqdm(_batches(len(stills), recipe.batch, recipe.steps, rng), desc="fit resnet18",
                       total=recipe.steps, disable=not progress)
        for rows in batches:
            pixels = mirrored(builtin_input(images[rows]), rng)
            error = functional.mse_loss(_run(model, pixels), truth[rows], reduction="none")
            count = labels.shape[1]
            loss = error[:, :count].mean() + COMPONENTS_WEIGHT * error[:, count:].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    trunk.eval()

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        with repeatable():
            parts = torch.from_numpy(images).split(64)
            return torch.cat([_run(trunk, builtin_input(part)) for part in parts]).numpy()

    state = {key: value.contiguous().numpy() for key, value in (trunk.state_dict() | identities).items()}
    return state, features


@contextmanager
def repeatable() -> Iterator[None]:
    """The same random numbers and number of threads whoever calls, and the caller's own afterwards."""
    threads = torch.get_num_threads()
    with seeded(SEED):
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _trunk(images: Tensor) -> tuple[nn.Module, dict[str, Tensor]]:
    """The trunk to train, without the second block of each stage, and the state of these: the identity."""
    trunk = resnet18_trunk()
    state = {key: torch.zeros_like(value) for key, value in trunk.state_dict().items() if key.split(".")[1] == "1"}
    state |= {key: torch.ones_like(value) for key, value in state.items() if key.endswith("running_var")}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        first = getattr(trunk, name)[0]
        nn.init.zeros_(first.bn2.weight)  # a block begins as its shortcut
        setattr(trunk, name, nn.Sequential(first))
    trunk.conv1.weight.data = whitening(builtin_input(images[:: -(-len(images) // PATCHES_FROM)]))
    return trunk, state


def _run(network: nn.Module, images: Tensor) -> Tensor:
    # Not around several steps: inside, autocast goes on with the weights that it has cast once.
    with torch.autocast("cpu", torch.bfloat16, enabled=native_precision("cpu") == "bfloat16"):
        return network(images.contiguous(memory_format=torch.channels_last)).float()


def _batches(count: int, batch: int, steps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row numbers for each step: every row once before any comes again."""
    order = np.zeros(0, int)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, rng.permutation(count)])
        yield order[:batch]
        order = order[batch:]


def components(inputs: np.ndarray, count: int) -> np.ndarray:
    """(sample, component) the first principal components of ``inputs`` (sample, feature), which are centred in place.

    They are fitted on ``READOUT`` of the samples, evenly taken.
    """
    inputs -= inputs.mean(0)
    some = inputs[:: -(-len(inputs) // READOUT)]
    _, vectors = np.linalg.eigh(some @ some.T)
    return inputs @ (some.T @ vectors[:, ::-1][:, :count])


def whitening(pixels: Tensor) -> Tensor:
    """(64, 3, 7, 7) first convolution that makes the patches of ``pixels`` (face, 3, height, width) white.

    The 32 strongest principal directions of patches, scaled to one variance, and their negatives, because what follows
    keeps the positive side only. Source: Jordan (2024), arXiv 2404.00498, who initialises a first layer so.
    """
    patches = functional.unfold(pixels, 7, stride=3).transpose(1, 2).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    strongest = (vectors / (values.clamp_min(0) + 1e-2).sqrt()).T.flip(0)[:32].reshape(32, 3, 7, 7).float()
    return torch.cat([strongest, -strongest])


def mirrored(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """(face, 3, height, width): about half of them mirrored, because the units are of both sides."""
    chosen = torch.from_numpy(rng.random(len(batch)) < 0.5)
    return torch.where(chosen[:, None, None, None], batch.flip(-1), batch)
