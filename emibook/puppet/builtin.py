"""The built-in encoders, ``resnet18`` and ``aus``: fitted once per machine, on stills of synthetic faces.

    encoder("aus", WORK/encoders)
        WORK/encoders holds it       -> used
        the user's cache holds it    -> linked into WORK/encoders
        neither                      -> stills rendered, encoder fitted, kept in the cache, linked

The stills pass the same detector and alignment as any video, and both encoders share them. The encoders take the place
of encoders trained on photographs (AffectNet, OpenFace's data), so that every stage runs without a download. They say
nothing about people.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from emibook import InputError
from emibook.compute import Resources
from emibook.features.action_units import DESCRIPTION, MAX_INTENSITY, NAMES, PRESENT, UNITS, describe
from emibook.features.weights import Weights, file_fingerprint
from emibook.files import cache_folder, link_or_copy, lock, replacing, write_text
from emibook.metrics import pearson
from emibook.models.ridge import fit_ridge
from emibook.puppet import train_resnet18
from emibook.puppet.stills import SEED, VERSION, Stills, aligned, draw
from emibook.puppet.train_resnet18 import FitRecipe

__all__ = ["FITS", "VERSION", "FitRecipe", "Stills", "aligned", "draw", "encoder", "fit", "ready"]

FOLDS = 3  # of the cross-validation that chooses a penalty
FEWEST = 3  # stills to fit on, and to score
NOTE = "fitted on drawings; says nothing about people"
CORE_SECONDS = {"person": 0.45, "step": 0.18, "resnet18": 30.0, "aus": 30.0}
"""About what a person's stills, a step of ``resnet18`` and the rest of a fit take one core."""


def encoder(
    name: str, encoders: Path | str, *, recipe: FitRecipe | None = None, resources: Resources | None = None
) -> Weights:
    """The built-in encoder ``name``, made ready in the folder ``encoders``.

    It is taken from the user's cache (``files.cache_folder``), where it is fitted first if need be (minutes; standard
    error then says so). Of two processes that need it at once, one fits and the other waits.

    Raises:
        InputError: ``name`` has no built-in encoder, or the cache cannot be written.
    """
    _check_name(name)
    recipe, resources, encoders = recipe or FitRecipe(), resources or Resources(), Path(encoders)
    if weights := ready(name, encoders):
        return weights
    cache = cache_folder() / "encoders"
    kept = cache / f"{name}-{fingerprint(name, recipe)}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with lock(cache, progress=resources.progress):
            if ready(name, kept) is None:
                minutes = _core_seconds(name, recipe) / (os.cpu_count() or 1) / 60
                print(f"{name}: no published weights on this machine, so a small encoder is fitted on synthetic faces; "
                      f"about {max(minutes, 0.5):.1g} minutes, once; kept in {kept}", file=sys.stderr)
                fit(name, kept, recipe, stills=cache, resources=resources)
    except OSError as error:
        raise InputError(f"{name}: the built-in encoder cannot be kept in {cache} ({error.strerror or error}); name "
                         "another folder with EMIBOOK_CACHE") from None
    for suffix in (".safetensors", ".json"):  # an encoder without its description is no encoder, so that comes last
        link_or_copy(kept / f"{name}-builtin{suffix}", encoders / f"{name}-builtin{suffix}")
    return _read(name, encoders)


def fingerprint(name: str, recipe: FitRecipe) -> str:
    """Twelve digits that differ where the fitted numbers would: by version, recipe and the precision of training."""
    from emibook.device import native_precision

    settings = {"name": name, "version": VERSION, "seed": SEED, "recipe": asdict(recipe),
                "precision": native_precision("cpu")}
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def ready(name: str, folder: Path | str) -> Weights | None:
    """The built-in encoder in ``folder``, or None where it has to be fitted first.

    Files that are damaged, or are not those that the description beside them names, are reported on standard error.
    """
    folder = Path(folder)
    if not (folder / f"{name}-builtin.json").is_file():
        return None
    try:
        return _read(name, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{name}: the built-in encoder in {folder} is damaged ({error}) and will be replaced", file=sys.stderr)
        return None


def _read(name: str, folder: Path) -> Weights | None:
    """The weights; None where they are of another version. Raises ``ValueError`` and others where they are damaged."""
    about = json.loads((folder / f"{name}-builtin.json").read_text(encoding="utf-8"))
    weights = Weights(**about["weights"])
    if about["version"] != VERSION:
        return None
    if weights.file != f"{name}-builtin.safetensors" or file_fingerprint(folder / weights.file) != weights.sha256:
        raise ValueError(f"{weights.file} has another SHA-256 than its description")
    return weights


def _check_name(name: str) -> None:
    if name not in FITS:
        raise InputError(f"{name} has no built-in encoder; {' and '.join(FITS)} have")


def _core_seconds(name: str, recipe: FitRecipe) -> float:
    steps = recipe.steps if name == "resnet18" else 0
    counts = {"person": recipe.people, "step": steps, name: recipe.people / FitRecipe.people}
    return sum(CORE_SECONDS[part] * count for part, count in counts.items())


def fit(
    name: str,
    folder: Path | str,
    recipe: FitRecipe | None = None,
    *,
    stills: Path | str | None = None,
    resources: Resources | None = None,
) -> Weights:
    """Fit ``resnet18`` or ``aus``, and write ``<name>-builtin.safetensors`` and ``.json`` into ``folder``.

    Stills are rendered into the folder ``stills`` (by default ``folder``), and those already there are read. The JSON
    holds the recipe, the number of stills, the seconds it took and the scores on stills of people held out: Pearson's
    correlation with the true intensity of every action unit (and of every emotion, for ``resnet18``; with presence,
    for ``aus``).

    Raises:
        InputError: ``name`` has no built-in encoder, or the stills are too few.
    """
    _check_name(name)
    recipe, resources, folder = recipe or FitRecipe(), resources or Resources(), Path(folder)
    drawn = draw(Path(stills or folder), recipe.people, resources)
    training, held_out = (drawn.of(drawn.person >= recipe.held_out), drawn.of(drawn.person < recipe.held_out))
    if len(held_out) < FEWEST or len(training) < FEWEST:
        raise InputError(f"a face was detected on {len(drawn)} of {drawn.drawn} stills; {len(training)} to fit on "
                         f"and {len(held_out)} of the {recipe.held_out} people held out are too few")
    began = time.perf_counter()
    state, scores = FITS[name](training, held_out, recipe, resources.progress)
    path = folder / f"{name}-builtin.safetensors"
    with replacing(path) as temporary:
        save_file(state, temporary)
    weights = Weights("builtin", path.name, file_fingerprint(path))
    about = {
        "version": VERSION, "note": NOTE, "weights": asdict(weights), "recipe": asdict(recipe),
        "stills": {"people": recipe.people, "drawn": drawn.drawn, "faces": len(drawn), "training": len(training),
                   "held_out": len(held_out)},
        "fit_seconds": round(time.perf_counter() - began, 1), "pearson_on_held_out_identities": scores,
    }
    # Written last: an encoder without its description is no encoder.
    write_text(path.with_suffix(".json"), json.dumps(about, indent=1) + "\n")
    return weights


def descriptions(stills: Stills, label: str, progress: bool) -> np.ndarray:
    """(still, description) float32: what ``aus`` reads of each still (``features.action_units.describe``)."""
    rows = np.empty((len(stills), DESCRIPTION), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        described = threads.map(describe, stills.images, stills.landmarks)
        for row, description in zip(rows, tqdm(described, desc=label, total=len(rows), disable=not progress),
                                    strict=True):
            row[:] = description
    return rows


def _fit_resnet18(
    training: Stills, held_out: Stills, recipe: FitRecipe, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Train ResNet-18; the scores are those of a ridge regression on its features, chosen over people like ``aus``."""
    dense = train_resnet18.components(descriptions(training, "describe stills", progress), recipe.components)
    state, features = train_resnet18.train(training, dense, recipe, progress)
    chosen = np.random.default_rng(SEED).permutation(len(training))[: train_resnet18.READOUT]
    readout = training.of(chosen)
    slopes, intercepts = fit_ridge(features(readout.images), _targets(readout), readout.person, folds=FOLDS)
    scores = pearson(_targets(held_out), features(held_out.images) @ slopes + intercepts)
    emotions = [round(float(score), 3) for score in scores[len(UNITS) :]]
    return state, {"units": _named(scores[: len(UNITS)]), "emotions": emotions}


def _targets(stills: Stills) -> np.ndarray:
    """(still, 23) float32: intensities / 5, then emotions."""
    return np.concatenate([stills.units / MAX_INTENSITY, stills.emotions], axis=1)


def _fit_aus(
    training: Stills, held_out: Stills, recipe: FitRecipe, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Ridge regression of 17 intensities (/5) and 17 presences, the penalty of each chosen by cross-validation."""

    def targets(stills: Stills) -> np.ndarray:
        return np.concatenate([stills.units / MAX_INTENSITY, stills.units >= PRESENT], axis=1).astype(np.float32)

    inputs = descriptions(training, "fit aus", progress)
    slopes, offsets = fit_ridge(inputs, targets(training), training.person, folds=FOLDS)
    predicted = np.clip(descriptions(held_out, "score aus", progress) @ slopes + offsets, 0, 1)
    scores = pearson(targets(held_out), predicted, names=NAMES)
    state = {"slopes": slopes.astype(np.float32), "offsets": offsets.astype(np.float32)}
    return state, {"units": _named(scores[: len(UNITS)]), "presence": _named(scores[len(UNITS) :])}


def _named(scores: np.ndarray) -> dict[str, float | None]:
    """By unit, rounded; None where a unit has no correlation, because JSON has no NaN."""
    names = [name.removesuffix("_r") for name in NAMES[: len(UNITS)]]
    rounded = [round(float(score), 3) if np.isfinite(score) else None for score in scores]
    return dict(zip(names, rounded, strict=True))


FITS = {"resnet18": _fit_resnet18, "aus": _fit_aus}
