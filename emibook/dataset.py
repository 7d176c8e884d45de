"""From feature sequences and labels to what a model trains on: one clock, one packed array a partition.

Faces: the steps are the faces, in order; where frames without a face were discarded the sequence closes up, as the
paper writes it. Sound: brought from the extractor's own rate onto 30 steps a second. Both: the first 300 steps.
Source: paper section 3.3 (T = 300); it says nothing of the sound's rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emibook import InputError
from emibook.features import EXTRACTORS, store

if TYPE_CHECKING:
    from emibook.corpus import Corpus

STEPS = 300  # the paper's T
AUDIO_RATE = 30  # steps a second
SAME_TIME_SECONDS = 0.002  # two rows at one time: timestamps of other tools are rounded to a millisecond
FLOAT16_LIMIT = float(np.finfo(np.float16).max)


@dataclass(frozen=True, eq=False)
class Sequences:
    """One partition's clips in one feature set, packed.

    ``values`` (step of all clips, feature) float16; clip i holds the rows ``offsets[i]`` up to ``offsets[i + 1]``, none
    where it is empty in the modality. ``targets`` (clip, target) float32, NaN where a clip has no label. float16 keeps
    eleven significant bits, so a feature's rounding stays under 0.05 % of its value.
    """

    features: str
    names: tuple[str, ...]
    values: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray
    target_names: tuple[str, ...]
    clips: tuple[str, ...]
    participants: tuple[str, ...]
    weights: tuple[str, ...]
    """What the numbers of each joined extractor are, for example ``builtin`` or ``untrained control``."""

    def __post_init__(self) -> None:
        clips = len(self.clips)
        fits = (
            self.values.shape == (self.offsets[-1], len(self.names))
            and self.values.dtype == np.float16
            and self.offsets.shape == (clips + 1,)
            and (np.diff(self.offsets) >= 0).all()
            and self.targets.shape == (clips, len(self.target_names))
            and len(self.participants) == clips
        )
        if not fits:
            raise ValueError(f"sequences of {self.features}: the parts do not fit together")

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def lengths(self) -> np.ndarray:
        """(clip,) steps of each clip."""
        return np.diff(self.offsets)

    @property
    def present(self) -> np.ndarray:
        """(clip,) true where the clip has anything in this modality."""
        return self.lengths > 0

    def batch(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``values (batch, time, feature)`` float32, zero where there is no data, and ``mask (batch, time)``.

        ``clips`` are positions in ``self.clips``; time is the longest among them, and at least one.
        """
        lengths = self.lengths[clips]
        steps = np.arange(max(1, lengths.max(initial=0)))
        mask = steps < lengths[:, None]  # (batch, time)
        values = np.zeros((*mask.shape, len(self.names)), np.float32)
        values[mask] = self.values[(self.offsets[clips][:, None] + steps)[mask]]
        return values, mask


def load(
    corpus: Corpus, work: Path | str, features: str, partition: str, *, steps: int = STEPS, audio_rate: int = AUDIO_RATE
) -> Sequences:
    """The clips of one partition in one feature set, or in several of one modality joined, as ``resnet18+aus``.

    Clips that are empty in the modality keep their place with no steps.

    Raises:
        InputError: an unknown feature set, sets of two modalities, clips without a file (how many, and the command),
            sets of two versions mixed, a value that is not finite or beyond float16.
    """
    names = feature_names(features)
    table = corpus.partition(partition)
    if table.empty:
        raise InputError(f"{corpus.root} has no clips in partition {partition!r}")
    _require_files(corpus, Path(work), names, list(table["clip"]), partition)
    columns: tuple[str, ...] = ()
    versions: dict[str, tuple] = {}
    packed, lengths = [], []
    for clip in table["clip"]:
        parts = []
        for name in names:
            path = store.clip_path(store.feature_folder(Path(work), name), clip)
            try:
                part = store.load(path)
            except InputError as error:
                raise InputError(f"clip {clip}, features {name}: {error}") from None
            made = (part.extractor, part.weights, part.version, part.names)
            if versions.setdefault(name, made) != made:
                raise InputError(
                    f"clip {clip}, features {name}: made by {part.extractor} {part.version} ({part.weights}), others "
                    f"by {versions[name][0]} {versions[name][2]} ({versions[name][1]}); delete {path.parent} and run "
                    f"{_extract_command(corpus, work, [name])}"
                )
            parts.append(part)
        values, columns = joined(parts, modality(features), steps=steps, audio_rate=audio_rate)
        beyond = np.abs(values).max(initial=0.0)
        if not beyond <= FLOAT16_LIMIT:
            raise InputError(f"clip {clip}, features {features}: a value of {beyond:g} is beyond float16's "
                             f"{FLOAT16_LIMIT:g}; rescale the features")
        packed.append(values.astype(np.float16))
        lengths.append(len(values))
    return Sequences(
        features=features,
        names=columns,
        values=np.concatenate(packed),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        targets=table[list(corpus.targets)].to_numpy(np.float32),
        target_names=tuple(corpus.targets),
        clips=tuple(table["clip"]),
        participants=tuple(table["participant"]),
        weights=tuple(versions[name][1] for name in names),
    )


def feature_names(features: str) -> list[str]:
    """The extractors in ``resnet18+aus``. Raises ``InputError`` for one that does not exist, listing those that do."""
    names = features.split("+")
    for name in names:
        if name not in EXTRACTORS:
            raise InputError(f"no features named {name!r}; there are {', '.join(EXTRACTORS)}")
    if len(set(names)) < len(names):
        raise InputError(f"features {features}: one is named twice")
    return names


def modality(features: str) -> str:
    """``V`` or ``A``. Raises ``InputError`` where sets of both are joined: the two meet in late fusion."""
    found = {EXTRACTORS[name].modality for name in feature_names(features)}
    if len(found) > 1:
        raise InputError(f"features {features} join faces and sound; train a run for each, they are fused afterwards")
    return found.pop()


def missing_files(work: Path | str, features: str, clips: Sequence[str]) -> dict[str, list[str]]:
    """For every extractor in ``features``, the clips that have no file of it; extractors that have all are left out."""
    missing = {}
    for name in feature_names(features):
        folder = store.feature_folder(Path(work), name)
        absent = [clip for clip in clips if not store.clip_path(folder, clip).is_file()]
        if absent:
            missing[name] = absent
    return missing


def joined(
    parts: Sequence[store.FeatureSequence], modality: str, *, steps: int = STEPS, audio_rate: int = AUDIO_RATE
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One clip's feature sets side by side: ``(step, feature)`` float32 and the features' names.

    Faces: the times that all sets have. Sound: each set on ``audio_rate`` steps a second, as long as the shortest.

    Source: paper, equation (1).
    """
    if modality == "A":
        tables = [on_clock(part.values, part.times, audio_rate, steps) for part in parts]
        length = min(len(table) for table in tables)
        tables = [table[:length] for table in tables]
    else:
        tables = _at_common_times(parts)
    names = tuple(name for part in parts for name in part.names)
    if len(set(names)) < len(names):
        raise InputError(f"features {'+'.join(part.extractor for part in parts)} have a column of one name twice")
    return np.concatenate(tables, axis=1)[:steps], names


def _at_common_times(parts: Sequence[store.FeatureSequence]) -> list[np.ndarray]:
    """Of every set the rows at the times that all sets have; rows are matched by their time, never by their number."""
    first = parts[0].times
    kept = np.ones(len(first), bool)
    nearest = []
    for part in parts:
        if len(part) == 0:
            return [part.values[:0] for part in parts]
        after = np.searchsorted(part.times, first).clip(max=len(part) - 1)
        before = np.maximum(after - 1, 0)
        closer = np.where(np.abs(part.times[before] - first) <= np.abs(part.times[after] - first), before, after)
        kept &= np.abs(part.times[closer] - first) <= SAME_TIME_SECONDS
        nearest.append(closer)
    return [part.values[rows[kept]] for part, rows in zip(parts, nearest, strict=True)]


def on_clock(values: np.ndarray, times: np.ndarray, rate: int, steps: int) -> np.ndarray:
    """Average over the area of each step: (time, feature) at ``times`` (the rows' centres, seconds) -> (step, feature).

    A row holds from half way to its neighbours, at most as far as half the usual distance. Step j, from j / rate to
    (j + 1) / rate, is the mean of the rows weighted by how long each holds within it. The first step starts at 0; a
    last step that the rows fill less than half is left out, unless it is the only one; a step that no row touches (in
    a gap) is left out too.
    """
    if len(times) == 0:
        return values
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 1 / rate
    near = times < steps / rate + usual  # what lies after the last step wanted costs nothing
    values, times = values[near], times[near]
    if len(times) == 0:
        return values
    middles = (times[1:] + times[:-1]) / 2
    starts = np.concatenate([[times[0] - usual / 2], np.maximum(middles, times[1:] - usual / 2)])
    ends = np.concatenate([np.minimum(middles, times[:-1] + usual / 2), [times[-1] + usual / 2]])
    count = min(steps, max(1, int(np.floor(ends[-1] * rate + 0.5))))
    edges = np.arange(count + 1) / rate
    overlap = np.minimum(edges[1:, None], ends) - np.maximum(edges[:-1, None], starts)  # (step, time)
    overlap = overlap.clip(min=0)
    filled = overlap.sum(axis=1)
    touched = filled > 0
    means = overlap[touched] @ values.astype(np.float64) / filled[touched, None]
    return means.astype(np.float32)


def _require_files(corpus: Corpus, work: Path, names: list[str], clips: list[str], partition: str) -> None:
    missing = missing_files(work, "+".join(names), clips)
    for name, absent in missing.items():
        raise InputError(
            f"features {name}: {len(absent)} of {len(clips)} {partition} clips have no file in "
            f"{store.feature_folder(work, name)} (first {absent[0]}); "
            f"run {_extract_command(corpus, work, list(missing))}"
        )


def _extract_command(corpus: Corpus, work: Path | str, names: list[str]) -> str:
    return f"emibook extract {corpus.root} --work {work} --features {' '.join(names)}"
