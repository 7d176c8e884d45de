"""Action units by OpenFace 2, run on a clip.

    FeatureExtraction -fdir FACES/clip -aus        on the aligned crops, as the paper describes it
    FeatureExtraction -f VIDEO -aus -2Dfp          on the whole video: faces are larger and everyone in it is seen, so
                                                   OpenFace fails less often and estimates a person's neutral face

Source: the paper, section 3.2.1 (OpenFace on each facial image; intensity on 0..1); Baltrusaitis et al., "OpenFace
2.0" (2018). OpenFace's licence is for non-commercial research; it is no part of this project and is not downloaded.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emibook import InputError
from emibook.doctor import Finding
from emibook.features.action_units import NAMES
from emibook.features.au_alignment import (
    alignment_summary,
    onto_clock,
    onto_track,
    seconds_by_count,
    success_counts,
    success_share,
    tracked_rows,
)
from emibook.features.au_tables import Table, read_table
from emibook.features.base import Clip
from emibook.features.openface_tables import describe_tables
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights, file_fingerprint, keep_description, read_description
from emibook.preprocess.media import FRAME_RATE

PROGRAM = "FeatureExtraction"
INPUTS = ("crops", "video")
TIMEOUT_SECONDS, TIMEOUT_PER_FRAME = 120.0, 2.0  # OpenFace takes about 0.05 s per frame on one core


def find_program() -> Path | None:
    """OpenFace's program where it is on the path."""
    path = shutil.which(PROGRAM)
    return Path(path) if path else None


def finding() -> Finding:
    """Whether this machine has OpenFace, for ``emibook doctor``."""
    program = find_program()
    return Finding("OpenFace", str(program) if program else "missing: action units as in the paper", bool(program),
                   False, f"build OpenFace 2 and put its {PROGRAM} on the path")


def resolve(source: str, inputs: str | None, encoders: Path) -> Weights:
    """The weights of a source: ``openface``, the path of its program, or a folder of tables.

    Args:
        source: the source.
        inputs: what a program measures, ``crops`` or ``video``; None is ``crops``.
        encoders: folder for the description.

    Raises:
        InputError: there is no such source.
    """
    inputs = inputs or INPUTS[0]
    if inputs not in INPUTS:
        raise InputError(f"aus from {inputs!r}: OpenFace measures {' or '.join(INPUTS)}")
    if source == "openface":
        program = find_program()
        if program is None:
            raise InputError(f"aus: no {PROGRAM} on the path; install OpenFace 2, or give it as --weights "
                             f"aus=.../{PROGRAM}, or the folder of its tables")
        return describe_program(program, inputs, encoders)
    path = Path(source)
    if path.is_dir():
        return describe_tables(path, encoders)
    if not path.is_file():
        raise InputError(f"aus: no weights called {source!r}; give openface or builtin, the path of OpenFace's "
                         f"{PROGRAM}, or a folder of tables, <clip>.csv each")
    return describe_program(path, inputs, encoders)


def describe_program(program: Path, inputs: str, encoders: Path) -> Weights:
    """The weights of a program and of its inputs, ``crops`` or ``video``."""
    program = program.resolve()
    if not os.access(program, os.X_OK):
        raise InputError(f"aus: {program} is no program; give OpenFace's {PROGRAM}, or the folder of its tables")
    about = {"program": str(program), "sha256": file_fingerprint(program), "from": inputs}
    return keep_description("aus", "openface" if inputs == "crops" else "openface-video", about, encoders)


def program_of(weights: Weights, encoders: Path) -> str:
    """The path of the program that these weights are. Raises ``InputError`` where they are tables."""
    about = read_description(weights, encoders)
    if "program" not in about or "from" not in about:
        raise InputError(f"aus: read from the tables in {about['tables']}; crops or video can be chosen for OpenFace's "
                         "program only, --weights aus=openface")
    return about["program"]


class OpenFace:
    """34 columns per tracked face that OpenFace measures too, at the times of the clock.

    A picture on which OpenFace fails has no row.
    """

    name, version, width = "aus", "1", len(NAMES)
    reads_clip = True

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        about = read_description(weights, folder)
        self.program, self.inputs, self.label = Path(about["program"]), about["from"], weights.label
        if not self.program.is_file() or file_fingerprint(self.program) != about["sha256"]:
            raise InputError(f"aus: {self.program} is missing or has changed; give it again with --weights "
                             f"aus=.../{PROGRAM}")

    @staticmethod
    def input_file(clip: Clip) -> Path:
        """The file whose change makes the clip's features out of date."""
        return clip.work / "faces" / f"{clip.id}.csv"

    def __call__(self, clip: Clip) -> FeatureSequence:
        """The action units of one clip."""
        times, values, facts = np.zeros(0), np.zeros((0, self.width), np.float32), {}
        if not clip.failed:
            times, values, facts = self._by_crops(clip) if self.inputs == "crops" else self._by_video(clip)
            if clip.sampled:
                other = self._crops(clip) if self.inputs == "video" else self._video(clip)
                facts |= success_counts(other, "video" if self.inputs == "crops" else "crops")
            facts["on"] = INPUTS.index(self.inputs)
        return FeatureSequence(values, times, NAMES, self.name, self.label, self.version, facts)

    def _by_crops(self, clip: Clip) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        track, table = tracked_rows(clip), self._crops(clip)
        if table is None:
            return np.zeros(0), np.zeros((0, self.width), np.float32), success_counts(None, "crops")
        if table.picture.max(initial=0) >= len(track):
            raise InputError(f"OpenFace counts {table.picture.max() + 1} pictures in {clip.faces}, which has "
                             f"{len(track)}")
        # A picture is a crop and has its frame's time; OpenFace's own timestamps ignore frames without a face.
        steps = np.rint(track["time"].to_numpy() * FRAME_RATE).astype(int)
        present, values, facts = onto_clock(table, steps[table.picture] / FRAME_RATE, steps, None)
        return track["time"].to_numpy(np.float64)[present], values, facts | success_counts(table, "crops")

    def _by_video(self, clip: Clip) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        table = self._video(clip)
        if not len(tracked_rows(clip)):
            return np.zeros(0), np.zeros((0, self.width), np.float32), success_counts(table, "video")
        # OpenFace computes time from the container's frame rate, which may be wrong; its count of pictures is right.
        seconds = seconds_by_count(table, clip)
        moved = 0.0 if table.seconds is None else float(np.abs(seconds - table.seconds).max(initial=0))
        times, values, facts = onto_track(table, seconds, clip)
        return times, values, facts | success_counts(table, "video") | {"clock_off": round(moved, 6)}

    def _crops(self, clip: Clip) -> Table | None:
        """OpenFace's table of the crops in their order; None where there are none."""
        count = len(tracked_rows(clip))
        return self._run(["-fdir", str(clip.faces)], count) if count else None

    def _video(self, clip: Clip) -> Table:
        return self._run(["-f", str(clip.path), "-2Dfp"], math.ceil(clip.seconds * FRAME_RATE))

    def _run(self, inputs: list[str], frames: int) -> Table:
        timeout = TIMEOUT_SECONDS + TIMEOUT_PER_FRAME * frames
        with tempfile.TemporaryDirectory(prefix="emibook-") as out:
            command = [str(self.program), *inputs, "-out_dir", out, "-of", "units", "-aus"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout,
                                      stdin=subprocess.DEVNULL)
            except subprocess.TimeoutExpired:
                raise InputError(f"OpenFace did not end within {timeout:.0f} s on {inputs[1]}") from None
            except OSError as error:
                raise InputError(f"{self.program} does not start ({error.strerror})") from None
            table = Path(out) / "units.csv"
            if done.returncode or not table.is_file():
                raise InputError(f"OpenFace wrote no table for {inputs[1]} (exit code {done.returncode}): "
                                 f"{_last_line(done.stderr, done.stdout)}")
            return read_table(table)

    @staticmethod
    def summary(facts: Sequence[dict[str, float]]) -> str:
        """A line about all clips: how often OpenFace succeeded, crops and video compared on a sample, and the join."""
        parts = []
        for inputs, words in (("crops", "the crops"), ("video", "the videos' pictures")):
            if share := success_share([clip for clip in facts if clip.get("on") == INPUTS.index(inputs)], inputs):
                parts.append(f"OpenFace succeeded in {share} of {words}")
        both = [clip for clip in facts if "crops_pictures" in clip and "video_pictures" in clip]
        if both:
            parts.append(f"on a sample of {len(both)} clips in {success_share(both, 'crops') or 'none'} of the crops "
                         f"and {success_share(both, 'video') or 'none'} of the videos' pictures")
        return "; ".join([*parts, *alignment_summary(facts)])


def _last_line(*texts: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for text in texts for line in text.splitlines()[::-1] if line.strip()]
    return lines[0] if lines else "it printed nothing"
