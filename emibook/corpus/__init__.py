"""Corpora: the clips of a data set, their partitions, media files, participants and labels."""

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
"""The modalities that raters were shown, where a corpus tells these apart."""


@dataclass(frozen=True)
class Corpus:
    """Clips, their partitions and their targets.

    ``clips`` has one row per clip, sorted by ``clip``, and the columns ``clip`` (text id), ``partition``
    (``train``, ``valid``, ``test``, or empty text for a clip in none), ``path`` (the video file, empty text without
    one), ``audio`` (a separate sound file, else empty text), ``participant`` (text, empty where unknown), then one
    float column per name in ``targets`` (NaN where a clip has no label).
    """

    name: str
    root: Path
    clips: pandas.DataFrame
    targets: tuple[str, ...]
    note: str = ""
    """A caveat that every table, figure and page made from this corpus has to repeat."""
    unimodal_ratings: Mapping[str, numpy.ndarray] = field(default_factory=dict)
    """Ratings by people who were shown less than the raters behind the targets: ``V``, the picture only, and ``A``, the
    sound only, each (clip, target) in the order of ``clips``. Empty where the corpus has no such raters."""
    made_with: str = ""
    """The settings of a simulated corpus as text, which its features repeat; empty for any other corpus."""

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
        """Lower and upper limit of each target: 0 and 1, or the range of the training labels where it is wider."""
        rows = self.partition("train")
        rows = rows if len(rows) else self.clips
        spans = {target: (float(rows[target].min()), float(rows[target].max())) for target in self.targets}
        return {target: (low, high) if low < 0 or high > 1 else (0.0, 1.0) for target, (low, high) in spans.items()}


@dataclass(frozen=True)
class Report:
    """The result of ``check``: one line for each deviation from the documented layout.

    ``problems`` are errors; ``notes`` are deviations that the reader handles, and each line says how. ``counts`` maps
    a partition, a kind of file or ``participants`` to its number.
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
    """Read the corpus under ``root`` in any known layout.

    Args:
        root: a data set in any known layout, or a folder of videos.
        participants: a CSV with the columns ``clip,participant`` for a data set that names none.
        ratings: the modality shown to the raters behind the targets, one of ``RATINGS``, where a corpus tells these
            apart (CREMA-D; by default ``both``).
        fold: K/N, to validate on the K-th of N groups of participants instead of the corpus's own partitions.
        media: false where the labels are enough: a corpus without its media files is then read too.

    Returns:
        The corpus.

    Raises:
        InputError: one line with the reason, where the corpus cannot be used.
    """
    from emibook.corpus import crema_d, folds

    root = Path(root)
    reader = _reader(root)
    options = {"ratings": ratings or RATINGS[-1], "media": media} if reader is crema_d else {}
    if ratings not in (None, *RATINGS):
        raise InputError(f"no ratings named {ratings!r}; there are {', '.join(RATINGS)}")
    if ratings and not options:
        raise InputError(f"{root}: ratings can be chosen for CREMA-D only; other labels have one kind of rater")
    corpus = reader.read(root, participants=Path(participants) if participants else None, **options)
    return folds.fold(corpus, fold) if fold else corpus


def check(root: Path | str) -> Report:
    """Compare the files under ``root`` with the documentation of their layout.

    Raises:
        InputError: ``root`` is no folder, or has no video in it.
    """
    return _reader(Path(root)).check(Path(root))


def _reader(root: Path) -> ModuleType:
    from emibook.corpus import crema_d, folder, hume_vidmimic2, simulated

    return next((reader for reader in (simulated, hume_vidmimic2, crema_d) if reader.recognises(root)), folder)
