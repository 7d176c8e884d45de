"""Any folder of videos as a corpus, with or without one CSV of their partitions, participants and targets.

The CSV has the column ``clip`` (a video's name without its ending), may have ``partition`` and ``participant``, and
every other column of numbers is a target. The clips that it lists are the corpus; without a CSV, every video is.
A sound file with a video's name replaces the sound inside the video.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from emibook import InputError
from emibook.corpus import COLUMNS, PARTITIONS, Corpus, Report, tables

VIDEO_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".m4v", ".mpg", ".mpeg")
SOUND_ENDINGS = (".wav", ".mp3", ".m4a", ".flac", ".ogg", ".opus", ".aac", ".wma")


def recognises(root: Path) -> bool:
    """Whether there is a video directly in ``root``."""
    root = Path(root)
    return root.is_dir() and any(path.suffix.lower() in VIDEO_ENDINGS for path in root.iterdir() if path.is_file())


def read(root: Path, participants: Path | None = None) -> Corpus:
    """Read the corpus.

    Args:
        root: the folder of the videos.
        participants: a CSV with the columns ``clip,participant``, which replaces the corpus's own column.

    Raises:
        InputError: the first problem, and the number of further ones.
    """
    scan = _Scan(Path(root), participants)
    tables.stop_at_first(scan.problems, scan.root)
    return Corpus("folder", scan.root.resolve(), scan.clips, scan.targets)


def check(root: Path) -> Report:
    """All problems of the folder, by clip and file."""
    scan = _Scan(Path(root), None)
    return Report("folder", scan.counts, scan.problems + scan.damaged, scan.notes)


class _Scan:
    """One pass over the folder and its CSV: the clips, and all their problems.

    ``problems`` prevent reading the corpus, ``damaged`` are unusable media files, ``notes`` are deviations that are
    handled.
    """

    def __init__(self, root: Path, participants: Path | None) -> None:
        self.root = root
        self.problems: list[str] = []
        self.damaged: list[str] = []
        self.notes: list[str] = []
        self.targets: tuple[str, ...] = ()
        if not root.is_dir():
            reason = "is a file" if root.exists() else "no such folder"
            raise InputError(f"{root}: {reason}; give the folder that holds the videos")
        files = sorted(path.absolute() for path in root.iterdir()
                       if path.is_file() and not tables.is_litter(path.name))
        videos, sounds = self._by_stem(files, VIDEO_ENDINGS), self._by_stem(files, SOUND_ENDINGS)
        if not videos:
            raise InputError(f"{root}: no video in it; looked for {' '.join(VIDEO_ENDINGS)}")
        for clip in videos:
            if reason := tables.bad_id(clip):
                self.problems.append(f"clip {clip}: its id {reason}; rename {videos[clip].name}")
        self._note("sound without a video of its name, so left out", {sounds[clip].name for clip in sounds
                                                                     if clip not in videos})
        tabular = [path for path in files if path.suffix.lower() == ".csv"]
        if len(tabular) > 1:
            names = ", ".join(path.name for path in tabular)
            self.problems.append(f"{len(tabular)} CSV files, where there may be one table of the clips: {names}")
        known = (*VIDEO_ENDINGS, *SOUND_ENDINGS, ".csv")
        self._note("no video, sound or CSV, so left out",
                   {path.name for path in files if path.suffix.lower() not in known})
        table = self._table(tabular[0], videos) if tabular else pd.DataFrame({"clip": sorted(videos)})
        table["path"] = [str(videos.get(clip, "")) for clip in table["clip"]]
        table["audio"] = [str(sounds.get(clip, "")) for clip in table["clip"]]
        for name in ("partition", "participant"):
            if name not in table:
                table[name] = ""
        if participants:
            self._participants(participants, table)
        self.clips = table[[*COLUMNS, *self.targets]].sort_values("clip", ignore_index=True)
        self.counts = {"clips": len(table)}
        self.counts |= {name: int((table["partition"] == name).sum()) for name in PARTITIONS
                        if (table["partition"] == name).any()}
        self.counts |= {"sound files": int((table["audio"] != "").sum()), "targets": len(self.targets),
                        "participants": table.loc[table["participant"] != "", "participant"].nunique()}

    def _note(self, what: str, names: set[str]) -> None:
        if names:
            self.notes.append(f"{what} ({len(names)}): {', '.join(sorted(names))}")

    def _by_stem(self, files: list[Path], endings: tuple[str, ...]) -> dict[str, Path]:
        by_stem: dict[str, Path] = {}
        for path in files:
            if path.suffix.lower() not in endings:
                continue
            if path.stem in by_stem:
                self.problems.append(f"clip {path.stem}: two files of that name, {by_stem[path.stem].name} and "
                                     f"{path.name}; a clip's id is its file's name without the ending")
            by_stem.setdefault(path.stem, path)
            if path.stat().st_size == 0:
                self.damaged.append(f"clip {path.stem}: {path.name} has zero bytes; fetch it again")
        return by_stem

    def _table(self, path: Path, videos: dict[str, Path]) -> pd.DataFrame:
        """The rows of the CSV, one per clip, with the targets as numbers."""
        name = path.name
        try:
            rows = tables.read_text(path, ("clip",))
        except InputError as error:
            self.problems.append(str(error).removeprefix(f"{path.parent}{os.sep}"))
            return pd.DataFrame({"clip": sorted(videos)})
        if rows.empty:
            self.problems.append(f"{name}: has a header and no rows")
        for clip in tables.duplicates(rows["clip"]):
            self.problems.append(f"{name}, clip {clip}: listed {int((rows['clip'] == clip).sum())} times")
        for clip in dict.fromkeys(rows["clip"]):
            if clip not in videos:
                self.problems.append(f"{name}, clip {clip or '(empty)'}: listed, but no video of that name is here")
        self._note(f"not in {name}, so left out", {videos[clip].name for clip in set(videos) - set(rows["clip"])})
        table = rows[["clip"]].copy()
        for column in rows.columns.drop("clip"):
            if column in ("partition", "participant"):
                table[column] = rows[column]
                continue
            values, cells = tables.numbers(rows[column]), rows[column].to_numpy()
            wrong = np.isnan(values) & (cells != "")
            if column in COLUMNS or wrong.sum() == (cells != "").sum():
                self._note(f"{name}: column that holds no target, so left out", {column})
                continue
            for clip, cell in zip(rows["clip"][wrong], cells[wrong], strict=True):
                self.problems.append(f"{name}, clip {clip}: {column} is {cell}, not a number")
            table[column] = values
            self.targets += (column,)
        if "partition" in table:
            for clip, partition in zip(table["clip"], table["partition"], strict=True):
                if partition not in ("", *PARTITIONS):
                    self.problems.append(f"{name}, clip {clip}: partition is {partition}; "
                                         f"it may be {', '.join(PARTITIONS)} or empty")
        return table.drop_duplicates("clip")

    def _participants(self, path: Path, table: pd.DataFrame) -> None:
        try:
            by_clip, problems = tables.read_participants(path)
        except InputError as error:
            self.problems.append(str(error))
            return
        self.problems += problems
        self._note(f"{path.name}: participants of clips that are not here", set(by_clip) - set(table["clip"]))
        table["participant"] = [by_clip.get(clip, own)
                                for clip, own in zip(table["clip"], table["participant"], strict=True)]
