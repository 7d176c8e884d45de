"""Corpora: which clips there are, in which partition, and what raters said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from emibook import InputError

if TYPE_CHECKING:
    import numpy
    import pandas

PARTITIONS = ("train", "valid", "test")
COLUMNS = ("clip", "partition", "path", "audio", "participant")
RATINGS = ("voice", "face", "both")
"""What raters had of a clip, where a corpus tells these apart."""


@dataclass(frozen=True)
class Corpus:
    """Clips, their partitions and their targets.

    ``clips`` has one row a clip, sorted by ``clip``, and the columns ``clip`` (text id), ``partition``
    (``train``, ``valid``, ``test``, or empty text where it is in none), ``path`` (the video file, empty text where
    there is none), ``audio`` (the file of its sound where that is a file of its own, else empty text), ``participant``
    (text, empty where unknown), then one float column for each name in ``targets`` (NaN where a clip has no label).
    """

    name: str
    root: Path
    clips: pandas.DataFrame
    targets: tuple[str, ...]
    note: str = ""
    """What every table, picture and page made from this corpus has to say of it."""
    people: Mapping[str, numpy.ndarray] = field(default_factory=dict)
    """What people predict who had less of a clip than those behind the targets: ``V``, who only saw it, and ``A``, who
    only heard it, each (clip, target) in the order of ``clips``. Empty where nobody was asked."""
    made_with: str = ""
    """Stands for the settings of a corpus that was simulated, as its features note it; empty for any other."""

    def __post_init__(self) -> None:
        expected = [*COLUMNS, *self.targets]
        if list(self.clips.columns) != expected:
            raise ValueError(f"corpus table has columns {list(self.clips.columns)}, expected {expected}")
        if self.clips["clip"].duplicated().any():
            raise ValueError("corpus table names a clip twice")

    def partition(self, name: str) -> pandas.DataFrame:
        """The rows of one partition."""
        return self.clips[self.clips["partition"] == name].reset_index(drop=True)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The least and the greatest that each target can be: 0..1, or what training labels span where that is more."""
        rows = self.partition("train")
        rows = rows if len(rows) else self.clips
        spans = {target: (float(rows[target].min()), float(rows[target].max())) for target in self.targets}
        return {target: (low, high) if low < 0 or high > 1 else (0.0, 1.0) for target, (low, high) in spans.items()}


@dataclass(frozen=True)
class Report:
    """What ``check`` found: one line for each thing that is not as the layout documents it.

    ``problems`` are errors; ``notes`` are oddities that the reader copes with, each line saying how. ``counts`` maps
    what was counted (a partition, files of a kind, participants) to how many there are.
    """

    layout: str
    counts: dict[str, int]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def open_corpus(
    root: Path | str,
    participants: Path | str | None = None,
    *,
    ratings: str | None = None,
    fold: str | None = None,
    media: bool = True,
) -> Corpus:
    """Read the corpus under ``root``, whichever known layout it has.

    Args:
        root: a data set in any known layout, or a folder of videos.
        participants: a CSV with the columns ``clip,participant`` for a data set that names none.
        ratings: what the raters behind the targets had, one of ``RATINGS``, where a corpus tells these apart
            (CREMA-D; by default ``both``).
        fold: K/N, to validate on the K-th of N groups of participants instead of the corpus's own partitions.
        media: false where the labels are enough: a corpus whose media are still to be fetched is then read too.

    Raises:
        InputError: one line, where the corpus cannot be used.
    """
    from emibook.corpus import crema_d
    from emibook.corpus.folds import fold as folded

    root = Path(root)
    reader = _reader(root)
    options = {"ratings": ratings or RATINGS[-1], "media": media} if reader is crema_d else {}
    if ratings not in (None, *RATINGS):
        raise InputError(f"no ratings named {ratings!r}; there are {', '.join(RATINGS)}")
    if ratings and not options:
        raise InputError(f"{root}: its labels do not tell what raters had; ratings can be chosen for CREMA-D only")
    corpus = reader.read(root, participants=Path(participants) if participants else None, **options)
    return folded(corpus, fold) if fold else corpus


def check(root: Path | str) -> Report:
    """Everything under ``root`` that is not as its layout documents it.

    Raises ``InputError`` where there is nothing to check: no such folder, or no video in it.
    """
    return _reader(Path(root)).check(Path(root))


def _reader(root: Path) -> ModuleType:
    from emibook.corpus import crema_d, folder, simulated
    from emibook.corpus import hume_vidmimic2 as layout

    return next((reader for reader in (simulated, layout, crema_d) if reader.recognises(root)), folder)
