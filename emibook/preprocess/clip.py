"""One clip's files in a work folder: its face track, its aligned faces, its sound.

    WORK/faces/<clip>.csv            a row for every frame of the clock, face or none
    WORK/faces/<clip>/000012.jpg     112x112, the followed person's face in frame 12
    WORK/audio/<clip>.wav            16 kHz, mono, 16 bits; absent where the clip has no sound

The track is written last, so where it is, all of them are there.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import wave
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from emibook import InputError
from emibook.compute import NO_ROOM, EndRun
from emibook.corpus.tables import bad_id
from emibook.preprocess import detector
from emibook.preprocess.media import RATE, SAMPLE_RATE, audio, frames
from emibook.preprocess.tracking import People
from emibook.preprocess.video_detection import find

POINTS = [f"{landmark}_{axis}" for landmark in detector.LANDMARKS for axis in "xy"]
TRACK = ["frame", "time", "face", "probability", "x1", "y1", "x2", "y2", *POINTS]
"""Columns of a track: pixels of the upright source video, seconds from its first picture."""
SETTINGS = "preprocess.json"
QUALITY = 95
"""Of the JPEG files."""

Row = dict[str, str | int | float | None]
"""A row of ``preprocess.csv``, by column."""


def preprocess_clip(
    clip: str, path: Path | str, audio_path: Path | str | None, work: Path | str, *, exhaustive: bool = False,
    crop: str = "warp",
) -> Row:
    """Write the files of one clip into ``work`` and return its row of ``preprocess.csv``.

    ``path`` is empty text where there is no video, and the sound is all there is. ``audio_path`` is a sound file of its
    own, which wins over the video's sound. ``exhaustive`` puts every picture through the whole cascade, as the paper
    does, instead of following a face from picture to picture. ``crop`` is a key of ``faces.CROPS``.

    The row has the columns ``clip``, ``status`` (``ok``, ``no_face`` or ``failed``), ``error`` (one line; empty where
    nothing went wrong), ``frames`` and ``faces`` (how many), ``seconds`` (of the video) and ``audio_seconds`` (None
    without sound). Whatever is the matter with a clip is told by its row and raises nothing; only a disk without room
    does (``OSError``). Sound that cannot be read costs the clip its sound only, and ``error`` says so. A clip that
    failed has no files.
    """
    row: Row = {"clip": clip, "status": "failed", "error": "", "frames": 0, "faces": 0, "seconds": None,
                        "audio_seconds": None}
    try:
        place = _Place(work, clip)
        place.clear()
        place.prepare()
        try:
            count, found, crops = _write_faces(place, path, exhaustive, crop)
            sound = None
            try:
                sound = audio(audio_path or path)
            except InputError as error:
                row["error"] = f"no sound: {error}"
            if sound is not None:
                _write_sound(place, sound)
            place.settle(crops)
        except Exception:
            place.clear()
            raise
    except torch.OutOfMemoryError as error:  # of a GPU: the other workers' doing, not the clip's
        raise EndRun(f"the memory of the GPU of {socket.gethostname()} is full; give fewer --workers") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        row["error"] = one_line(error)
        return row
    row |= {"status": "ok" if found else "no_face", "frames": count, "faces": found, "seconds": round(count / RATE, 3)}
    row["audio_seconds"] = None if sound is None else round(len(sound) / SAMPLE_RATE, 3)
    return row


def clear(clip: str, work: Path | str) -> None:
    """Remove what there is of a clip's files, half-written ones as well."""
    with contextlib.suppress(InputError):  # of an id that cannot have files
        _Place(work, clip).clear()


def read_track(work: Path | str, clip: str) -> pd.DataFrame:
    """The clip's face track, a row for every frame of the clock, with the columns ``TRACK``; NaN where no face is."""
    place = _Place(work, clip)
    if not place.track.is_file():
        raise InputError(f"clip {clip}: no {place.track}; see {Path(work) / 'preprocess.csv'} for the reason, or run "
                         "emibook preprocess")
    return pd.read_csv(place.track)


def read_faces(work: Path | str, clip: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The faces of a clip: images (face, 112, 112, 3) uint8 RGB, times (face,) in seconds rising, and landmarks
    (face, 5, 2) float32 in pixels of the crop. A clip without a face gives empty arrays. How the faces were cropped is
    in ``WORK/preprocess.json``; without it they are warped."""
    track = read_track(work, clip)
    track = track[track["face"] == 1]
    images = np.empty((len(track), detector.CROP, detector.CROP, 3), np.uint8)
    for i, frame in enumerate(track["frame"]):
        path = _Place(work, clip).faces / f"{frame:06}.jpg"
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"clip {clip}: {path} is gone or damaged; delete {path.parent}.csv and run emibook "
                             "preprocess again")
        images[i] = image[..., ::-1]
    landmarks = track[POINTS].to_numpy(np.float64).reshape(-1, 5, 2)
    turned = detector.CROPS[crop_of(read_settings(work))]
    onto = [turned(points, detector.TEMPLATE) for points in landmarks]
    placed = [points @ matrix[:, :2].T + matrix[:, 2] for points, matrix in zip(landmarks, onto, strict=True)]
    return images, track["time"].to_numpy(np.float64), np.array(placed, np.float32).reshape(-1, 5, 2)


def read_settings(work: Path | str) -> dict[str, str | int | float]:
    """``WORK/preprocess.json``: how faces are found and cropped; empty where there is none."""
    path = Path(work) / SETTINGS
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged; delete it, and the clips of {work} are done again") from None


def crop_of(settings: Mapping[str, str | int | float]) -> str:
    """The key of ``faces.CROPS`` in a work folder's settings; where it says nothing, faces were warped."""
    return str(settings.get("crop")) if settings.get("crop") in detector.CROPS else "warp"


def read_audio(work: Path | str, clip: str) -> np.ndarray | None:
    """The sound of a clip, int16 (sample,) at 16 kHz; None where it has none."""
    path = _Place(work, clip).sound
    if not path.is_file():
        return None
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.int16)


def one_line(error: BaseException) -> str:
    """What went wrong, without line breaks; the kind of the error too where it is none that we raise ourselves."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}".removesuffix(": ")


class _Place:
    """Where the files of one clip are, and where they wait until all of them are written."""

    def __init__(self, work: Path | str, clip: str) -> None:
        if reason := bad_id(clip):
            raise InputError(f"clip {clip!r}: this id {reason}")
        work = Path(work)
        self.track, self.faces = work / "faces" / f"{clip}.csv", work / "faces" / clip
        self.sound = work / "audio" / f"{clip}.wav"

    @staticmethod
    def waiting(final: Path) -> Path:
        """The name under which ``final`` is written."""
        return final.with_name(f".{final.name}.part")

    def clear(self) -> None:
        """Remove what there is, the track first, because it says that the others are complete."""
        for final in (self.track, self.sound, self.faces):
            for path in (final, self.waiting(final)):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Make the folders that are written into."""
        self.sound.parent.mkdir(parents=True, exist_ok=True)
        self.waiting(self.faces).mkdir(parents=True)

    def settle(self, crops: Path) -> None:
        """Give everything that waits its name, the track last; ``crops`` holds the followed person's faces."""
        if self.waiting(self.sound).exists():
            os.replace(self.waiting(self.sound), self.sound)
        os.replace(crops, self.faces)
        shutil.rmtree(self.waiting(self.faces))
        os.replace(self.waiting(self.track), self.track)


def _write_faces(place: _Place, path: Path | str, exhaustive: bool, crop: str) -> tuple[int, int, Path]:
    """Find, follow and crop; how many frames the clock has, how many faces, and the folder that they are in.

    The video is read once, though who is followed is known only at its end: everybody who may turn out to be that
    person is cropped, each into a folder of their own, and one of the folders stays.
    """
    people = People()
    rows: dict[int, list[tuple[int, np.ndarray]]] = {}  # by person: the frame, and the numbers of the track
    waiting = place.waiting(place.faces)
    count = 0
    images = frames(path) if path else ()
    for frame, (image, seen) in enumerate(find(images, _detector(exhaustive), exhaustive=exhaustive)):
        count += 1
        for face, person in people.add(seen).items():
            if not people.may_be_followed(person):
                shutil.rmtree(waiting / str(person), ignore_errors=True)
                rows.pop(person, None)
                continue
            if person not in rows:
                rows[person] = []
                (waiting / str(person)).mkdir()
            numbers = [seen.probabilities[face], *seen.boxes[face], *seen.landmarks[face].ravel()]
            rows[person].append((frame, np.array(numbers, np.float32)))
            made = detector.align(image, seen.landmarks[face], crop)
            _, packed = cv2.imencode(".jpg", made[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            (waiting / str(person) / f"{frame:06}.jpg").write_bytes(packed)
    person = people.followed()
    chosen = waiting / ("nobody" if person is None else str(person))
    chosen.mkdir(exist_ok=True)
    track = dict(rows.get(person, ()))
    with open(place.waiting(place.track), "w", encoding="utf-8") as file:
        file.write(",".join(TRACK) + "\n")
        for frame in range(count):
            numbers = track.get(frame)
            file.write(f"{frame},{frame / RATE:.6f},")
            if numbers is None:
                file.write("0" + "," * (len(TRACK) - 3) + "\n")
            else:
                file.write(f"1,{numbers[0]:.6f}," + ",".join(f"{number:.3f}" for number in numbers[1:]) + "\n")
    return count, len(track), chosen


@functools.lru_cache(maxsize=2)
def _detector(exhaustive: bool) -> detector.Detector:
    """Loaded once a process. The whole cascade on every frame is work for a GPU, where there is one; a followed face
    is less work than bringing its picture there."""
    return detector.Detector("cuda" if exhaustive and torch.cuda.is_available() else "cpu")


def _write_sound(place: _Place, samples: np.ndarray) -> None:
    with wave.open(str(place.waiting(place.sound)), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
