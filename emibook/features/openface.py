"""Action units by OpenFace 2: run on a clip, or read from tables that it, or py-feat, wrote before.

    FeatureExtraction -fdir FACES/clip -aus        on our aligned crops, to the paper's letter
    FeatureExtraction -f VIDEO -aus -2Dfp          on the whole video, whose faces are larger and whose people are all
                                                   there, so that OpenFace fails less often and knows a person's rest

Source: the paper, section 3.2.1 (OpenFace on each facial image; intensity on 0..1); Baltrusaitis et al., "OpenFace
2.0" (2018). OpenFace's licence is for research that earns nothing; it is no part of this project and is not fetched.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from emibook import InputError
from emibook.features.au_tables import CLOCK, Table, columns_of, onto_clock, read_table
from emibook.features.aus import NAMES
from emibook.features.registry import Clip
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights, file_fingerprint

PROGRAM = "FeatureExtraction"
WAYS = ("crops", "video")
PATIENCE_SECONDS, PATIENCE_PER_FRAME = 120.0, 2.0  # OpenFace takes about 0.05 s a frame on one core
SPAN = 0.1, 0.2  # share and seconds by which a table's last timestamp may miss the clip's length


def find_program() -> Path | None:
    """OpenFace's program where it is on the path."""
    found = shutil.which(PROGRAM)
    return Path(found) if found else None


def resolve(source: str, way: str, encoders: Path) -> Weights:
    """The weights that ``source`` means: ``openface``, the path of its program, or a folder of tables.

    ``way`` is what a program looks at, ``crops`` or ``video``. Raises ``InputError`` where there is no such thing.
    """
    if way not in WAYS:
        raise InputError(f"aus from {way!r}: OpenFace looks at {' or at '.join(WAYS)}")
    if source == "openface":
        program = find_program()
        if program is None:
            raise InputError(f"aus: no {PROGRAM} on the path; install OpenFace 2, or give it as --weights "
                             f"aus=.../{PROGRAM}, or the folder of its tables")
        return describe_program(program, way, encoders)
    path = Path(source)
    if path.is_dir():
        return describe_tables(path, encoders)
    if not path.is_file():
        raise InputError(f"aus: no weights called {source!r}; give openface or builtin, the path of OpenFace's "
                         f"{PROGRAM}, or a folder of tables, <clip>.csv each")
    return describe_program(path, way, encoders)


def describe_program(program: Path, way: str, encoders: Path) -> Weights:
    """The weights of a program and of the way in which it is used, ``crops`` or ``video``."""
    program = program.resolve()
    if not os.access(program, os.X_OK):
        raise InputError(f"aus: {program} is no program; give OpenFace's {PROGRAM}, or the folder of its tables")
    about = {"program": str(program), "sha256": file_fingerprint(program), "from": way}
    return _describe("openface" if way == "crops" else "openface-video", about, encoders)


def describe_tables(folder: Path, encoders: Path) -> Weights:
    """The weights of a folder of tables, ``<clip>.csv`` each. Raises ``InputError`` where they are of several kinds."""
    folder, kinds = folder.resolve(), {}
    for path in sorted(folder.glob("*.csv")):
        kinds.setdefault(columns_of(path), path)
    if not kinds:
        raise InputError(f"aus: {folder} holds no .csv; expected OpenFace's or py-feat's tables, <clip>.csv each")
    if len(kinds) > 1:
        (_, one), (_, other) = list(kinds.items())[:2]
        raise InputError(f"aus: {one} and {other.name} have different action units; tables of one kind go together")
    [(program, columns)] = kinds
    about = {"tables": str(folder), "program": program, "columns": columns}
    return _describe("openface-tables" if program == "OpenFace" else "py-feat-tables", about, encoders)


def _describe(kind: str, about: dict[str, Any], encoders: Path) -> Weights:
    """Write what a source is into ``encoders``, under the fingerprint of its text."""
    encoders.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = encoders / f"aus-{kind}-{digest[:12]}.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)
    return Weights(kind, path.name, digest)


def read_description(weights: Weights, encoders: Path) -> dict[str, Any]:
    """What ``describe_program`` or ``describe_tables`` wrote."""
    return json.loads(weights.path(encoders).read_text())


def program_of(weights: Weights, encoders: Path) -> str:
    """The path of the program that these weights are. Raises ``InputError`` where they are tables."""
    about = read_description(weights, encoders)
    if "program" not in about or "from" not in about:
        raise InputError(f"aus: read from the tables in {about['tables']}; what OpenFace looks at is for its program, "
                         "--weights aus=openface")
    return about["program"]


class OpenFace:
    """34 columns a face of ours that OpenFace measures too. Called with a ``Clip``.

    A picture where OpenFace fails gives no row. Rows have the times of the clock.
    """

    name, version, width = "aus", "1", len(NAMES)
    reads_clip = True

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        about = read_description(weights, folder)
        self.program, self.way, self.label = Path(about["program"]), about["from"], weights.label
        if not self.program.is_file() or file_fingerprint(self.program) != about["sha256"]:
            raise InputError(f"aus: {self.program} is gone or has changed; give it again with --weights "
                             f"aus=.../{PROGRAM}")

    def __call__(self, clip: Clip) -> FeatureSequence:
        if clip.failed:
            return _nothing(self.label)
        times, values, facts = self._by_crops(clip) if self.way == "crops" else self._by_video(clip)
        if clip.sampled:
            other = self._crops(clip) if self.way == "video" else self._video(clip)
            facts |= _shares("video" if self.way == "crops" else "crops", other)
        facts["on"] = WAYS.index(self.way)
        return FeatureSequence(values, times, NAMES, self.name, self.label, self.version, facts)

    @staticmethod
    def made_from(clip: Clip) -> Path:
        """What the clip's features become older than."""
        return clip.work / "faces" / f"{clip.id}.csv"

    def _by_crops(self, clip: Clip) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        track, table = _track(clip), self._crops(clip)
        if table is None:
            return np.zeros(0), np.zeros((0, self.width), np.float32), _shares("crops", None)
        if table.picture.max(initial=0) >= len(track):
            raise InputError(f"OpenFace counts {table.picture.max() + 1} pictures in {clip.faces}, which has "
                             f"{len(track)}")
        # A picture is a crop, so it is its frame's: OpenFace's own timestamps know nothing of the frames between.
        steps = np.rint(track["time"].to_numpy() * CLOCK).astype(int)
        there, values, facts = onto_clock(table, steps[table.picture] / CLOCK, steps, None)
        return track["time"].to_numpy(np.float64)[there], values, facts | _shares("crops", table)

    def _by_video(self, clip: Clip) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        table = self._video(clip)
        if not len(_track(clip)):
            return np.zeros(0), np.zeros((0, self.width), np.float32), _shares("video", table)
        # OpenFace reckons time from the container's frame rate, which may be anything; its count of pictures is sound.
        seconds = _by_count(table, clip)
        moved = 0.0 if table.seconds is None else float(np.abs(seconds - table.seconds).max(initial=0))
        times, values, facts = _matched(table, seconds, clip)
        return times, values, facts | _shares("video", table) | {"clock_off": round(moved, 6)}

    def _crops(self, clip: Clip) -> Table | None:
        """OpenFace's table of the crops in their order; None where there are none."""
        count = len(_track(clip))
        return self._run(["-fdir", str(clip.faces)], clip, count) if count else None

    def _video(self, clip: Clip) -> Table:
        return self._run(["-f", str(clip.path), "-2Dfp"], clip, math.ceil(clip.seconds * CLOCK))

    def _run(self, what: list[str], clip: Clip, frames: int) -> Table:
        patience = PATIENCE_SECONDS + PATIENCE_PER_FRAME * frames
        with tempfile.TemporaryDirectory(prefix="emibook-") as out:
            command = [str(self.program), *what, "-out_dir", out, "-of", "units", "-aus"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=patience,
                                      stdin=subprocess.DEVNULL)
            except subprocess.TimeoutExpired:
                raise InputError(f"OpenFace did not end within {patience:.0f} s on {what[1]}") from None
            except OSError as error:
                raise InputError(f"{self.program} does not start ({error.strerror})") from None
            table = Path(out) / "units.csv"
            if done.returncode or not table.is_file():
                raise InputError(f"OpenFace gave nothing for {what[1]} (exit code {done.returncode}): "
                                 f"{_last_words(done.stderr, done.stdout)}")
            return read_table(table)

    @staticmethod
    def summary(facts: Sequence[dict[str, float]]) -> str:
        """One line about all clips: how often OpenFace succeeded, both ways on a sample, and what the join did."""
        parts = []
        for way, words in (("crops", "the crops"), ("video", "the videos' pictures")):
            if share := _share_of([each for each in facts if each.get("on") == WAYS.index(way)], way):
                parts.append(f"OpenFace succeeded in {share} of {words}")
        both = [each for each in facts if "crops_pictures" in each and "video_pictures" in each]
        if both:
            parts.append(f"on a sample of {len(both)} clips in {_share_of(both, 'crops') or 'none'} of the crops and "
                         f"{_share_of(both, 'video') or 'none'} of the videos' pictures")
        return "; ".join([*parts, *_about_join(facts)])


class ActionUnitTables:
    """34 columns a face of ours from the table ``FOLDER/<clip>.csv``; a clip without one has no rows.

    Called with a ``Clip``. Rows are joined by the table's timestamps. Where these do not span the clip, because they
    were reckoned from a container's frame rate that means nothing, the pictures are counted in the video itself.
    """

    name, version, width = "aus", "1", len(NAMES)
    reads_clip = of_the_corpus = True

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        about = read_description(weights, folder)
        self.folder, self.columns, self.label = Path(about["tables"]), tuple(about["columns"]), weights.label

    def made_from(self, clip: Clip) -> Path:
        """What the clip's features become older than."""
        return self.folder / f"{clip.id}.csv"

    def __call__(self, clip: Clip) -> FeatureSequence:
        if clip.failed:
            return _nothing(self.label)
        path = self.made_from(clip)
        times, values, facts = np.zeros(0), np.zeros((0, self.width), np.float32), {"tables": 0}
        if path.is_file():
            table = read_table(path)
            if table.columns != self.columns:
                raise InputError(f"{path} has other action units than the folder had; give the folder again with "
                                 "--weights")
            seconds, counted = table.seconds, False
            reach = 0.0 if seconds is None else float(seconds.max(initial=0)) + 1 / CLOCK
            if len(table) and (seconds is None or abs(reach - clip.seconds) > SPAN[0] * clip.seconds + SPAN[1]):
                try:
                    seconds, counted = _by_count(table, clip), True
                except InputError:
                    if seconds is None:
                        raise
            times, values, facts = _matched(table, np.zeros(0) if seconds is None else seconds, clip)
            facts |= {"tables": 1, "counted": int(counted), "missing_columns": len(NAMES) - len(self.columns),
                      **_shares("table", table)}
        return FeatureSequence(values, times, NAMES, self.name, self.label, self.version, facts)

    @staticmethod
    def summary(facts: Sequence[dict[str, float]]) -> str:
        """One line about all clips."""
        found = [each for each in facts if each.get("tables")]
        parts = [f"{len(found)} of {len(facts)} clips have a table"]
        if found:
            parts.append(f"with a measurement in {_share_of(found, 'table') or 'none'} of the pictures")
            if missing := int(found[0]["missing_columns"]):
                parts.append(f"the tables lack {missing} of the {len(NAMES)} columns, which are 0 in every row")
            if counted := sum(int(each["counted"]) for each in found):
                parts.append(f"in {counted} there are no timestamps that span the clip, so the video's pictures were "
                             "counted")
        return "; ".join([*parts, *_about_join(found)])


def _nothing(label: str) -> FeatureSequence:
    return FeatureSequence(np.zeros((0, len(NAMES)), np.float32), np.zeros(0), NAMES, "aus", label, OpenFace.version)


def _track(clip: Clip):
    """The rows of the clip's track that have a face."""
    from emibook.preprocess import read_track

    track = read_track(clip.work, clip.id)
    return track[track["face"] == 1]


def _matched(table: Table, seconds: np.ndarray, clip: Clip) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Times, values and facts of the faces of ours that the table has."""
    track = _track(clip)
    boxes = track[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    there, values, facts = onto_clock(table, seconds, track["frame"].to_numpy(int), boxes)
    return track["time"].to_numpy(np.float64)[there], values, facts


def _by_count(table: Table, clip: Clip) -> np.ndarray:
    """(row,) the time of each row's picture, as the video's own timestamps say. Raises where the video has fewer."""
    shown = _picture_seconds(clip.path)
    if table.picture.max(initial=-1) >= len(shown):
        raise InputError(f"clip {clip.id}: the table counts {table.picture.max() + 1} pictures, the video has "
                         f"{len(shown)}")
    return shown[table.picture]


def _picture_seconds(path: Path) -> np.ndarray:
    """(picture,) when each picture of a video is shown, counted from the first one."""
    shown = []
    try:
        with av.open(str(path)) as container:
            for picture in container.decode(video=0):
                shown.append(float(picture.pts * picture.time_base) if picture.pts is not None else np.nan)
    except (av.FFmpegError, OSError):  # of a damaged file comes what decodes
        pass
    times = np.array(shown)
    return times - times[0] if len(times) else times


def _shares(way: str, table: Table | None) -> dict[str, float]:
    return {f"{way}_pictures": 0 if table is None else table.pictures,
            f"{way}_succeeded": 0 if table is None else table.succeeded}


def _share_of(facts: Iterable[dict[str, float]], way: str) -> str:
    """The share of pictures that succeeded, over the clips that tell; no text where there are no pictures."""
    facts = [each for each in facts if f"{way}_pictures" in each]
    pictures = sum(each[f"{way}_pictures"] for each in facts)
    return f"{sum(each[f'{way}_succeeded'] for each in facts) / pictures:.1%}" if pictures else ""


def _about_join(facts: Sequence[dict[str, float]]) -> list[str]:
    """How the rows met the clock's steps."""
    joined = [each for each in facts if each.get("steps")]
    if not joined:
        return []
    steps = sum(each["steps"] for each in joined)
    lost = {key: sum(each[key] for each in joined) for key in ("failed", "elsewhere", "absent")}
    rows = steps - sum(lost.values())
    words = {"failed": "not measured", "elsewhere": "somebody else's face only", "absent": "not in the table"}
    why = ", ".join(f"{words[key]} {int(count)}" for key, count in lost.items() if count)
    return [f"{int(rows)} of {int(steps)} faces have a row" + (f" ({why})" if why else ""),
            f"a row's picture is at most {max(each['gap_most'] for each in joined):.4f} s from its step, median "
            f"{np.median([each['gap_median'] for each in joined]):.4f} s"]


def _last_words(*texts: str) -> str:
    """The last line that says anything."""
    lines = [line.strip() for text in texts for line in text.splitlines()[::-1] if line.strip()]
    return lines[0] if lines else "it said nothing"
