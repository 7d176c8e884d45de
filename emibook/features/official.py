"""The data set's own feature files: ``ROOT/vit/<clip>.pkl`` and ``ROOT/wav2vec2/<clip>.pkl``, an array each.

A pickle is a program that its reader runs. This reader knows the few steps that NumPy writes into one, carries them out
itself, and refuses every other: nothing that a file names is imported or called.
Source: the data set's files (6th ABAW); arrays (row, 384), about 6 a second, and (row, 768), 50 a second.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emibook import InputError
from emibook.features.registry import Clip
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights

NUMBERS = re.compile("[fiu][1248]")  # NumPy's codes of floating-point numbers and integers
MOST_BYTES = 2**31
CLOCK = 30  # steps a second
TEST = "test_data"  # the folder below ROOT that holds the test clips' folders


class _Kind:
    """Stands for ``numpy.dtype``: numbers of one kind, and the order of their bytes."""

    def __init__(self, code: str = "", align: Any = False, copy: Any = False) -> None:
        if not (isinstance(code, str) and NUMBERS.fullmatch(code)):
            raise InputError(f"holds values of the kind {code!r}, expected numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.dtype = self.dtype.newbyteorder({"<": "<", ">": ">"}.get(state[1], "="))


class _Array:
    """Stands for ``numpy.ndarray`` while a file is read; ``values`` is the array once it is complete."""

    values: np.ndarray | None = None

    def __setstate__(self, state: Sequence[Any]) -> None:
        _version, shape, kind, by_column, numbers = state
        if isinstance(numbers, str):  # Python 2's text of bytes
            numbers = numbers.encode("latin1")
        self.values = _shaped(numbers, kind, shape, "F" if by_column else "C")


def _shaped(numbers: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """The array of these bytes; refuses what is no ``_Kind``, and so an array of Python objects."""
    if not (isinstance(kind, _Kind) and isinstance(numbers, bytes | bytearray)):
        raise InputError("holds Python objects, expected an array of numbers")
    return np.frombuffer(numbers, kind.dtype).reshape(shape, order=order)


def _empty(*_: Any) -> _Array:
    return _Array()


def _from_buffer(numbers: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.values = _shaped(numbers, kind, shape, order)
    return array


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """How pickles of protocol 0 to 2 write bytes."""
    return text.encode("latin1")


class _Step:
    """A step as a file gets it: it can be called, and nothing of it can be changed, which a pickle might ask for."""

    __slots__ = ("_does",)

    def __init__(self, does: Callable[..., Any]) -> None:
        object.__setattr__(self, "_does", does)

    def __call__(self, *given: Any) -> Any:
        return self._does(*given)

    def __setattr__(self, name: str, value: Any) -> None:
        raise InputError("asks to change what reads it")


# What NumPy 1 and 2 write, under protocol 0 to 5, and what stands for it here.
STEPS = {
    ("numpy", "dtype"): _Step(_Kind),
    ("numpy", "ndarray"): _Step(_empty),
    ("_codecs", "encode"): _Step(_bytes),
    ("__builtin__", "bytes"): _Step(_bytes),
    ("builtins", "bytes"): _Step(_bytes),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Step(_empty) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Step(_from_buffer) for core in ("core", "_core")},
}


class _ArrayReader(pickle.Unpickler):
    """Looks every name up in ``STEPS`` and nowhere else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STEPS:
            raise InputError(f"asks for {module}.{name}, which no array needs; it may do harm and was not read")
        return STEPS[module, name]


def read_array(path: Path) -> np.ndarray:
    """The array (row, feature) in a pickle, float32. Raises ``InputError`` for anything else, and runs nothing."""
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes, far more than a clip's features")
    try:
        found = _ArrayReader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is no pickle of an array ({words}); fetch it again") from None
    values = found.values if isinstance(found, _Array) else None
    if values is None:
        raise InputError(f"{path} holds a {type(found).__name__.strip('_').lower()}, expected one array")
    values = values.astype(np.float32)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"{path} holds an array {values.shape}, expected finite numbers (row, feature)")
    return values


class OfficialViT:
    """The data set's ViT features, 384 a row, about 6 rows a second, each put at the clock's nearest frame.

    The files say nothing of time. Their rows are spread evenly over the clip; ``facts`` tells by the ``rate`` that
    comes of it whether they fit its length. A clip without a file has no rows. Called with a ``Clip``.
    """

    name, version, width = "official_vit", "1", 384
    folder, sound = "vit", False
    slowest, fastest = 4.0, 9.0  # rows a second between which a file fits its clip
    reads_clip = of_the_corpus = True

    def __init__(self, weights: Weights, encoders: Path, device: str = "cpu") -> None:
        self.label = weights.label

    @classmethod
    def file(cls, clip: Clip) -> Path:
        """The clip's file, whether it is there or not."""
        below = clip.root / TEST if clip.partition == "test" else clip.root
        return below / cls.folder / f"{clip.id}.pkl"

    @classmethod
    def made_from(cls, clip: Clip) -> Path:
        """What the clip's features become older than."""
        return cls.file(clip)

    @classmethod
    def require(cls, root: Path) -> None:
        """Raises ``InputError`` where the data set under ``root`` has none of these files."""
        if not any((below / cls.folder).is_dir() for below in (root, root / TEST)):
            raise InputError(f"{cls.name}: {root} has no folder {cls.folder}; these features come with the data set's "
                             "own files")

    def __call__(self, clip: Clip) -> FeatureSequence:
        path = self.file(clip)
        if not path.is_file():
            return self._sequence(np.zeros((0, self.width), np.float32), np.zeros(0), {"files": 0})
        values = read_array(path)
        if values.shape[1] != self.width:
            raise InputError(f"{path} holds {values.shape[1]} features a row, expected {self.width}")
        seconds = clip.audio_seconds if self.sound and clip.audio_seconds > 0 else clip.seconds
        rate = len(values) / seconds if seconds > 0 else 0.0
        # A row more or less than fits is no disagreement, however short the clip.
        fits = not seconds or self.slowest * seconds - 2 <= len(values) <= self.fastest * seconds + 2
        times = self._times(len(values), seconds)
        facts = {"files": 1, "rate": round(rate, 4), "fits": int(fits)}
        return self._sequence(values[: len(times)], times, facts)

    def _times(self, count: int, seconds: float) -> np.ndarray:
        """Seconds at which ``count`` rows are, evenly over the clip; on frames of the clock where they are apart."""
        length = seconds if seconds > 0 else count / 6
        middles = (np.arange(count) + 0.5) * length / max(1, count)
        frames = np.floor(middles * CLOCK)
        return frames / CLOCK if (np.diff(frames) > 0).all() else middles

    def _sequence(self, values: np.ndarray, times: np.ndarray, facts: dict[str, float]) -> FeatureSequence:
        names = tuple(f"{self.name}_{index:03d}" for index in range(self.width))
        return FeatureSequence(values, times, names, self.name, self.label, self.version, facts)

    @classmethod
    def summary(cls, facts: Sequence[dict[str, float]]) -> str:
        """One line about all clips. Raises ``InputError`` where most files do not fit their clips' lengths."""
        found = [each for each in facts if each.get("files")]
        misfits = sum(not each["fits"] for each in found)
        text = f"{cls.folder}/: {len(found)} of {len(facts)} clips have a file"
        if not found:
            return text
        usual = float(np.median([each["rate"] for each in found]))
        text += f"; {usual:.2f} rows a second (median)"
        if misfits:
            text += (f"; in {misfits} the rows do not fit the clip's length ({cls.slowest:g} to {cls.fastest:g} a "
                     "second)")
        if misfits > len(found) / 2:
            raise InputError(f"{cls.name}: {text}: these files belong to other clips")
        return text


class OfficialWav2Vec2(OfficialViT):
    """The data set's wav2vec 2.0 features, 768 a row, 50 rows a second. Called with a ``Clip``."""

    name, version, width = "official_wav2vec2", "1", 768
    folder, sound = "wav2vec2", True
    slowest, fastest = 48.0, 51.0

    def _times(self, count: int, seconds: float) -> np.ndarray:
        """The centres of wav2vec 2.0's 25 ms where the rows are 50 a second, else spread over the sound."""
        if self.slowest * seconds - 2 <= count <= self.fastest * seconds + 2:
            return (np.arange(count) * 320 + 199.5) / 16000
        return (np.arange(count) + 0.5) * (seconds if seconds > 0 else count / 50) / max(1, count)
