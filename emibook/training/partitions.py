"""The two partitions of a training, what they must have, and the statistics of the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from emibook import InputError
from emibook.sequences.packed import Sequences

FEWEST_CLIPS = 3  # two clips correlate by plus or minus one, whatever their values


@dataclass(frozen=True, eq=False)
class Partitions:
    """The clips that are trained on, and those whose scores choose the learning rate and the epoch.

    Args:
        halves: (clip of ``valid``,) 0 or 1, the half that each validation clip belongs to. With it a training also
            predicts each half by a choice of learning rate and epoch that saw only the other half.

    Raises:
        InputError: other features in the two, too few clips, a clip without a label, a label that never varies, or
            nothing but empty clips.
    """

    train: Sequences
    valid: Sequences
    halves: np.ndarray | None = None

    def __post_init__(self) -> None:
        train, valid = self.train, self.valid
        if train.names != valid.names or train.target_names != valid.target_names:
            raise InputError(f"features {train.features}: train and valid have other columns; extract them again")
        for partition, sequences in (("train", train), ("valid", valid)):
            require_labels(partition, sequences.clips, sequences.targets, sequences.target_names)
            if not sequences.present.any():
                raise InputError(f"features {train.features}: all {len(sequences)} {partition} clips are empty")

    @property
    def half(self) -> np.ndarray:
        """(clip of ``valid``,) its half, 0 or 1; -1 for all where there are none."""
        return np.full(len(self.valid), -1) if self.halves is None else np.asarray(self.halves)


def require_labels(partition: str, clips: Sequence[str], targets: np.ndarray, names: tuple[str, ...]) -> None:
    """Raise ``InputError`` where no correlation with these labels, (clip, target), can be computed."""
    if not names:
        raise InputError(f"{partition}: the corpus has no labels; give it a CSV with one column per target")
    if len(clips) < FEWEST_CLIPS:
        raise InputError(f"{partition}: {len(clips)} clips are too few to correlate; {FEWEST_CLIPS} are the least")
    unlabelled = np.flatnonzero(~np.isfinite(targets).all(axis=1))
    if len(unlabelled):
        first = clips[unlabelled[0]]
        raise InputError(f"{partition}: {len(unlabelled)} of {len(clips)} clips lack a label (first {first}); add them")
    for name, column in zip(names, targets.T, strict=True):
        if column.min() == column.max():
            raise InputError(f"{partition}: {name} is {column[0]:g} in all {len(clips)} clips; "
                             "a constant label has no correlation")


def statistics(train: Sequences, device: str = "cpu") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and scale of each feature over all steps, mean of each target over all clips, of the training partition.

    The scale is the standard deviation, or 1 for a feature that is constant but for rounding.

    Returns:
        (feature,), (feature,) and (target,).
    """

    def chunks() -> Iterator[Tensor]:  # float64 takes four times the memory: not all steps at once
        for chunk in train.tensor().split(8192):
            chunk = chunk.to(device).double()
            yield chunk[~chunk[:, 0].isnan()]  # without the gaps

    count = sum(len(chunk) for chunk in chunks())
    mean = sum(chunk.sum(dim=0) for chunk in chunks()) / count
    scale = (sum((chunk - mean).square().sum(dim=0) for chunk in chunks()) / count).sqrt()
    scale[scale <= 1e-6 * mean.abs()] = 1.0
    mean, scale = (numbers.float().cpu().numpy() for numbers in (mean, scale))
    return mean, scale, train.targets.mean(axis=0, dtype=np.float64)
