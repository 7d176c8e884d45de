"""Stills of synthetic faces for the built-in encoders: rendered once, detected and aligned as any video is."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from emibook.compute import Resources, run
from emibook.features.action_units import UNITS
from emibook.files import replacing

VERSION = "4"  # of the drawings and the fits; an encoder of another version is fitted again
SEED = 20240318
STILLS = 12  # of each person: a portrait takes far longer than a picture of it
CHUNK = 5  # people in one file
KEYS = ("images", "landmarks", "units", "emotions", "person")


@dataclass(frozen=True)
class Stills:
    """Aligned faces and what is true of them.

    ``images`` (still, 112, 112, 3) uint8 RGB, ``landmarks`` (still, 5, 2) in crop pixels, ``units`` (still, 17)
    intensities 0..5, ``emotions`` (still, emotion) 0..1, ``person`` (still,) the number of the person shown. ``drawn``
    counts those too on which no face was detected.
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


def draw(folder: Path, count: int, resources: Resources = Resources()) -> Stills:  # noqa: B008 (frozen)
    """Stills of ``count`` people, rendered, detected and aligned.

    They are kept in ``folder/stills-VERSION``. Those already there are not rendered again; a damaged file is.
    """
    folder = folder / f"stills-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {(start, end): folder / f"{start:05d}-{end:05d}.safetensors"
             for start in range(0, count, CHUNK) for end in [min(start + CHUNK, count)]}
    chunks = {people: _read(path) for people, path in paths.items()}
    missing = [people for people, chunk in chunks.items() if chunk is None]
    task = functools.partial(_draw_chunk, folder=folder)
    for people, result in run(task, missing, label="draw stills", unit="chunk", resources=resources):
        if isinstance(result, Exception):
            raise result
        chunks[people] = load_file(paths[people])
    joined = {key: np.concatenate([chunk[key] for chunk in chunks.values()]) for key in KEYS}
    return Stills(**joined, drawn=count * STILLS)


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a chunk; None where there is no whole file of stills."""
    try:
        chunk = load_file(path)
    except (OSError, SafetensorError):
        return None
    return chunk if set(chunk) == set(KEYS) else None


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    from emibook.preprocess.detector import Detector

    return Detector()


def _draw_chunk(chunk: tuple[int, int], *, folder: Path) -> None:
    from emibook.puppet.corpus import random_stills

    rows: dict[str, list[np.ndarray]] = {key: [] for key in KEYS}
    for person in range(*chunk):
        rng = np.random.default_rng([SEED, person])
        box = None
        for image, units, emotions in random_stills(rng, STILLS):
            face = _face(as_if_filmed(image, rng), box)
            if face is not None:
                box, *crop = face
                for key, value in zip(KEYS, (*crop, units, emotions, person), strict=True):
                    rows[key].append(value)
    shapes = {"images": (112, 112, 3), "landmarks": (5, 2), "units": (len(UNITS),), "emotions": (6,), "person": ()}
    kinds = {"images": np.uint8, "person": np.int64}
    arrays = {key: np.array(value, kinds.get(key, np.float32)).reshape(-1, *shapes[key])
              for key, value in rows.items()}
    with replacing(folder / f"{chunk[0]:05d}-{chunk[1]:05d}.safetensors") as temporary:
        save_file(arrays, temporary)


def as_if_filmed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) uint8 with the losses of a codec, because an encoder meets these faces in compressed video."""
    quality = int(rng.integers(40, 96))
    packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])


def aligned(image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The crop (112, 112, 3) and landmarks (5, 2) in crop pixels of the face that would be tracked, or None."""
    face = _face(image, None)
    return None if face is None else face[1:]


def _face(image: np.ndarray, near: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Box (1, 4), crop and landmarks; searched for at the box ``near`` first, as in a video, and then everywhere."""
    from emibook.preprocess.alignment import TEMPLATE, align, similarity
    from emibook.preprocess.tracking import track

    faces = _detector().refine(image, near) if near is not None else ()
    if len(faces) != 1:
        faces = _detector().detect([image])[0]
    face = track([faces])[0]
    if face is None:
        return None
    landmarks = faces.landmarks[face]
    matrix = similarity(landmarks, TEMPLATE)
    moved = (landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    return faces.boxes[[face]], align(image, landmarks), moved


@dataclass(frozen=True)
class Hits:
    """What the detector did with rendered faces.

    ``detected`` (person, expression): whether it detects the one face that is shown, and where it is shown. ``skin``
    (person,) 0 for the lightest to 1 for the darkest, ``glasses`` (person,).
    """

    detected: np.ndarray
    skin: np.ndarray
    glasses: np.ndarray

    @property
    def rate(self) -> float:
        """The share of pictures in which the face is detected."""
        return float(self.detected.mean())


def hit_rate(people: int = 40, seed: int = SEED) -> Hits:
    """How often MTCNN detects a rendered face: random people, each in every emotion's expression, the head moved.

    A face counts as detected where the detector's eyes are within half a face unit, about a nose's length, of the
    rendered ones. A check of the puppet; it says nothing about people.
    """
    from emibook.puppet.acting import EXPRESSIONS
    from emibook.puppet.renderer import Identity, Pose, Puppet, Scene

    detected = np.zeros((people, len(EXPRESSIONS)), bool)
    skin, glasses = np.zeros(people), np.zeros(people, bool)
    for person in range(people):
        rng = np.random.default_rng([seed, 1, person])
        puppet = Puppet(Identity.random(rng), Scene.random(rng))
        skin[person], glasses[person] = puppet.identity.skin, puppet.identity.glasses is not None
        unit = puppet.scene.scale * puppet.height
        for expression, units in enumerate(EXPRESSIONS):
            pose = Pose.random(rng)
            picture = puppet.draw(units * rng.uniform(0.5, 1.2), pose=pose, noise_rng=rng)
            faces = _detector().detect([as_if_filmed(picture, rng)])[0]
            truth = np.array([puppet.scene.x * puppet.width, puppet.scene.y * puppet.height]) + unit * np.array(
                [pose.x, pose.y])
            if len(faces):
                eyes = faces.landmarks[faces.probabilities.argmax(), :2].mean(0)
                detected[person, expression] = np.linalg.norm(eyes - truth) < 0.5 * unit
    return Hits(detected, skin, glasses)
