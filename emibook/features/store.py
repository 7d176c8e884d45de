"""Feature sequences on disk: one safetensors file per clip, one folder per feature set and its settings.

It imports nothing of the other feature modules.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as pack

from emibook import InputError
from emibook.files import replacing, write_text

SETTINGS = "settings.json"


@dataclass(frozen=True, eq=False)
class FeatureSequence:
    """The features of one clip by one extractor, at the extractor's own rate.

    A clip that is empty in the modality has no rows.

    Attributes:
        values: (time, feature) float32, finite.
        times: (time,) float64, seconds from the clip's start, rising.
        names: one text per feature.
        extractor: its name in the registry.
        weights: label of its weights (``builtin``, ``formula``, ``untrained control``, ``file:...``).
        version: the extractor's version.
        facts: further numbers about the clip, for the extractor's summary.

    Raises:
        ValueError: the parts do not fit together.
    """

    values: np.ndarray
    times: np.ndarray
    names: tuple[str, ...]
    extractor: str
    weights: str
    version: str
    facts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, steps = self.values.shape, self.times.shape
        if self.values.dtype != np.float32 or self.times.dtype != np.float64:
            raise ValueError(f"{self.extractor}: values {self.values.dtype}, times {self.times.dtype}, "
                             "expected float32 and float64")
        if len(shape) != 2 or steps != shape[:1] or len(self.names) != shape[1]:
            raise ValueError(f"{self.extractor}: values {shape}, times {steps} and {len(self.names)} names do not fit")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"{self.extractor}: a feature is named twice")
        if not np.isfinite(self.values).all():
            raise ValueError(f"{self.extractor}: a value is not finite")
        if not (np.isfinite(self.times).all() and (np.diff(self.times) > 0).all()):
            raise ValueError(f"{self.extractor}: times do not rise")

    def __len__(self) -> int:
        return len(self.times)


def clip_path(folder: Path, clip: str) -> Path:
    """The file of one clip in a feature set's folder. Raises ``InputError`` for an id that would leave the folder."""
    if not clip or clip in (".", "..") or any(mark in clip for mark in "/\\\0"):
        raise InputError(f"clip {clip!r}: no file can be named after this id; rename the clip")
    return folder / f"{clip}.safetensors"


def save(sequence: FeatureSequence, path: Path) -> None:
    """Write one clip's sequence; the file appears whole or not at all, and equal sequences give equal bytes."""
    about = {key: getattr(sequence, key) for key in ("names", "extractor", "weights", "version")}
    if sequence.facts:
        about["facts"] = sequence.facts
    tensors = {"values": np.ascontiguousarray(sequence.values), "times": np.ascontiguousarray(sequence.times)}
    with replacing(path) as temporary:
        # One metadata entry, because the order of several is not fixed by the format's writer.
        temporary.write_bytes(pack(tensors, metadata={"sequence": json.dumps(about)}))


def load(path: Path) -> FeatureSequence:
    """Read one clip's sequence. Raises ``InputError`` where the file is absent or damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["sequence"])
            about["names"] = tuple(about["names"])
            return FeatureSequence(values=file.get_tensor("values"), times=file.get_tensor("times"), **about)
    except FileNotFoundError:
        raise InputError(f"no features at {path}; run emibook extract") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no feature file ({error}); delete it and run emibook extract") from None


def load_facts(path: Path) -> dict[str, float]:
    """The ``facts`` of one clip's sequence, without reading its values. Raises ``InputError`` as ``load`` does."""
    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["sequence"]).get("facts", {})
    except FileNotFoundError:
        raise InputError(f"no features at {path}; run emibook extract") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no feature file ({error}); delete it and run emibook extract") from None


def fingerprint(settings: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that identify these settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def feature_folder(work: Path, name: str) -> Path:
    """The folder of the feature set ``name`` that is in use."""
    return Path(work) / "features" / name


def read_settings(work: Path, name: str) -> dict[str, Any] | None:
    """The settings of the feature set in use, or None where there is none yet."""
    folder = feature_folder(work, name)
    if not folder.exists():
        return None
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        if not isinstance(settings, dict):
            raise ValueError("no JSON object")
        return settings
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} has no readable {SETTINGS} ({error}); move the folder away") from None


def open_folder(work: Path, name: str, settings: dict[str, Any]) -> Path:
    """Make ``WORK/features/<name>/`` the folder of exactly these settings, and return it.

    A folder made with other settings is moved to ``<name>@<fingerprint>/``, and one that was moved there earlier is
    moved back when its settings are needed again, so features of two kinds are never mixed and none are lost. Nothing
    else may write to the folder at this time.
    """
    folder = feature_folder(work, name)
    present = read_settings(work, name)
    if present == settings:
        for unfinished in folder.glob(".*.safetensors.*"):  # of a process that was killed
            unfinished.unlink(missing_ok=True)
        return folder
    if present is not None:
        aside = folder.with_name(f"{name}@{fingerprint(present)}")
        if aside.exists():
            raise InputError(f"{folder} and {aside} both hold features with the same settings; move one away")
        folder.rename(aside)
    wanted = folder.with_name(f"{name}@{fingerprint(settings)}")
    if not wanted.exists():
        # Made under another name and renamed, so that no folder is ever without its settings.
        building = folder.with_name(f".{name}.part")
        building.mkdir(parents=True, exist_ok=True)
        write_text(building / SETTINGS, json.dumps(settings, indent=1, sort_keys=True) + "\n")
        building.rename(wanted)
    wanted.rename(folder)
    return folder
