"""Measures of our code before the networks: clock, sound, faces, features, sequences. Each runs the code."""

from __future__ import annotations

import functools
import inspect
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import cv2
import numpy as np
import torch

from emibook import preprocess
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.device import seeded
from emibook.features import EXTRACTORS, action_units, mfcc, resnet18, store, wav2vec2
from emibook.features.weights import Weights
from emibook.preprocess import alignment, detector, media
from emibook.sequences.load import joined

TILT = 20.0  # degrees by which a head is tilted, to measure what remains of it in a crop


def _video_frames(rate: int) -> int:
    """The number of frames on the clock of a one-second video of ``rate`` frames."""
    with _video(rate) as path:
        return sum(1 for _ in media.frames(path))


@contextmanager
def _video(rate: int) -> Iterator[Path]:
    """A one-second video of ``rate`` frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "second.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(rate):
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, rate)
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        yield path


@functools.cache
def _sound() -> np.ndarray:
    """The audio that is read from one second of a quiet stereo tone at 44.1 kHz."""
    time = np.arange(44100) / 44100
    tone = (1000 * np.sin(2 * np.pi * 440 * time)).astype("<i2")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tone.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(44100)
            file.writeframes(np.column_stack([tone, tone]).tobytes())
        return media.audio(path)


def _sequence(name: str, values: np.ndarray, times: np.ndarray) -> store.FeatureSequence:
    names = tuple(f"{name}_{index}" for index in range(values.shape[1]))
    return store.FeatureSequence(values.astype(np.float32), times.astype(float), names, name, "builtin", "1")


def _face(rows: int, *, name: str = "resnet18", skipped: int = 0) -> store.FeatureSequence:
    """A sequence of faces at 30 per second, ``skipped`` of them missing in the middle; as wide as in the registry."""
    frames = np.arange(rows + skipped)
    frames = np.delete(frames, np.arange(rows // 2, rows // 2 + skipped))
    values = np.random.default_rng(rows).normal(size=(rows, EXTRACTORS[name].width))
    return _sequence(name, values, frames / media.FRAME_RATE)


def _joined_is_side_by_side() -> bool:
    first, second = _face(8), _face(8, name="aus")
    return bool(np.array_equal(joined([first, second], "V")[0], np.hstack([first.values, second.values])))


def _seconds_of_300_audio_steps() -> float:
    """The seconds of sound in 300 steps, from the number of steps of five seconds at the extractor's own rate."""
    rate = EXTRACTORS["wav2vec2"].rate
    times = (np.arange(5 * int(rate)) + 0.5) / rate
    return 300 * 5 / len(joined([_sequence("wav2vec2", times[:, None], times)], "A")[0])


def _tilted() -> np.ndarray:
    """(5, 2) landmarks of an upright face, turned by ``TILT`` about the middle of a picture of 320 x 240."""
    angle = np.radians(TILT)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (2 * (alignment.TEMPLATE - alignment.CROP_SIZE / 2)) @ turn.T + [160, 120]


def _tilt_left_by_a_box() -> float:
    """A crop along the image's axes rotates nothing: all of the landmarks' tilt remains."""
    left, right = _tilted()[:2]
    return round(float(np.degrees(np.arctan2(*(right - left)[::-1]))), 3)


def _tilt_left_by_our_crop() -> float:
    """The angle in the crop between a bright and a dark dot, drawn on the eyes of a tilted head."""
    points = _tilted()
    picture = np.full((240, 320, 3), 128, np.uint8)
    across, down = np.meshgrid(np.arange(320), np.arange(240))
    for point, shade in zip(points[:2], (0, 255), strict=True):
        picture[np.hypot(across - point[0], down - point[1]) < 5] = shade
    crop = alignment.align(picture, points)[..., 0].astype(int)
    (x1, y1), (x2, y2) = ([axis.mean() for axis in np.nonzero(dot)[::-1]] for dot in (crop < 64, crop > 192))
    return round(float(np.degrees(np.arctan2(y2 - y1, x2 - x1))), 1)


def _crop_shape() -> list[int]:
    return list(alignment.align(np.zeros((240, 320, 3), np.uint8), _tilted()).shape)


@torch.inference_mode()
def _resnet18_is_a_mean() -> bool:
    """Whether the features are the mean over the last convolution's feature map."""
    with seeded(0):
        trunk, pixels = resnet18.resnet18_trunk().eval(), torch.randn(1, 3, alignment.CROP_SIZE, alignment.CROP_SIZE)
    maps: list[torch.Tensor] = []
    trunk.layer4.register_forward_hook(lambda module, inputs, output: maps.append(output))
    return torch.allclose(trunk(pixels), maps[0].mean(dim=(2, 3)), atol=1e-5) if trunk(pixels).numel() else False


def _units(offset: float) -> np.ndarray:
    """(column,) the output of our estimator of action units where its regression gives ``offset`` for every unit."""
    encoder = object.__new__(action_units.ActionUnitEstimator)  # a fit of its weights takes minutes
    encoder.label = "builtin"
    encoder.slopes = np.zeros((action_units.DESCRIPTION, encoder.width), np.float32)
    encoder.offsets = np.full(encoder.width, offset, np.float32)
    crop = np.zeros((1, alignment.CROP_SIZE, alignment.CROP_SIZE, 3), np.uint8)
    return encoder(crop, np.zeros(1), alignment.TEMPLATE[None]).values[0]


def _unit_columns() -> list[float]:
    """The range of our columns: the output of an estimator far beyond both ends."""
    return [float(_units(offset)[0]) for offset in (-100.0, 100.0)]


def _presence_is_yes_or_no() -> bool:
    """Whether an uncertain unit is reported as absent or present, with no value between."""
    presences = _units(0.4)[[name.endswith("_c") for name in action_units.NAMES]]
    return bool(np.isin(presences, (0, 1)).all())


def _gain_left_by_wav2vec2_extractor() -> float:
    """The share of a doubling in amplitude that remains in the input of our wav2vec 2.0: 1 all, 0 none."""
    encoder = wav2vec2.Wav2Vec2(Weights("small"), Path())
    quiet, loud = (float(encoder._windows((gain * _sound()).astype(np.int16))[0].std()) for gain in (0.5, 1.0))
    return round(loud / quiet - 1, 3)


def _steps_of_a_second() -> int:
    return wav2vec2.rows(media.SAMPLE_RATE)


def _exhaustive_is_default() -> bool:
    return inspect.signature(preprocess.preprocess).parameters["exhaustive"].default is True


def _mfcc_coefficients() -> int:
    return mfcc.MFCC.coefficients


def _kinds(kind: str) -> int:
    return sum(name.endswith(f"_{kind}") for name in action_units.NAMES)


def _width(*names: str) -> int:
    return sum(EXTRACTORS[name].width for name in names)


@functools.cache
def _reader() -> str:
    """The library that opens a video when its frames are read."""
    with (
        _video(24) as path,
        patch.object(av, "open", wraps=av.open) as by_pyav,
        patch.object(cv2, "VideoCapture", wraps=cv2.VideoCapture) as by_opencv,
    ):
        next(media.frames(path))
    return "OpenCV" if by_opencv.called else "PyAV" if by_pyav.called else "another"


MEASURES: dict[str, Callable[[], Any]] = {
    "emotions": lambda: list(EMOTIONS),
    "mfcc_coefficients": _mfcc_coefficients,
    "frames_from_one_second_at_24": functools.cache(lambda: _video_frames(24)),
    "frames_from_one_second_at_60": functools.cache(lambda: _video_frames(60)),
    "clock_rate": lambda: media.FRAME_RATE,
    "reader": _reader,
    "exhaustive_is_possible": lambda: "exhaustive" in inspect.signature(preprocess.preprocess).parameters,
    "exhaustive_is_default": _exhaustive_is_default,
    "steps_of_ten_faces_with_a_gap": lambda: len(joined([_face(10, skipped=7)], "V")[0]),
    "detector": lambda: detector.MTCNN.__name__,
    "networks_of_the_cascade": lambda: len(list(detector.MTCNN().children())),
    "landmarks": lambda: len(alignment.LANDMARKS),
    "tilt_left_by_a_box": _tilt_left_by_a_box,
    "tilt_left_by_our_crop": _tilt_left_by_our_crop,
    "crop_shape": _crop_shape,
    "vit_can_be_pretrained": lambda: "pretrained" in EXTRACTORS["vit"].sources,
    "vit_is_fitted_here": lambda: "builtin" in EXTRACTORS["vit"].sources,
    "width_vit": lambda: _width("vit"),
    "width_resnet18": lambda: _width("resnet18"),
    "resnet18_is_the_mean_of_its_last_maps": functools.cache(_resnet18_is_a_mean),
    "action_units": lambda: len(action_units.UNITS),
    "action_unit_intensities": lambda: _kinds("r"),
    "action_unit_presences": lambda: _kinds("c"),
    "width_aus": lambda: _width("aus"),
    "action_unit_column_range": _unit_columns,
    "action_unit_presence_is_0_or_1": _presence_is_yes_or_no,
    "action_unit_intensity_scale": lambda: [0.0, action_units.MAX_INTENSITY],
    "aus_can_come_from_openface": lambda: "openface" in EXTRACTORS["aus"].sources,
    "sound_peak_db": lambda: round(20 * float(np.log10(np.abs(_sound().astype(float)).max() / 32767)), 3),
    "sound_rate": lambda: len(_sound()),
    "sound_bits": lambda: 8 * _sound().dtype.itemsize,
    "sound_channels": lambda: _sound().ndim,
    "gain_left_by_wav2vec2_extractor": functools.cache(_gain_left_by_wav2vec2_extractor),
    "wav2vec2_can_be_pretrained": lambda: "pretrained" in EXTRACTORS["wav2vec2"].sources,
    "width_wav2vec2": lambda: _width("wav2vec2"),
    "steps_of_a_second_of_wav2vec2": _steps_of_a_second,
    "joined_is_side_by_side": _joined_is_side_by_side,
    "width_resnet18_aus": lambda: joined([_face(4), _face(4, name="aus")], "V")[0].shape[1],
    "steps_of_a_long_clip": lambda: len(joined([_face(1000)], "V")[0]),
    "seconds_of_300_audio_steps": functools.cache(_seconds_of_300_audio_steps),
}
"""Measures by name; a claim gives the name and the paper's value."""
