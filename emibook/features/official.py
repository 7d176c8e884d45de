"""The data set's own feature files: ``ROOT/vit/<clip>.pkl`` and ``ROOT/wav2vec2/<clip>.pkl``, an array each.

A pickle is a program that its reader runs. The reader here knows the few names that NumPy writes into the pickle of an
array and replaces each by a function of its own; it refuses every other name, so a file imports and calls nothing.
Source: the data set's files (6th ABAW); arrays (row, 384), about 6 per second, and (row, 768), 50 per second.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emibook import InputError
from emibook.features.base import Clip
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights
from emibook.preprocess.media import FRAME_RATE, SAMPLE_RATE

MAX_BYTES = 2**30
MAX_OPCODES = 200  # an array's pickle has about 50
TEST = "test_data"  # the folder below ROOT that holds the test clips' folders


class _DType:
    """Replaces ``numpy.dtype``: numbers of one kind. A real one, changed by a pickle, could reach foreign memory."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        if not (isinstance(code, str) and re.fullmatch("[fiu][1248]", code)):
            raise InputError(f"holds values of the kind {code!r}, expected numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.dtype = self.dtype.newbyteorder({"<": "<", ">": ">"}.get(state[1], "="))


class _Array:
    """Replaces ``numpy.ndarray``; ``values`` is the array once it is complete."""

    values: np.ndarray | None = None

    def __setstate__(self, state: Sequence[Any]) -> None:
        _version, shape, dtype, by_column, data = state
        self.fill(data, dtype, shape, "F" if by_column else "C")

    def fill(self, data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        """Take the numbers. Refuses any other dtype, and so arrays of Python objects."""
        data = data.encode("latin1") if isinstance(data, str) else data  # of Python 2
        if not (isinstance(dtype, _DType) and isinstance(data, bytes | bytearray)):
            raise InputError("holds Python objects, expected an array of numbers")
        self.values = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
        return self


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """How pickles of protocol 0 to 2 write bytes."""
    return text.encode("latin1")


# The names that NumPy 1 and 2 write under protocol 0 to 5.
NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): lambda *_: _Array(),
    ("_codecs", "encode"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("builtins", "bytes"): _bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): lambda *given: _Array().fill(*given) for core in ("core", "_core")},
}


class _ArrayUnpickler(pickle.Unpickler):
    """Looks every name up in ``NAMES`` and nowhere else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise InputError(f"asks for {module}.{name}, which no array needs; it may be malicious and was not read")
        # A new function each time, because a pickle can set attributes of what it gets.
        return lambda *given: NAMES[module, name](*given)


def read_array(path: Path) -> np.ndarray:
    """The array (row, feature) in a pickle, float32.

    Raises:
        InputError: the file holds anything else; nothing of it is run.
    """
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes, far more than a clip's features")
    content = path.read_bytes()
    try:
        _check_opcodes(content)
        result = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:  # a damaged pickle can fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is no pickle of an array ({reason}); fetch it again") from None
    values = result.values if isinstance(result, _Array) else None
    if values is None:
        raise InputError(f"{path} holds a {type(result).__name__.strip('_').lower()}, expected one array")
    values = values.astype(np.float32)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"{path} holds an array {values.shape}, expected finite numbers (row, feature)")
    return values


def _check_opcodes(content: bytes) -> None:
    """Refuse what would take much time or memory: many opcodes, a huge memo, lengths beyond the file's end.

    Extension codes are refused too, because they bypass ``find_class``. Raises ``InputError`` for these, and
    ``pickletools`` a ``ValueError`` for lengths beyond the end.
    """
    for count, (opcode, argument, _position) in enumerate(pickletools.genops(content)):
        if count > MAX_OPCODES or ("PUT" in opcode.name and argument > MAX_OPCODES) or opcode.name.startswith("EXT"):
            raise InputError(f"holds more than an array ({opcode.name}); it may be malicious and was not read")


class OfficialViT:
    """The data set's ViT features, 384 per row, about 6 rows per second, each at the clock's nearest frame.

    The files have no times. Their rows are placed evenly over the clip; ``facts`` holds the resulting ``rate`` and
    whether it fits the clip's length. A clip without a file has no rows.
    """

    name, version, width = "official_vit", "1", 384
    folder, sound = "vit", False
    slowest, fastest = 4.0, 9.0  # rows per second between which a file fits its clip
    reads_clip = of_the_corpus = True

    def __init__(self, weights: Weights, encoders: Path, device: str = "cpu") -> None:
        self.label = weights.label

    @classmethod
    def file(cls, clip: Clip) -> Path:
        """The path of the clip's file, whether it exists or not."""
        below = clip.root / TEST if clip.partition == "test" else clip.root
        return below / cls.folder / f"{clip.id}.pkl"

    @classmethod
    def input_file(cls, clip: Clip) -> Path:
        """The file whose change makes the clip's features out of date."""
        return cls.file(clip)

    @classmethod
    def require(cls, root: Path) -> None:
        """Raises ``InputError`` where the data set under ``root`` has none of these files."""
        if not any((below / cls.folder).is_dir() for below in (root, root / TEST)):
            raise InputError(f"{cls.name}: {root} has no folder {cls.folder}; these features come with the data set's "
                             "own files")

    def __call__(self, clip: Clip) -> FeatureSequence:
        """The clip's features."""
        path = self.file(clip)
        if not path.is_file():
            return self._sequence(np.zeros((0, self.width), np.float32), np.zeros(0), {"files": 0})
        values = read_array(path)
        if values.shape[1] != self.width:
            raise InputError(f"{path} holds {values.shape[1]} features per row, expected {self.width}")
        seconds = clip.audio_seconds if self.sound and clip.audio_seconds > 0 else clip.seconds
        rate = len(values) / seconds if seconds > 0 else 0.0
        # One row more or less is allowed, however short the clip.
        fits = not seconds or self.slowest * seconds - 2 <= len(values) <= self.fastest * seconds + 2
        times = self._times(len(values), seconds)
        facts = {"files": 1, "rate": round(rate, 4), "fits": int(fits)}
        return self._sequence(values[: len(times)], times, facts)

    def _times(self, count: int, seconds: float) -> np.ndarray:
        """Times of ``count`` rows, evenly over the clip; on frames of the clock where no two share a frame."""
        length = seconds if seconds > 0 else count / 6
        middles = (np.arange(count) + 0.5) * length / max(1, count)
        frames = np.floor(middles * FRAME_RATE)
        return frames / FRAME_RATE if (np.diff(frames) > 0).all() else middles

    def _sequence(self, values: np.ndarray, times: np.ndarray, facts: dict[str, float]) -> FeatureSequence:
        names = tuple(f"{self.name}_{index:03d}" for index in range(self.width))
        return FeatureSequence(values, times, names, self.name, self.label, self.version, facts)

    @classmethod
    def summary(cls, facts: Sequence[dict[str, float]]) -> str:
        """A line about all clips. Raises ``InputError`` where most files do not fit their clips' lengths."""
        with_file = [clip for clip in facts if clip.get("files")]
        misfits = sum(not clip["fits"] for clip in with_file)
        text = f"{cls.folder}/: {len(with_file)} of {len(facts)} clips have a file"
        if not with_file:
            return text
        median = float(np.median([clip["rate"] for clip in with_file]))
        text += f"; {median:.2f} rows per second (median)"
        if misfits:
            text += (f"; in {misfits} the rows do not fit the clip's length ({cls.slowest:g} to {cls.fastest:g} per "
                     "second)")
        if misfits > len(with_file) / 2:
            raise InputError(f"{cls.name}: {text}: these files belong to other clips")
        return text


class OfficialWav2Vec2(OfficialViT):
    """The data set's wav2vec 2.0 features, 768 per row, 50 rows per second."""

    name, version, width = "official_wav2vec2", "1", 768
    folder, sound = "wav2vec2", True
    slowest, fastest = 48.0, 51.0

    def _times(self, count: int, seconds: float) -> np.ndarray:
        """The centres of wav2vec 2.0's 25 ms where there are 50 rows per second, else evenly over the sound."""
        if self.slowest * seconds - 2 <= count <= self.fastest * seconds + 2:
            return (np.arange(count) * 320 + 199.5) / SAMPLE_RATE
        return (np.arange(count) + 0.5) * (seconds if seconds > 0 else count / 50) / max(1, count)
