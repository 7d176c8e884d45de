"""Corpora: which clips there are, in which partition, and what raters said of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

PARTITIONS = ("train", "valid", "test")
COLUMNS = ("clip", "partition", "path", "audio", "participant")


@dataclass(frozen=True)
class Corpus:
    """Clips, their partitions and their targets.

    ``clips`` has one row a clip, sorted by ``clip``, and the columns ``clip`` (text id), ``partition``
    (``train``, ``valid``, ``test``, or empty text where the corpus has none), ``path`` (the video file), ``audio``
    (the file of its sound where that is a file of its own, else empty text), ``participant`` (text, empty
    where unknown), then one float column for each name in ``targets`` (NaN where a clip has no label).
    """

    name: str
    root: Path
    clips: pandas.DataFrame
    targets: tuple[str, ...]
    note: str = ""
    """What every table, picture and page made from this corpus has to say of it; empty for real people."""

    def __post_init__(self) -> None:
        expected = [*COLUMNS, *self.targets]
        if list(self.clips.columns) != expected:
            raise ValueError(f"corpus table has columns {list(self.clips.columns)}, expected {expected}")
        if self.clips["clip"].duplicated().any():
            raise ValueError("corpus table names a clip twice")

    def partition(self, name: str) -> pandas.DataFrame:
        """The rows of one partition."""
        return self.clips[self.clips["partition"] == name].reset_index(drop=True)


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


def open_corpus(root: Path | str, participants: Path | str | None = None) -> Corpus:
    """Read the corpus under ``root``, whichever known layout it has.

    ``participants`` is a CSV with the columns ``clip,participant`` for a data set that names none.
    Raises ``InputError`` with one line where the corpus cannot be used.
    """
    return _reader(Path(root)).read(Path(root), participants=Path(participants) if participants else None)


def check(root: Path | str) -> Report:
    """Everything under ``root`` that is not as its layout documents it.

    Raises ``InputError`` where there is nothing to check: no such folder, or no video in it.
    """
    return _reader(Path(root)).check(Path(root))


def _reader(root: Path) -> ModuleType:
    from emibook.corpus import folder, layout

    return layout if layout.recognises(root) else folder
