"""Clips of noise, as many and as long as the paper's data set has: what training is timed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emibook.sequences.packed import Sequences, read, write

STEPS, TARGETS = 300, 6
BLOCK = 20_000  # steps of noise that are drawn; a set repeats them
SECONDS, RATE = 6.92, 30


def lengths_like_the_data(clips: int, rng: np.random.Generator, mean: float) -> np.ndarray:
    """(clip,) steps: 6.9 s of mean length and 11.5 s at the 95th percentile are a gamma distribution of shape 7."""
    return np.clip(rng.gamma(7, mean / 7, clips).round().astype(int), 2, STEPS)


def noise(clips: int, width: int) -> Sequences:
    """A partition in memory."""
    rng = np.random.default_rng(0)
    lengths = lengths_like_the_data(clips, rng, SECONDS * RATE)
    block = rng.standard_normal((BLOCK, width), np.float32).astype(np.float16)
    return sequences(np.resize(block, (lengths.sum(), width)), np.concatenate([[0], np.cumsum(lengths)]))


def packed(path: Path, clips: int, width: int) -> None:
    """A partition on disk, as trainings map it."""
    made = noise(clips, width)
    tables = (made.rows(*made.offsets[clip : clip + 2]) for clip in range(clips))
    write(path, tables, clips, {})


def opened(path: Path) -> Sequences:
    """What ``packed`` wrote."""
    return sequences(*read(path)[:2])


def sequences(values: np.ndarray, offsets: np.ndarray, targets: np.ndarray | None = None) -> Sequences:
    """Packed steps as a training takes them, with labels of noise where there are none."""
    clips = len(offsets) - 1
    if targets is None:
        targets = np.random.default_rng(1).random((clips, TARGETS)).astype(np.float32)
    return Sequences("noise", tuple(f"f{n}" for n in range(values.shape[1])), values, offsets, targets,
                     tuple(f"t{n}" for n in range(TARGETS)), tuple(f"{n:05}" for n in range(clips)), ("",) * clips,
                     ("noise",))
