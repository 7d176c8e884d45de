"""Rows of a table of action units brought onto the clock: the tracked person's row in each frame with their face."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from emibook import InputError
from emibook.features.au_tables import Table
from emibook.features.base import Clip
from emibook.preprocess.media import FRAME_RATE

if TYPE_CHECKING:
    import pandas

SAME_FACE = 0.3  # overlap of two boxes of one face, at least, as a share of the smaller box
TIE = 0.016  # frames: half a millisecond, by which a timestamp of three digits may be too early


def onto_clock(
    table: Table, seconds: np.ndarray, steps: np.ndarray, boxes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """The tracked person's row at each of the clock's frames that has a tracked face.

    A frame shows the last picture that is not later than it, once the picture's time is rounded to the clock, as in
    preprocessing. Of several faces in a picture, the one is taken whose box has the largest overlap with the tracked
    box, or, where either has no box, the person with the highest confidence in the whole clip.

    Args:
        table: the rows.
        seconds: time at which each row's picture is shown, from the first one (row,).
        steps: numbers of the clock's frames (step,).
        boxes: the tracked face's box in each frame (step, 4), in pixels of the table, or None.

    Returns:
        Which of the steps have a row (step,) bool; the rows' values (row, 34) float32; and counts: ``steps``, of which
        ``failed`` show a picture without a measurement, ``elsewhere`` one with another person only and ``absent`` none;
        ``gap_most`` and ``gap_median``, seconds between the time of a step and of its picture.
    """
    by_picture: dict[int, list[int]] = {}
    for row in np.lexsort((table.picture, seconds)).tolist():
        by_picture.setdefault(int(table.picture[row]), []).append(row)
    pictures = np.array(list(by_picture), int)
    shown = np.array([seconds[rows[0]] for rows in by_picture.values()])
    tie = TIE if np.allclose(shown, shown.round(3), rtol=0, atol=1e-9) else 1e-6
    first, end = (np.floor(bounds * FRAME_RATE + 0.5 + tie) for bounds in (shown, _ends(pictures, shown)))
    end = np.maximum(end, first + 1)
    chosen, gaps, lost = np.full(len(steps), -1), [], dict.fromkeys(("failed", "elsewhere", "absent"), 0)
    for index, step in enumerate(steps):
        current = int(np.searchsorted(first, step, side="right")) - 1
        if current < 0 or step >= end[current]:
            lost["absent"] += 1
            continue
        rows = [row for row in by_picture[int(pictures[current])] if table.success[row]]
        if not rows:
            lost["failed"] += 1
            continue
        row = _tracked(table, rows, None if boxes is None else boxes[index])
        if row is None:
            lost["elsewhere"] += 1
            continue
        chosen[index] = row
        gaps.append(abs(step / FRAME_RATE - shown[current]))
    facts = {"steps": len(steps), **lost, "gap_most": round(max(gaps, default=0.0), 6),
             "gap_median": round(float(np.median(gaps)) if gaps else 0.0, 6)}
    return chosen >= 0, table.values[chosen[chosen >= 0]], facts


def _ends(pictures: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(picture,) when each is no longer shown: at the next one or, where that is not in the table, after the median."""
    if len(pictures) < 2:
        return shown + 1 / FRAME_RATE
    usual = float(np.median(np.diff(shown)))
    following = np.append(shown[1:], shown[-1] + usual)
    consecutive = np.append(np.diff(pictures) == 1, False)
    return np.where(consecutive, following, np.minimum(following, shown + usual))


def _tracked(table: Table, rows: list[int], box: np.ndarray | None) -> int | None:
    """The tracked person's row of those of one picture, or None."""
    if box is None or table.boxes is None or not np.isfinite(box).all():
        highest = max(table.total_confidence.values())
        people = [row for row in rows if table.total_confidence[int(table.person[row])] == highest]
        return people[0] if people else None
    overlaps = [_overlap(table.boxes[row], box) for row in rows]
    best = int(np.argmax(overlaps))
    return rows[best] if overlaps[best] >= SAME_FACE else None


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The intersection of two boxes, as a share of the smaller one's area."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    least = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
    return float(np.prod(sides.clip(min=0)) / least) if least > 0 else 0.0


def tracked_rows(clip: Clip) -> pandas.DataFrame:
    """The rows of the clip's face track that have a face."""
    from emibook.preprocess import read_track

    track = read_track(clip.work, clip.id)
    return track[track["face"] == 1]


def onto_track(table: Table, seconds: np.ndarray, clip: Clip) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Times, values and counts of the clip's tracked faces that the table has; see ``onto_clock``."""
    track = tracked_rows(clip)
    boxes = track[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    present, values, facts = onto_clock(table, seconds, track["frame"].to_numpy(int), boxes)
    return track["time"].to_numpy(np.float64)[present], values, facts


def seconds_by_count(table: Table, clip: Clip) -> np.ndarray:
    """The time of each row's picture (row,) by the video's own timestamps.

    Raises:
        InputError: the video has fewer pictures than the table.
    """
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
    except (av.FFmpegError, OSError):  # of a damaged file, the pictures that decode are used
        pass
    times = np.array(shown)
    return times - times[0] if len(times) else times


def success_counts(table: Table | None, kind: str) -> dict[str, float]:
    """The facts ``<kind>_pictures`` and ``<kind>_succeeded``: pictures, and those with a measurement."""
    return {f"{kind}_pictures": 0 if table is None else table.pictures,
            f"{kind}_succeeded": 0 if table is None else table.succeeded}


def success_share(facts: Iterable[dict[str, float]], kind: str) -> str:
    """The share of pictures with a measurement over all clips, as text; empty where there are no pictures."""
    facts = [clip for clip in facts if f"{kind}_pictures" in clip]
    pictures = sum(clip[f"{kind}_pictures"] for clip in facts)
    return f"{sum(clip[f'{kind}_succeeded'] for clip in facts) / pictures:.1%}" if pictures else ""


def alignment_summary(facts: Sequence[dict[str, float]]) -> list[str]:
    """How many tracked faces have a row, why others have none, and how far pictures are from the clock's frames."""
    joined = [clip for clip in facts if clip.get("steps")]
    if not joined:
        return []
    steps = sum(clip["steps"] for clip in joined)
    lost = {key: sum(clip[key] for clip in joined) for key in ("failed", "elsewhere", "absent")}
    words = {"failed": "not measured", "elsewhere": "another person's face only", "absent": "not in the table"}
    reasons = ", ".join(f"{words[key]} {int(count)}" for key, count in lost.items() if count)
    return [f"{int(steps - sum(lost.values()))} of {int(steps)} faces have a row{f' ({reasons})' if reasons else ''}",
            f"a row's picture is at most {max(clip['gap_most'] for clip in joined):.4f} s from its step, median "
            f"{np.median([clip['gap_median'] for clip in joined]):.4f} s"]
