"""Fits the built-in encoders, ``resnet18`` and ``aus``, on stills of drawn faces.

The stills go through the same detector and alignment as any video. Both encoders share one set of them, drawn once
into ``ENCODERS/stills-<version>``. They stand in for encoders trained on photographs (AffectNet, OpenFace's data) so
that every stage runs without a download, and say nothing about people.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from scipy import linalg
from tqdm.auto import tqdm

from emibook import InputError
from emibook.compute import Resources
from emibook.features.action_units import DESCRIPTION, MAX_INTENSITY, NAMES, PRESENT, UNITS, describe
from emibook.features.weights import Weights, file_fingerprint
from emibook.metrics import pearson
from emibook.puppet.stills import SEED, VERSION, Stills, aligned, draw, write_whole

__all__ = ["FITS", "VERSION", "Recipe", "Stills", "aligned", "draw", "fit", "ready", "ridge"]

PENALTIES = tuple(10.0**power for power in np.arange(-2.5, 1.5, 0.5))  # shares of the inputs' mean squared length
FOLDS = 3  # of the cross-validation that chooses a penalty
COMPONENTS_WEIGH = 2.0  # what is missed of them, beside what is missed of units and emotions
READ_ON = 2500  # stills at most: that principal components and ResNet-18's linear readout are found on
PATCHES_FROM = 200  # stills at most, for the first convolution
FEWEST = 3  # stills to fit on, and to score
NOTE = "fitted on drawings; says nothing about people"


@dataclass(frozen=True)
class Recipe:
    """How much is drawn and how long is trained: fixed steps, never a clock, so that a repeat gives the same numbers.

    ``people`` are drawn, each on ``stills.STILLS`` stills; ``held_out`` of them are only scored. ResNet-18 sees
    ``steps`` batches of ``batch`` stills, its learning rate rising to ``rate`` and falling to nothing, and is told
    ``components`` numbers a still besides units and emotions.
    """

    people: int = 480
    held_out: int = 60
    steps: int = 520
    batch: int = 32
    rate: float = 3e-3
    components: int = 256


def encoder(name: str, encoders: Path, *, resources: Resources = Resources()) -> Weights:  # noqa: B008 (frozen)
    """The weights of a built-in encoder, made ready in the folder ``encoders``: fitted where it has none."""
    return ready(name, encoders) or fit(name, encoders, workers=resources.workers, progress=resources.progress)


def ready(name: str, encoders: Path | str) -> Weights | None:
    """The built-in encoder in ``encoders``, or None where it has to be fitted first."""
    try:
        about = json.loads((Path(encoders) / f"{name}-builtin.json").read_text())
        weights = Weights(**about["weights"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return weights if about.get("version") == VERSION and (Path(encoders) / weights.file).is_file() else None


def fit(
    name: str,
    encoders: Path | str,
    recipe: Recipe | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Weights:
    """Fit ``resnet18`` or ``aus``, and write ``<name>-builtin.safetensors`` and ``.json`` into ``encoders``.

    The JSON holds the recipe, the number of stills, the seconds it took and the scores on stills of identities held
    out: Pearson's correlation with the true intensity of every action unit (and of every emotion, for ``resnet18``;
    with presence, for ``aus``). Raises ``InputError`` for a name that has no built-in encoder.
    """
    if name not in FITS:
        raise InputError(f"{name} has no built-in encoder; {' and '.join(FITS)} have")
    recipe, encoders = recipe or Recipe(), Path(encoders)
    stills = draw(encoders, recipe.people, workers=workers, progress=progress)
    training, held_out = (stills.of(stills.person >= recipe.held_out), stills.of(stills.person < recipe.held_out))
    if len(held_out) < FEWEST or len(training) < FEWEST:
        raise InputError(f"a face was found on {len(stills)} of {stills.drawn} drawn stills; {len(training)} to fit on "
                         f"and {len(held_out)} of the {recipe.held_out} people held out are too few")
    began = time.perf_counter()
    state, scores = FITS[name](training, held_out, recipe, progress)
    path = encoders / f"{name}-builtin.safetensors"
    write_whole(path, lambda temporary: save_file(state, temporary))
    weights = Weights("builtin", path.name, file_fingerprint(path))
    about = {
        "version": VERSION, "note": NOTE, "weights": asdict(weights), "recipe": asdict(recipe),
        "stills": {"people": recipe.people, "drawn": stills.drawn, "faces": len(stills), "training": len(training),
                   "held_out": len(held_out)},
        "fit_seconds": round(time.perf_counter() - began, 1), "pearson_on_held_out_identities": scores,
    }
    # Written last: an encoder without its description is no encoder.
    write_whole(path.with_suffix(".json"), lambda temporary: temporary.write_text(json.dumps(about, indent=1) + "\n"))
    return weights


def _batches(count: int, batch: int, steps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Row numbers for each step: every row once before any comes again."""
    order = np.zeros(0, int)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, rng.permutation(count)])
        yield order[:batch]
        order = order[batch:]


@contextmanager
def _repeatable() -> Iterator[None]:
    """The same random numbers and number of threads whoever calls, and the caller's own afterwards."""
    import torch

    from emibook.device import seeded

    threads = torch.get_num_threads()
    with seeded(SEED):
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _fit_resnet18(
    training: Stills, held_out: Stills, recipe: Recipe, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Train the trunk, through a linear layer that is then dropped, to tell action units, emotions and components.

    The components are the principal ones of the histograms that ``aus`` reads. Seventeen sparse numbers tell a network
    little about a picture; these tell it where everything in a face is, and the trunk learns units several times as
    fast. Source: Wei et al. (2022), arXiv 2112.09133, for histograms of gradients as what a network is to predict.
    The scores are those of a ridge regression on the trunk's features.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    from emibook.device import native_precision
    from emibook.features.image_encoder import imagenet_normalised
    from emibook.features.resnet18 import resnet18_trunk

    def targets(stills: Stills) -> np.ndarray:
        return np.concatenate([stills.units / MAX_INTENSITY, stills.emotions], axis=1)

    told = targets(training)
    dense = _components(_descriptions(training, "describe stills", progress), recipe.components)
    truth = torch.from_numpy(np.concatenate([told, dense], axis=1))
    truth = (truth - truth.mean(0)) / truth.std(0).clamp_min(1e-3)
    images, rng = torch.from_numpy(training.images), np.random.default_rng(SEED)
    fast = native_precision("cpu") == "bfloat16"

    def run(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        # Not around several steps: inside, autocast goes on with the weights that it has cast once.
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            return network(images.contiguous(memory_format=torch.channels_last)).float()

    with _repeatable():
        trunk, head = resnet18_trunk(), nn.Linear(512, truth.shape[1])
        for block in (block for layer in list(trunk.children())[4:8] for block in layer):
            nn.init.zeros_(block.bn2.weight)  # each block begins as the identity
        trunk.conv1.weight.data = _whitening(imagenet_normalised(images[:: -(-len(images) // PATCHES_FROM)]))
        model = nn.Sequential(trunk, head).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True, weight_decay=0.05)
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.15, cycle_momentum=False)
        batches = _batches(len(training), recipe.batch, recipe.steps, rng)
        for rows in tqdm(batches, desc="fit resnet18", total=recipe.steps, disable=not progress):
            answers = run(model, _mirrored(imagenet_normalised(images[rows]), rng))
            error = functional.mse_loss(answers, truth[rows], reduction="none")
            loss = error[:, : told.shape[1]].mean() + COMPONENTS_WEIGH * error[:, told.shape[1] :].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        trunk.eval()

        @torch.inference_mode()
        def features(images: np.ndarray) -> np.ndarray:
            parts = torch.from_numpy(images).split(recipe.batch)
            return torch.cat([run(trunk, imagenet_normalised(part)) for part in parts]).numpy()

        chosen = rng.permutation(len(training))[:READ_ON]
        slopes, offsets = ridge(features(training.images[chosen]), told[chosen], training.person[chosen] % FOLDS)
        predicted = features(held_out.images) @ slopes + offsets
    scores = pearson(targets(held_out), predicted)
    units, emotions = scores[: len(UNITS)], scores[len(UNITS) :]
    state = {key: value.contiguous().numpy() for key, value in trunk.state_dict().items()}
    return state, {"units": _named(units), "emotions": [round(float(score), 3) for score in emotions]}


def _components(inputs: np.ndarray, count: int) -> np.ndarray:
    """(sample, component) the first principal components of ``inputs`` (sample, feature), which are centred in place.

    They are found on ``READ_ON`` of the samples, evenly taken.
    """
    inputs -= inputs.mean(0)
    some = inputs[:: -(-len(inputs) // READ_ON)]
    _, vectors = np.linalg.eigh(some @ some.T)
    return inputs @ (some.T @ vectors[:, ::-1][:, :count])


def _whitening(pixels: Any) -> Any:
    """(64, 3, 7, 7) first convolution that makes the patches of ``pixels`` (face, 3, height, width) white.

    The 32 strongest principal directions of patches, scaled to one variance, and their negatives, because what follows
    keeps the positive side only. Source: Jordan (2024), arXiv 2404.00498, who initialises a first layer so.
    """
    import torch
    from torch.nn import functional

    patches = functional.unfold(pixels, 7, stride=3).transpose(1, 2).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    strongest = (vectors / (values.clamp_min(0) + 1e-2).sqrt()).T.flip(0)[:32].reshape(32, 3, 7, 7).float()
    return torch.cat([strongest, -strongest])


def _mirrored(batch: Any, rng: np.random.Generator) -> Any:
    """(face, 3, height, width): about half of them mirrored, because the units are of both sides."""
    import torch

    chosen = torch.from_numpy(rng.random(len(batch)) < 0.5)
    return torch.where(chosen[:, None, None, None], batch.flip(-1), batch)


def _descriptions(stills: Stills, label: str, progress: bool) -> np.ndarray:
    """(still, description) float32."""
    rows = np.empty((len(stills), DESCRIPTION), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        described = threads.map(describe, stills.images, stills.landmarks)
        for row, description in zip(rows, tqdm(described, desc=label, total=len(rows), disable=not progress),
                                    strict=True):
            row[:] = description
    return rows


def _fit_aus(
    training: Stills, held_out: Stills, recipe: Recipe, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Ridge regression of 17 intensities (/5) and 17 presences, the penalty of each chosen by cross-validation."""

    def targets(stills: Stills) -> np.ndarray:
        return np.concatenate([stills.units / MAX_INTENSITY, stills.units >= PRESENT], axis=1).astype(np.float32)

    inputs, truth = _descriptions(training, "fit aus", progress), targets(training)
    slopes, offsets = ridge(inputs, truth, training.person % FOLDS)  # a person is never in two folds
    predicted = np.clip(_descriptions(held_out, "score aus", progress) @ slopes + offsets, 0, 1)
    scores = pearson(targets(held_out), predicted, names=NAMES)
    state = {"slopes": slopes, "offsets": offsets}
    return state, {"units": _named(scores[: len(UNITS)]), "presence": _named(scores[len(UNITS) :])}


def ridge(
    inputs: np.ndarray, truth: np.ndarray, fold: np.ndarray, penalties: Sequence[float] = PENALTIES
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression, the penalty of each output chosen by cross-validation.

    ``inputs`` (sample, feature), which are centred in place, ``truth`` (sample, output), ``fold`` (sample,) the
    number of each sample's fold. Penalties are shares of the inputs' mean squared length; the offset is not penalised.
    Returns slopes (feature, output) and offsets (output,).
    """
    mean = inputs.mean(0)
    inputs -= mean
    products = inputs @ inputs.T  # there are fewer samples than features, so this is the small matrix
    unit = float(np.trace(products)) / len(products)
    errors = np.zeros((len(penalties), truth.shape[1]))
    for number in np.unique(fold):
        out = fold == number
        kept, rest = products[np.ix_(~out, ~out)], products[np.ix_(out, ~out)]
        for row, penalty in zip(errors, penalties, strict=True):
            row += ((rest @ _dual(kept, truth[~out], penalty * unit) + truth[~out].mean(0) - truth[out]) ** 2).sum(0)
    best = np.asarray(penalties)[errors.argmin(0)]
    dual = np.empty(truth.shape, inputs.dtype)
    for penalty in np.unique(best):
        dual[:, best == penalty] = _dual(products, truth[:, best == penalty], penalty * unit)
    slopes = inputs.T @ dual
    return slopes, truth.mean(0) - mean @ slopes


def _dual(products: np.ndarray, truth: np.ndarray, penalty: float) -> np.ndarray:
    """(sample, output) what each sample contributes to the slopes."""
    penalised = products.copy()
    penalised[np.diag_indices(len(penalised))] += penalty
    factor = linalg.cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
    return linalg.cho_solve(factor, truth - truth.mean(0), check_finite=False)


def _named(scores: np.ndarray) -> dict[str, float | None]:
    """By unit, rounded; None where a unit has no correlation, because JSON has no NaN."""
    names = [name.removesuffix("_r") for name in NAMES[: len(UNITS)]]
    rounded = [round(float(score), 3) if np.isfinite(score) else None for score in scores]
    return dict(zip(names, rounded, strict=True))


FITS = {"resnet18": _fit_resnet18, "aus": _fit_aus}
