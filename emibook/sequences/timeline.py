"""How a clip's features become steps: one clock, sets side by side, and what else the paper's words allow.

Faces: the steps are the faces, in order; where frames without a face were discarded the sequence closes up, as the
paper writes it. Sound: brought from the extractor's own rate onto 30 steps a second. Both: the first 300 steps.
Source: paper section 3.3 (T = 300); it says nothing of the sound's rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from emibook import InputError
from emibook.features import EXTRACTORS, store
from emibook.sequences.packed import PRECISIONS

STEPS = 300  # the paper's T
CLOCK_RATE = 30  # steps a second
SAME_TIME_SECONDS = 0.002  # two rows at one time: timestamps of other tools are rounded to a millisecond
CHOICES = {"sampling": ("first", "uniform"), "gaps": ("closed", "kept"), "sound": ("clock", "own", "mean")}


@dataclass(frozen=True)
class SequenceConfig:
    """How a clip's features become steps, where the paper leaves it open.

    ``steps``: the most that a clip has. ``sampling``: which steps of a longer clip, the ``first`` or as many taken
    ``uniform``ly from all of it. ``gaps``: frames without a face are ``closed`` up or ``kept`` as steps that are
    masked. ``sound``: averaged onto the ``clock`` of 30 steps a second, at the extractor's ``own`` rate, or the
    ``mean`` of the whole clip as its only step. ``packed``: what the steps are stored in, float16 or bfloat16.
    """

    steps: int = STEPS
    sampling: str = "first"
    gaps: str = "closed"
    sound: str = "clock"
    packed: str = "float16"

    def __post_init__(self) -> None:
        for option, choices in {**CHOICES, "packed": tuple(PRECISIONS)}.items():
            if getattr(self, option) not in choices:
                raise InputError(f"{option} {getattr(self, option)!r}: choose one of {', '.join(choices)}")
        if self.steps < 1:
            raise InputError(f"{self.steps} steps a clip: give 1 or more")

    def of(self, modality: str) -> dict:
        """What concerns ``modality``: two readings that differ elsewhere read it alike."""
        other = "sound" if modality == "V" else "gaps"
        return {option: value for option, value in asdict(self).items() if option != other}


PAPER_SEQUENCE = SequenceConfig()


def joined(
    parts: Sequence[store.FeatureSequence], modality: str, config: SequenceConfig = PAPER_SEQUENCE
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One clip's feature sets side by side: ``(step, feature)`` float32 and the features' names.

    Faces: the times that all sets have; with gaps kept, a row of NaN for each frame of the clock in between. Sound:
    each set read as ``config`` says, as long as the shortest.

    Raises:
        InputError: one column's name twice, or sounds of different rates that are to keep their own.

    Source: paper, equation (1).
    """
    names = tuple(name for part in parts for name in part.names)
    if len(set(names)) < len(names):
        raise InputError(f"features {'+'.join(part.extractor for part in parts)} have a column of one name twice")
    if modality == "A":
        tables = _sounds(parts, config)
        length = min(len(table) for table in tables)
        values = np.concatenate([table[:length] for table in tables], axis=1)
    else:
        tables, times = _at_common_times(parts)
        values = np.concatenate(tables, axis=1)
        if config.gaps == "kept":
            values = _with_gaps(values, times)
    if len(values) > config.steps:
        uniform = np.linspace(0, len(values) - 1, config.steps).round().astype(int)
        values = values[uniform if config.sampling == "uniform" else slice(config.steps)]
    filled = np.flatnonzero(~np.isnan(values[:, 0]))
    return values[: filled[-1] + 1 if len(filled) else 0], names


def _sounds(parts: Sequence[store.FeatureSequence], config: SequenceConfig) -> list[np.ndarray]:
    if config.sound == "mean":
        return [part.values.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32) if len(part)
                else part.values for part in parts]
    if config.sound == "own":
        rates = {part.extractor: EXTRACTORS[part.extractor].rate for part in parts}
        if len(set(rates.values())) > 1:
            listed = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
            raise InputError(f"sets of different rates ({listed} per second) cannot be joined at their own; use the "
                             "clock")
        return [part.values for part in parts]
    limit = config.steps if config.sampling == "first" else np.inf
    return [on_clock(part.values, part.times, CLOCK_RATE, limit) for part in parts]


def _with_gaps(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(frame of the clock, feature) from the first frame to the last that has a face; NaN where there is none."""
    frames = np.round(times * CLOCK_RATE).astype(int)
    table = np.full((frames[-1] + 1 if len(frames) else 0, values.shape[1]), np.nan, np.float32)
    table[frames] = values
    return table


def _at_common_times(parts: Sequence[store.FeatureSequence]) -> tuple[list[np.ndarray], np.ndarray]:
    """Of every set the rows at the times that all sets have, and these times.

    Rows are matched by their time, never by their number.
    """
    first = parts[0].times
    kept = np.ones(len(first), bool)
    nearest = []
    for part in parts:
        if len(part) == 0:
            return [part.values[:0] for part in parts], first[:0]
        after = np.searchsorted(part.times, first).clip(max=len(part) - 1)
        before = np.maximum(after - 1, 0)
        closer = np.where(np.abs(part.times[before] - first) <= np.abs(part.times[after] - first), before, after)
        kept &= np.abs(part.times[closer] - first) <= SAME_TIME_SECONDS
        nearest.append(closer)
    return [part.values[rows[kept]] for part, rows in zip(parts, nearest, strict=True)], first[kept]


def on_clock(values: np.ndarray, times: np.ndarray, rate: int, steps: float) -> np.ndarray:
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
    means = []
    for first in range(0, count, STEPS):  # a piece at a time: a clip of twenty minutes has 37,500 steps
        edges = np.arange(first, min(first + STEPS, count) + 1) / rate
        rows = slice(np.searchsorted(ends, edges[0], "right"), np.searchsorted(starts, edges[-1]))
        overlap = np.minimum(edges[1:, None], ends[rows]) - np.maximum(edges[:-1, None], starts[rows])  # (step, time)
        overlap = overlap.clip(min=0)
        filled = overlap.sum(axis=1)
        touched = filled > 0
        means.append(overlap[touched] @ values[rows].astype(np.float64) / filled[touched, None])
    return np.concatenate(means).astype(np.float32)
