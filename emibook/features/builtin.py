"""Fits the built-in encoders, ``resnet18`` and ``aus``, on stills of drawn faces.

The stills go through the same detector and alignment as any video. Both encoders share one set of them, drawn once
into ``ENCODERS/stills-<version>``. They stand in for encoders trained on photographs (AffectNet, OpenFace's data) so
that every stage runs without a download, and say nothing about people.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from emibook import InputError
from emibook.cluster import run
from emibook.features.action_units import HIGHEST, NAMES, PRESENT, UNITS, describe
from emibook.features.weights import Weights, file_fingerprint
from emibook.metrics import pearson

VERSION = "1"  # of the drawings and the fit; an encoder of another version is fitted again
SEED = 20240318
STILLS = 5  # of each person drawn: a portrait takes far longer than a picture of it
CHUNK = 5  # people in one file
PENALTIES = tuple(10.0**power for power in np.arange(-3, 2.5, 0.5))  # shares of the inputs' mean squared length
FOLDS = 5  # of the cross-validation that chooses a penalty
FEWEST = 3  # stills to fit on, and to score
NOTE = "fitted on drawings; says nothing about people"


@dataclass(frozen=True)
class Recipe:
    """How much is drawn and how long is trained: fixed steps, never a clock, so that a repeat gives the same numbers.

    ``people`` are drawn, each on ``STILLS`` stills; ``held_out`` of them are only scored. ``phases`` are (pixels,
    steps, learning rate) of ResNet-18: most steps see small crops, which cost a third, and the last ones the size that
    it is used at.
    """

    people: int = 400
    held_out: int = 60
    phases: tuple[tuple[int, int, float], ...] = ((64, 190, 1e-3), (112, 60, 3e-4))
    batch: int = 32


@dataclass(frozen=True)
class Stills:
    """Aligned faces and what is true of them.

    ``images`` (still, 112, 112, 3) uint8 RGB, ``landmarks`` (still, 5, 2) in crop pixels, ``units`` (still, 17)
    intensities 0..5, ``emotions`` (still, emotion) 0..1, ``person`` (still,) the number of the person shown. ``drawn``
    counts those too on which no face was found.
    """

    images: np.ndarray
    landmarks: np.ndarray
    units: np.ndarray
    emotions: np.ndarray
    person: np.ndarray
    drawn: int

    def __len__(self) -> int:
        return len(self.images)

    def of(self, rows: np.ndarray) -> Stills:
        """The stills at which ``rows`` (still,) is true."""
        chosen = (self.images, self.landmarks, self.units, self.emotions, self.person)
        return Stills(*(array[rows] for array in chosen), self.drawn)


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
    _write(path, lambda temporary: save_file(state, temporary))
    weights = Weights("builtin", path.name, file_fingerprint(path))
    about = {
        "version": VERSION, "note": NOTE, "weights": asdict(weights), "recipe": asdict(recipe),
        "stills": {"people": recipe.people, "drawn": stills.drawn, "faces": len(stills), "training": len(training),
                   "held_out": len(held_out)},
        "fit_seconds": round(time.perf_counter() - began, 1), "pearson_on_held_out_identities": scores,
    }
    # Written last: an encoder without its description is no encoder.
    _write(path.with_suffix(".json"), lambda temporary: temporary.write_text(json.dumps(about, indent=1) + "\n"))
    return weights


def _write(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def draw(encoders: Path, count: int, *, workers: int | None = None, progress: bool = True) -> Stills:
    """Stills of ``count`` drawn people, detected and aligned; those already in ``encoders`` are not drawn again."""
    folder = encoders / f"stills-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, CHUNK)
    paths = {start: folder / f"{start:05d}-{min(start + CHUNK, count):05d}.safetensors" for start in starts}
    missing = [(start, min(start + CHUNK, count)) for start in starts if not paths[start].exists()]
    task = functools.partial(_draw_chunk, folder=folder)
    for _, result in run(task, missing, label="draw stills", workers=workers, progress=progress):
        if isinstance(result, Exception):
            raise result
    try:
        chunks = [load_file(path) for path in paths.values()]
    except SafetensorError as error:
        raise InputError(f"{folder} holds a damaged file ({error}); delete the folder") from None
    joined = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
    return Stills(**joined, drawn=count * STILLS)


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    from emibook.preprocess.faces import Detector

    return Detector()


def _draw_chunk(chunk: tuple[int, int], *, folder: Path) -> None:
    from emibook.corpus.synthetic import random_stills

    found: dict[str, list[np.ndarray]] = {"images": [], "landmarks": [], "units": [], "emotions": [], "person": []}
    for person in range(*chunk):
        rng = np.random.default_rng([SEED, person])
        for image, units, emotions in random_stills(rng, STILLS):
            face = aligned(as_if_filmed(image, rng))
            if face is not None:
                for key, value in zip(found, (*face, units, emotions, person), strict=True):
                    found[key].append(value)
    shapes = {"images": (112, 112, 3), "landmarks": (5, 2), "units": (len(UNITS),), "emotions": (6,), "person": ()}
    kinds = {"images": np.uint8, "person": np.int64}
    arrays = {key: np.array(value, kinds.get(key, np.float32)).reshape(-1, *shapes[key])
              for key, value in found.items()}
    _write(folder / f"{chunk[0]:05d}-{chunk[1]:05d}.safetensors", lambda temporary: save_file(arrays, temporary))


def as_if_filmed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) uint8 with the losses of a codec, because an encoder meets drawings in compressed video."""
    quality = int(rng.integers(40, 96))
    packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])


def aligned(image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The crop (112, 112, 3) and landmarks (5, 2) in crop pixels of the face that would be followed, or None."""
    from emibook.preprocess.faces import TEMPLATE, align, follow, similarity

    found = _detector().detect([image])
    face = follow(found)[0]
    if face is None:
        return None
    landmarks = found[0].landmarks[face]
    matrix = similarity(landmarks, TEMPLATE)
    return align(image, landmarks), (landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


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

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        torch.set_num_threads(os.cpu_count() or 1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _fit_resnet18(
    training: Stills, held_out: Stills, recipe: Recipe, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Train the trunk to tell action units and emotions, through a linear layer that is then dropped."""
    import torch
    from torch import nn
    from torch.nn import functional

    from emibook.features.visual import imagenet_normalised, resnet18_trunk

    def targets(stills: Stills) -> np.ndarray:
        return np.concatenate([stills.units / HIGHEST, stills.emotions], axis=1)

    truth = torch.from_numpy(targets(training))
    mean, deviation = truth.mean(0), truth.std(0).clamp_min(1e-3)
    images, rng = torch.from_numpy(training.images), np.random.default_rng(SEED)
    with _repeatable(), tqdm(total=sum(steps for _, steps, _ in recipe.phases), desc="fit resnet18",
                             disable=not progress) as bar:
        trunk, head = resnet18_trunk(), nn.Linear(512, truth.shape[1])
        model = nn.Sequential(trunk, head).train()
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        for pixels, steps, highest_rate in recipe.phases:
            for step, rows in enumerate(_batches(len(training), recipe.batch, steps, rng)):
                for group in optimizer.param_groups:
                    group["lr"] = highest_rate * (1 - step / steps)
                batch = _augmented(imagenet_normalised(images[rows]), rng)
                if pixels != batch.shape[-1]:
                    batch = functional.interpolate(batch, size=pixels, mode="area")
                loss = functional.mse_loss(model(batch), (truth[rows] - mean) / deviation)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                bar.update()
        model.eval()
        with torch.inference_mode():
            held = torch.from_numpy(held_out.images)
            predicted = torch.cat([model(imagenet_normalised(part)) for part in held.split(recipe.batch)]).numpy()
    scores = pearson(targets(held_out), predicted)
    units, emotions = scores[: len(UNITS)], scores[len(UNITS) :]
    state = {key: value.numpy() for key, value in trunk.state_dict().items()}
    return state, {"units": _named(units), "emotions": [round(float(score), 3) for score in emotions]}


def _augmented(batch: Any, rng: np.random.Generator) -> Any:
    """(face, 3, height, width): half of them mirrored, all shifted by up to 4 pixels, darker or lighter by a little."""
    import torch
    from torch.nn import functional

    mirrored = torch.from_numpy(rng.random(len(batch)) < 0.5)
    batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
    down, right = rng.integers(0, 9, 2)
    height, width = batch.shape[-2:]
    batch = functional.pad(batch, (4, 4, 4, 4), mode="replicate")[..., down : down + height, right : right + width]
    gain = torch.from_numpy(rng.uniform(0.8, 1.2, (len(batch), 1, 1, 1)).astype(np.float32))
    return batch * gain


def _fit_aus(
    training: Stills, held_out: Stills, recipe: Recipe, progress: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Ridge regression of 17 intensities (/5) and 17 presences, the penalty of each chosen by cross-validation."""

    def targets(stills: Stills) -> np.ndarray:
        return np.concatenate([stills.units / HIGHEST, stills.units >= PRESENT], axis=1).astype(np.float64)

    def descriptions(stills: Stills, label: str) -> np.ndarray:
        pairs = zip(stills.images, stills.landmarks, strict=True)
        bar = tqdm(pairs, desc=label, total=len(stills), disable=not progress)
        return np.stack([describe(image, landmarks) for image, landmarks in bar])

    inputs, truth = descriptions(training, "fit aus"), targets(training)
    errors = np.zeros((len(PENALTIES), truth.shape[1]))
    for fold in range(FOLDS):
        out = training.person % FOLDS == fold  # a person is never in two folds
        solve = ridge(inputs[~out], truth[~out])
        for row, penalty in zip(errors, PENALTIES, strict=True):
            slopes, offsets = solve(penalty)
            row += ((inputs[out] @ slopes + offsets - truth[out]) ** 2).sum(0)
    penalties = np.array(PENALTIES)[errors.argmin(0)]
    slopes, offsets = ridge(inputs, truth)(penalties)
    predicted = np.clip(descriptions(held_out, "score aus") @ slopes + offsets, 0, 1)
    scores = pearson(targets(held_out), predicted, names=NAMES)
    state = {"slopes": slopes.astype(np.float32), "offsets": offsets.astype(np.float32)}
    return state, {"units": _named(scores[: len(UNITS)]), "presence": _named(scores[len(UNITS) :])}


def ridge(inputs: np.ndarray, truth: np.ndarray) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Ridge regression for any penalty from one decomposition.

    ``inputs`` (sample, feature), ``truth`` (sample, output). Returns a function of a penalty, or of one an output, as a
    share of the inputs' mean squared length; it gives slopes (feature, output) and offsets (output,). The offset is not
    penalised.
    """
    mean, truth_mean = inputs.mean(0, dtype=np.float64), truth.mean(0)
    centred = inputs - mean
    # There are fewer samples than features, so the samples' matrix of products is the small one.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values = values.clip(0)
    projected = vectors.T @ (truth - truth_mean)

    def solve(penalty: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shrunk = projected / (values[:, None] + np.asarray(penalty) * values.mean())
        slopes = centred.T @ (vectors @ shrunk)
        return slopes, truth_mean - mean @ slopes

    return solve


def _named(scores: np.ndarray) -> dict[str, float | None]:
    """By unit, rounded; None where a unit has no correlation, because JSON has no NaN."""
    names = [name.removesuffix("_r") for name in NAMES[: len(UNITS)]]
    rounded = [round(float(score), 3) if np.isfinite(score) else None for score in scores]
    return dict(zip(names, rounded, strict=True))


FITS = {"resnet18": _fit_resnet18, "aus": _fit_aus}
