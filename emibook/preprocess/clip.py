"""One clip's files in a work folder: its face track, its aligned faces, its sound.

    WORK/faces/<clip>.csv            a row for every frame of the clock, face or none
    WORK/faces/<clip>/000012.jpg     112x112, the main person's face in frame 12
    WORK/audio/<clip>.wav            16 kHz, mono, 16 bits; absent where the clip has no sound

The track is written last: where it exists, the other files are complete.
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
from emibook.preprocess.alignment import CROP_SIZE, CROPS, LANDMARKS, TEMPLATE, align
from emibook.preprocess.detector import Detector
from emibook.preprocess.media import FRAME_RATE, SAMPLE_RATE, audio, frames
from emibook.preprocess.tracking import Tracker
from emibook.preprocess.video_detection import detect_faces

POINTS = [f"{landmark}_{axis}" for landmark in LANDMARKS for axis in "xy"]
TRACK = ["frame", "time", "face", "probability", "x1", "y1", "x2", "y2", *POINTS]
"""Columns of a track: pixels of the upright source video, seconds from its first frame."""
SETTINGS = "preprocess.json"
QUALITY = 95
"""JPEG quality of the crops."""

Row = dict[str, str | int | float | None]
"""A row of ``preprocess.csv``, by column."""


def preprocess_clip(
    clip: str, path: Path | str, audio_path: Path | str | None, work: Path | str, *, exhaustive: bool = False,
    crop: str = "warp",
) -> Row:
    """Write the files of one clip into ``work`` and return its row of ``preprocess.csv``.

    Problems of a clip are reported in its row and raise nothing, except for a full disk. Sound that cannot be read
    leaves the clip without sound, with the reason in ``error``. A clip that failed has no files.

    Args:
        clip: its id.
        path: the video; empty text for a clip of sound only.
        audio_path: a separate sound file, used instead of the video's sound.
        work: folder to write into.
        exhaustive: run the whole cascade on every frame, as the paper does, instead of tracking faces.
        crop: a key of ``alignment.CROPS``.

    Returns:
        The columns ``clip``, ``status`` (``ok``, ``no_face`` or ``failed``), ``error`` (a message without line breaks,
        empty without an error), ``frames`` and ``faces`` (numbers), ``seconds`` (of the video) and ``audio_seconds``
        (None without sound).

    Raises:
        OSError: there is no disk space left.
    """
    row: Row = {"clip": clip, "status": "failed", "error": "", "frames": 0, "faces": 0, "seconds": None,
                "audio_seconds": None}
    try:
        files = _ClipFiles(work, clip)
        files.remove()
        files.make_folders()
        try:
            count, faces, crops = _write_faces(files, path, exhaustive, crop)
            sound = None
            try:
                sound = audio(audio_path or path)
            except InputError as error:
                row["error"] = f"no sound: {error}"
            if sound is not None:
                _write_sound(files, sound)
            files.rename(crops)
        except Exception:
            files.remove()
            raise
    except torch.OutOfMemoryError as error:  # caused by the other workers on the GPU, not by this clip
        raise EndRun(f"the memory of the GPU of {socket.gethostname()} is full; give fewer --workers") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        row["error"] = one_line(error)
        return row
    row |= {"status": "ok" if faces else "no_face", "frames": count, "faces": faces,
            "seconds": round(count / FRAME_RATE, 3)}
    row["audio_seconds"] = None if sound is None else round(len(sound) / SAMPLE_RATE, 3)
    return row


def clear(clip: str, work: Path | str) -> None:
    """Remove a clip's files, incomplete ones as well."""
    with contextlib.suppress(InputError):  # an id that cannot have files
        _ClipFiles(work, clip).remove()


def read_track(work: Path | str, clip: str) -> pd.DataFrame:
    """The clip's face track, one row per frame of the clock, with the columns ``TRACK``; NaN without a face."""
    track = _ClipFiles(work, clip).track
    if not track.is_file():
        raise InputError(f"clip {clip}: no {track}; see {Path(work) / 'preprocess.csv'} for the reason, or run "
                         "emibook preprocess")
    return pd.read_csv(track)


def read_faces(work: Path | str, clip: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The faces of a clip; empty arrays for a clip without a face.

    How the faces were cropped is in ``WORK/preprocess.json``; without that file they are warped.

    Returns:
        Images (face, 112, 112, 3) uint8 RGB; times (face,) in seconds, ascending; landmarks (face, 5, 2) float32 in
        pixels of the crop.
    """
    track = read_track(work, clip)
    track = track[track["face"] == 1]
    images = np.empty((len(track), CROP_SIZE, CROP_SIZE, 3), np.uint8)
    for i, frame in enumerate(track["frame"]):
        path = _ClipFiles(work, clip).faces / f"{frame:06}.jpg"
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"clip {clip}: {path} is missing or damaged; delete {path.parent}.csv and run emibook "
                             "preprocess again")
        images[i] = image[..., ::-1]
    landmarks = track[POINTS].to_numpy(np.float64).reshape(-1, 5, 2)
    transform = CROPS[crop_of(read_settings(work))]
    matrices = [transform(points, TEMPLATE) for points in landmarks]
    aligned = [points @ matrix[:, :2].T + matrix[:, 2] for points, matrix in zip(landmarks, matrices, strict=True)]
    return images, track["time"].to_numpy(np.float64), np.array(aligned, np.float32).reshape(-1, 5, 2)


def read_settings(work: Path | str) -> dict[str, str | int | float]:
    """``WORK/preprocess.json``: how faces are detected and cropped; empty without that file."""
    path = Path(work) / SETTINGS
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged; delete it, and emibook preprocess processes all clips of {work} "
                         "again") from None


def crop_of(settings: Mapping[str, str | int | float]) -> str:
    """The key of ``alignment.CROPS`` in a work folder's settings; by default ``warp``."""
    return str(settings.get("crop")) if settings.get("crop") in CROPS else "warp"


def read_audio(work: Path | str, clip: str) -> np.ndarray | None:
    """The sound of a clip, int16 (sample,) at 16 kHz; None without sound."""
    path = _ClipFiles(work, clip).sound
    if not path.is_file():
        return None
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.int16)


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, after its type where it is not an ``InputError``."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}".removesuffix(": ")


class _ClipFiles:
    """The paths of one clip's files, and the temporary names under which they are written.

    ``files.replacing`` replaces one file. Here a folder and two files have to appear together, the track last, so they
    keep their temporary names until all of them are complete.
    """

    def __init__(self, work: Path | str, clip: str) -> None:
        if reason := bad_id(clip):
            raise InputError(f"clip {clip!r}: this id {reason}")
        work = Path(work)
        self.track, self.faces = work / "faces" / f"{clip}.csv", work / "faces" / clip
        self.sound = work / "audio" / f"{clip}.wav"

    @staticmethod
    def temporary(final: Path) -> Path:
        """The name under which ``final`` is written."""
        return final.with_name(f".{final.name}.part")

    def remove(self) -> None:
        """Remove all files, the track first, because it marks the others as complete."""
        for final in (self.track, self.sound, self.faces):
            for path in (final, self.temporary(final)):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def make_folders(self) -> None:
        """Make the folders that are written into."""
        self.sound.parent.mkdir(parents=True, exist_ok=True)
        self.temporary(self.faces).mkdir(parents=True)

    def rename(self, crops: Path) -> None:
        """Give all files their final names, the track last; ``crops`` is the folder of the main person's faces."""
        if self.temporary(self.sound).exists():
            os.replace(self.temporary(self.sound), self.sound)
        os.replace(crops, self.faces)
        shutil.rmtree(self.temporary(self.faces))
        os.replace(self.temporary(self.track), self.track)


def _write_faces(files: _ClipFiles, path: Path | str, exhaustive: bool, crop: str) -> tuple[int, int, Path]:
    """Detect, track and crop; the number of frames, the number of faces, and the folder of the crops.

    The video is read once, but the main person is known only at its end. So everybody who can still become the main
    person is cropped, each into a separate folder, and one of these folders is kept.
    """
    tracker = Tracker()
    rows: dict[int, list[tuple[int, np.ndarray]]] = {}  # by person: the frame, and the numbers of the track
    folder = files.temporary(files.faces)
    count = 0
    images = frames(path) if path else ()
    for frame, (image, faces) in enumerate(detect_faces(images, _detector(exhaustive), exhaustive=exhaustive)):
        count += 1
        for face, person in tracker.add(faces).items():
            if not tracker.may_be_main(person):
                shutil.rmtree(folder / str(person), ignore_errors=True)
                rows.pop(person, None)
                continue
            if person not in rows:
                rows[person] = []
                (folder / str(person)).mkdir()
            numbers = [faces.probabilities[face], *faces.boxes[face], *faces.landmarks[face].ravel()]
            rows[person].append((frame, np.array(numbers, np.float32)))
            aligned = align(image, faces.landmarks[face], crop)
            _, encoded = cv2.imencode(".jpg", aligned[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            (folder / str(person) / f"{frame:06}.jpg").write_bytes(encoded)
    person = tracker.main_person()
    crops = folder / ("nobody" if person is None else str(person))
    crops.mkdir(exist_ok=True)
    track = dict(rows.get(person, ()))
    _write_track(files.temporary(files.track), track, count)
    return count, len(track), crops


def _write_track(path: Path, track: Mapping[int, np.ndarray], count: int) -> None:
    """One row per frame; ``track`` holds the numbers of the frames with a face."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(",".join(TRACK) + "\n")
        for frame in range(count):
            numbers = track.get(frame)
            file.write(f"{frame},{frame / FRAME_RATE:.6f},")
            if numbers is None:
                file.write("0" + "," * (len(TRACK) - 3) + "\n")
            else:
                file.write(f"1,{numbers[0]:.6f}," + ",".join(f"{number:.3f}" for number in numbers[1:]) + "\n")


@functools.lru_cache(maxsize=2)
def _detector(exhaustive: bool) -> Detector:
    """Loaded once per process. The whole cascade on every frame runs on a GPU, where there is one; refining a tracked
    face takes less time than copying its frame to a GPU."""
    return Detector("cuda" if exhaustive and torch.cuda.is_available() else "cpu")


def _write_sound(files: _ClipFiles, samples: np.ndarray) -> None:
    with wave.open(str(files.temporary(files.sound)), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
