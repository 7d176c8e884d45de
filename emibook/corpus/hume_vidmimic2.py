"""Hume-Vidmimic2 in the layout that participants of the challenge receive: read, check and write it.

    <root>/
      raw/00000.mp4 ...              train and valid together; the two tables list them
      train_split.csv valid_split.csv
      test_data/raw/12660.mp4 ...    no labels
      audio/ face_images/ vit/ wav2vec2/, also under test_data/      optional

Source: the data set's own files (6th ABAW, emotional mimicry intensity challenge). A puppet corpus, which
has the same layout, is marked by ``puppet.json`` and may hold ``truth/`` and ``participants.csv``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from emibook import InputError, files
from emibook.corpus import COLUMNS, Corpus, Report, tables
from emibook.corpus.folder import VIDEO_ENDINGS

EMOTIONS = ("Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy")
"""The six targets, in the order of the data set's tables."""
HEADER = ("Filename", *EMOTIONS)
SPLITS = {"train": "train_split.csv", "valid": "valid_split.csv"}
PUPPET_NOTE = "trained on drawings; says nothing about people"
# By folder, the suffix of a clip's file after its five digits ("" where each clip has a folder of images).
OPTIONAL = {"audio": ".mp3", "face_images": "", "vit": ".pkl", "wav2vec2": ".pkl"}
KNOWN = {"raw", "test_data", *OPTIONAL, *SPLITS.values(), "truth", "participants.csv", "puppet.json"}


def recognises(root: Path) -> bool:
    """Whether ``root`` has the layout of Hume-Vidmimic2, complete or not.

    True where ``root`` has a split table, or a folder ``raw`` or ``test_data/raw`` and no video of its own.
    """
    root = Path(root)
    if any((root / name).is_file() for name in SPLITS.values()):
        return True
    if not ((root / "raw").is_dir() or (root / "test_data" / "raw").is_dir()):
        return False
    return not any(path.suffix.lower() in VIDEO_ENDINGS for path in root.iterdir() if path.is_file())


def read(root: Path, participants: Path | None = None) -> Corpus:
    """Read the corpus. A damaged video stays in it, and preprocessing reports its error.

    Args:
        root: the data set's folder.
        participants: a CSV with the columns ``clip,participant``; without it ``participants.csv`` is read where the
            corpus has one.

    Raises:
        InputError: the first problem of the tables, and the number of further ones.
    """
    scan = _Scan(Path(root), participants)
    tables.stop_at_first(scan.problems, scan.root)
    return Corpus(scan.name, scan.root.resolve(), scan.clips, EMOTIONS, PUPPET_NOTE if scan.is_puppet else "")


def check(root: Path) -> Report:
    """All deviations from the documented layout, by clip and file."""
    scan = _Scan(Path(root), None)
    return Report(scan.name, scan.counts, scan.problems + scan.damaged, scan.notes)


def write_split(path: Path, table: pd.DataFrame) -> None:
    """Write ``clip`` and the six emotions of ``table`` as a table of the data set: a split, or a submission.

    Rows are sorted by id, values have at most six digits.

    Raises:
        InputError: an id is not five digits or occurs twice, or a value is outside [0, 1].
    """
    path = Path(path)
    for clip in table["clip"]:
        if not re.fullmatch("[0-9]{5}", str(clip)):
            raise InputError(f"{path}: clip {clip!r} is not named by five digits, as this data set's clips are")
    for clip in tables.duplicates(table["clip"]):
        raise InputError(f"{path}: clip {clip} would be written twice")
    values = table[list(EMOTIONS)].to_numpy(dtype=np.float64)
    outside = np.argwhere(~((values >= 0) & (values <= 1)))
    if len(outside):
        row, column = outside[0]
        raise InputError(f"{path}: clip {table['clip'].iloc[row]}: {EMOTIONS[column]} is {values[row, column]}, "
                         "outside [0, 1]")
    _write(path, table, EMOTIONS)


def write_submission(path: Path, corpus: Corpus, predictions: pd.DataFrame) -> None:
    """Write a submission in the challenge's form: ``Filename`` and the targets, one row per test clip, sorted by id.

    Args:
        path: the CSV to write.
        corpus: the corpus with the test clips.
        predictions: columns ``clip`` and the corpus's targets; values are clipped to ``Corpus.ranges``.

    Raises:
        InputError: a test clip has no prediction, or a prediction no test clip.
    """
    expected, given = set(corpus.partition("test")["clip"]), set(predictions["clip"])
    if not expected:
        raise InputError(f"{corpus.root}: has no test clips, so there is nothing to submit")
    if expected != given:
        clip = min(expected ^ given)
        lack = "has no prediction" if clip in expected else "is no test clip"
        raise InputError(f"{path}: clip {clip} {lack}; a submission has one row for each of {len(expected)} test clips")
    table = predictions[["clip", *corpus.targets]].copy()
    low, high = np.array(list(corpus.ranges().values())).T
    table[list(corpus.targets)] = table[list(corpus.targets)].clip(low, high, axis=1)
    if tuple(corpus.targets) == EMOTIONS:
        write_split(path, table)
        return
    for clip in tables.duplicates(table["clip"]):
        raise InputError(f"{path}: clip {clip} would be written twice")
    _write(Path(path), table, corpus.targets)


def _write(path: Path, table: pd.DataFrame, targets: Sequence[str]) -> None:
    """``Filename`` and the ``targets``, sorted by clip, at most six digits."""
    rows = table[["clip", *targets]].rename(columns={"clip": "Filename"}).sort_values("Filename")
    files.write_text(path, rows.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


class _Scan:
    """One pass over the tables and folders: the clips, and all deviations from the documented layout.

    ``problems`` prevent reading the corpus, ``damaged`` are unusable media files, ``notes`` are deviations that are
    handled.
    """

    def __init__(self, root: Path, participants: Path | None) -> None:
        self.root = root
        self.problems: list[str] = []
        self.damaged: list[str] = []
        self.notes: list[str] = []
        self.is_puppet = (root / "puppet.json").is_file()
        self.name = "puppet" if self.is_puppet else "hume-vidmimic2"
        raw, test = self._videos("raw"), self._videos("test_data/raw")
        if not raw and not test:
            raise InputError(f"{root}: no .mp4 in raw/ or test_data/raw/; give the data set's own folder")
        splits = {partition: self._split(partition, raw) for partition in SPLITS}
        for clip in sorted(set(splits["train"]["clip"]) & set(splits["valid"]["clip"])):
            self.problems.append(f"clip {clip}: in both train_split.csv and valid_split.csv")
        for clip in sorted(set(raw) & set(test)):
            self.problems.append(f"clip {clip}: in both raw/ and test_data/raw/")
        listed = {clip for split in splits.values() for clip in split["clip"]}
        self._note("raw: in neither table, so left out", set(raw) - listed)
        sounds = self._optional("", raw) | self._optional("test_data/", test)
        self._unknown()
        splits["test"] = pd.DataFrame({"clip": sorted(test)}).reindex(columns=["clip", *EMOTIONS])
        clips = pd.concat([split.assign(partition=name) for name, split in splits.items()], ignore_index=True)
        by_clip = self._participants(participants, set(clips["clip"]))
        clips["path"] = [str({**raw, **test}.get(clip, "")) for clip in clips["clip"]]
        clips["audio"] = [str(sounds.get(clip, "")) for clip in clips["clip"]]
        clips["participant"] = [by_clip.get(clip, "") for clip in clips["clip"]]
        clips = clips.astype(dict.fromkeys(EMOTIONS, np.float64))
        self.clips = clips[[*COLUMNS, *EMOTIONS]].sort_values("clip", ignore_index=True)
        self.counts = {**{name: len(split) for name, split in splits.items()}, "sound files": len(sounds),
                       "participants": clips.loc[clips["participant"] != "", "participant"].nunique()}

    def _note(self, what: str, names: Iterable[str]) -> None:
        """Add one note that lists the ``names``."""
        names = sorted(names)
        if names:
            self.notes.append(f"{what} ({len(names)}): {', '.join(names)}")

    def _entries(self, folder: str) -> list[os.DirEntry]:
        """The entries of ``folder``, sorted, without hidden files and those of file managers."""
        if not (self.root / folder).is_dir():
            return []
        with os.scandir(self.root / folder) as entries:
            return sorted((e for e in entries if not tables.is_litter(e.name)), key=lambda entry: entry.name)

    def _by_clip(self, folder: str, ending: str) -> dict[str, os.DirEntry]:
        """The entries named by five digits and ``ending``; others go to the notes, empty files to ``damaged``."""
        entries, unknown = {}, []
        for entry in self._entries(folder):
            if not re.fullmatch("[0-9]{5}" + re.escape(ending), entry.name) or entry.is_dir() != (ending == ""):
                unknown.append(entry.name)
                continue
            entries[entry.name.removesuffix(ending) if ending else entry.name] = entry
            if ending and entry.stat().st_size == 0:
                self.damaged.append(f"clip {entry.name[:5]}: {folder}/{entry.name} has zero bytes; fetch it again")
        self._note(f"{folder}: not named as in this data set, so left out", unknown)
        return entries

    def _videos(self, folder: str) -> dict[str, Path]:
        return {clip: Path(entry.path).absolute() for clip, entry in self._by_clip(folder, ".mp4").items()}

    def _optional(self, folder: str, videos: dict[str, Path]) -> dict[str, Path]:
        """Check the optional folders beside the videos; returns the sound files by clip."""
        sounds = {}
        for name, ending in OPTIONAL.items():
            entries = self._by_clip(folder + name, ending)
            if entries:
                self._note(f"{folder}{name}: without a video, so left out", set(entries) - set(videos))
                self._note(f"{folder}{name}: no file of these clips", set(videos) - set(entries))
            if name == "audio":
                sounds = {clip: Path(e.path).absolute() for clip, e in entries.items() if clip in videos}
        return sounds

    def _unknown(self) -> None:
        self._note("not part of this data set, so left out", {e.name for e in self._entries("")} - KNOWN)
        self._note("test_data: not part of this data set, so left out",
                   {e.name for e in self._entries("test_data")} - {"raw", *OPTIONAL})

    def _split(self, partition: str, videos: dict[str, Path]) -> pd.DataFrame:
        """The clips and labels of one table; each invalid id or label is added to the problems."""
        name = SPLITS[partition]
        empty = pd.DataFrame({"clip": []}, dtype=str).reindex(columns=["clip", *EMOTIONS])
        try:
            table = tables.read_text(self.root / name, HEADER)
        except InputError as error:
            self.problems.append(str(error).removeprefix(f"{self.root}{os.sep}"))
            return empty
        if table.empty:
            self.problems.append(f"{name}: has a header and no rows")
            return empty
        self._note(f"{name}: columns that are not this data set's, so left out", set(table.columns) - set(HEADER))
        ids = table["Filename"].map(_five_digits)
        changed = [f"{cell} is {clip}" for cell, clip in zip(table["Filename"], ids, strict=True) if cell != clip]
        self._note(f"{name}: ids that were written as numbers, read as five digits", changed)
        for clip in tables.duplicates(ids):
            self.problems.append(f"{name}, clip {clip}: listed {int((ids == clip).sum())} times")
        for clip in dict.fromkeys(ids):
            if not re.fullmatch("[0-9]{5}", clip):
                self.problems.append(f"{name}, clip {clip or '(empty)'}: an id has five digits, as 00017")
            elif clip not in videos:
                self.problems.append(f"{name}, clip {clip}: listed, but raw/{clip}.mp4 is absent")
        split = pd.DataFrame({"clip": ids})
        for emotion in EMOTIONS:
            split[emotion] = tables.numbers(table[emotion])
            for row in np.flatnonzero(~split[emotion].between(0, 1).to_numpy()):
                cell = table[emotion].iloc[row] or "empty"
                self.problems.append(f"{name}, clip {ids.iloc[row]}: {emotion} is {cell}, not a number in [0, 1]")
        return split.drop_duplicates("clip")

    def _participants(self, path: Path | None, clips: set[str]) -> dict[str, str]:
        path = path or self.root / "participants.csv"
        if path == self.root / "participants.csv" and not path.is_file():
            return {}
        try:
            by_clip, problems = tables.read_participants(path, _five_digits)
        except InputError as error:
            self.problems.append(str(error))
            return {}
        self.problems += problems
        self._note(f"{path.name}: participants of clips that are not here", set(by_clip) - clips)
        self._note(f"{path.name}: clips without a participant", clips - set(by_clip))
        return by_clip


def _five_digits(cell: str) -> str:
    """An id in the data set's form. A spreadsheet that took ``00017`` for a number wrote ``17`` or ``17.0``."""
    number = re.fullmatch(r"([0-9]{1,5})(\.0*)?", cell)
    return number[1].zfill(5) if number else cell
