"""Tables of action units that other programs wrote, one row a picture and face, read and brought onto the clock.

Two programs' tables are known, by their columns' names: OpenFace's (1.x and 2.x, whole or cleaned, with or without
spaces in the header, one face or several) and py-feat's. Both give the columns of ``action_units.NAMES``:

- OpenFace: intensities / 5 as ``AU01_r``..., presences as ``AU01_c``... (those of unit 28 have no intensity and are
  left out).
- py-feat: its probabilities of presence as ``AU01_c``.... It measures no intensity, and of the 17 units not 45 (its
  closed eyes are unit 43, which is another column and is not taken for it).

What a table has no column for is 0 in every row, so that it is a constant, which says nothing; ``Table.columns`` names
those that are there. A row that the program marks as failed is no measurement and becomes no row here.
Source: OpenFace's and py-feat's own files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emibook import InputError
from emibook.features.aus import HIGHEST, NAMES, UNITS

CLOCK = 30  # steps a second
SAME_FACE = 0.3  # of the smaller box, that two boxes of one face have in common at least
TIE = 0.016  # steps: by so much, half a millisecond, a timestamp of three digits may be too early
POINTS = 68  # landmarks of a face in OpenFace's tables
PY_FEAT_BOX = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight")
WANTED = re.compile(
    r"frame|face_id|timestamp|confidence|success|AU\d\d(_[rc])?|[xy]_\d+|FaceRect(X|Y|Width|Height)|FaceScore|Identity")


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of one file, in its order.

    ``picture`` (row,) is the number of the picture, counted from 0; ``seconds`` (row,) its time, or None where the file
    says nothing of time; ``person`` (row,) tells faces apart; ``success`` (row,) true where it is a measurement;
    ``confidence`` (row,) 0..1; ``boxes`` (row, 4) x1 y1 x2 y2 in pixels, or None; ``values`` (row, 34) as
    ``action_units.NAMES``, in 0..1. ``columns`` are the names among those that the file has, ``program`` who wrote it.
    """

    picture: np.ndarray
    seconds: np.ndarray | None
    person: np.ndarray
    success: np.ndarray
    confidence: np.ndarray
    boxes: np.ndarray | None
    values: np.ndarray
    columns: tuple[str, ...]
    program: str

    def __len__(self) -> int:
        return len(self.picture)

    @property
    def pictures(self) -> int:
        """How many pictures there are, with a measurement or without."""
        return len(np.unique(self.picture))

    @property
    def succeeded(self) -> int:
        """In how many of them somebody was measured."""
        return len(np.unique(self.picture[self.success]))

    @cached_property
    def trust(self) -> dict[int, float]:
        """How sure the program was of each person, all pictures together."""
        people = np.unique(self.person)
        return {int(who): float(self.confidence[self.success & (self.person == who)].sum()) for who in people}


def columns_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """The program that wrote a table, and the names of ``NAMES`` that it has. Raises ``InputError`` for no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = {name.strip() for name in file.readline().split(",")}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    return _columns(header, path)


def _columns(header: set[str], path: Path) -> tuple[str, tuple[str, ...]]:
    if found := tuple(name for name in NAMES if name in header):
        return "OpenFace", found
    if found := tuple(f"AU{unit:02d}_c" for unit in UNITS if f"AU{unit:02d}" in header):
        return "py-feat", found
    raise InputError(f"{path} has no action units: expected OpenFace's columns AU01_r, AU02_r... or py-feat's AU01...")


def read_table(path: Path) -> Table:
    """The rows of a file. Raises ``InputError``, in one line, where it is no table of action units."""
    import pandas

    try:
        rows = pandas.read_csv(path, skipinitialspace=True, encoding="utf-8-sig", encoding_errors="replace",
                               usecols=lambda name: bool(WANTED.fullmatch(name.strip())), low_memory=False)
    except (pandas.errors.EmptyDataError, pandas.errors.ParserError, ValueError) as error:
        raise InputError(f"{path} is no table ({' '.join(str(error).split())})") from None
    rows.columns = [name.strip() for name in rows.columns]
    program, columns = _columns(set(rows.columns), path)

    def number(name: str, otherwise: float) -> np.ndarray:
        if name not in rows:
            return np.full(len(rows), otherwise)
        return pandas.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)

    seconds = number("timestamp", np.nan) if "timestamp" in rows else None
    if seconds is None and "frame" not in rows:
        raise InputError(f"{path} has neither a column timestamp nor a column frame, so its rows have no time")
    picture = number("frame", np.nan)
    if "frame" not in rows:
        picture = np.unique(seconds, return_inverse=True)[1].astype(float)
    written = {name: name if program == "OpenFace" else name.removesuffix("_c") for name in columns}
    measured = np.stack([number(written[name], 0) for name in columns], axis=1)
    success = np.isfinite(measured).all(axis=1) & np.isfinite(picture) & (number("success", 1) == 1)
    if seconds is not None:
        success &= np.isfinite(seconds)
    sure = number("confidence", 1) if program == "OpenFace" else number("FaceScore", 1)
    values = np.zeros((len(rows), len(NAMES)), np.float32)
    scale = [HIGHEST if name.endswith("_r") else 1 for name in columns]
    values[:, [NAMES.index(name) for name in columns]] = np.clip(np.nan_to_num(measured) / scale, 0, 1)
    who = rows.get("face_id", rows.get("Identity"))
    person = np.zeros(len(rows), int) if who is None else pandas.factorize(who)[0]
    kept = np.isfinite(picture) if seconds is None else np.isfinite(picture) & np.isfinite(seconds)
    first = 1 if program == "OpenFace" and kept.any() and picture[kept].min() >= 1 else 0  # OpenFace counts from 1
    boxes = _boxes(rows)
    return Table(picture[kept].astype(int) - first, None if seconds is None else seconds[kept], person[kept],
                 success[kept], np.nan_to_num(sure)[kept], None if boxes is None else boxes[kept], values[kept],
                 columns, program)


def _boxes(rows) -> np.ndarray | None:
    """(row, 4) around the landmarks in the picture, or as the program gives it; None where it gives neither."""
    x, y = ([f"{axis}_{point}" for point in range(POINTS)] for axis in "xy")
    if all(name in rows for name in (*x, *y)):
        across, down = rows[x].to_numpy(np.float64), rows[y].to_numpy(np.float64)
        return np.stack([across.min(1), down.min(1), across.max(1), down.max(1)], axis=1)
    if all(name in rows for name in PY_FEAT_BOX):
        left, top, width, height = (rows[name].to_numpy(np.float64) for name in PY_FEAT_BOX)
        return np.stack([left, top, left + width, top + height], axis=1)
    return None


def onto_clock(
    table: Table, seconds: np.ndarray, steps: np.ndarray, boxes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """The followed person's row at each of the clock's ``steps`` (step,), frames with a face of ours.

    ``seconds`` (row,) is when each row's picture is shown, from the first one; a step shows the last picture that is
    not later, once its time is rounded to the clock, as preprocessing takes them. Of a picture's faces the one is
    taken whose box has most in common with ours, ``boxes`` (step, 4) in the same pixels, or, where either has none,
    the person that the program is surest of in the whole clip.

    Returns which of the steps have a row (step,) bool, the rows' values (row, 34) float32, and what there is to say:
    ``steps``, of which ``failed`` show a picture without a measurement, ``elsewhere`` one with somebody else only and
    ``absent`` none; ``gap_most`` and ``gap_median``, seconds between a step's time and its picture's.
    """
    by_picture: dict[int, list[int]] = {}
    for row in np.lexsort((table.picture, seconds)).tolist():
        by_picture.setdefault(int(table.picture[row]), []).append(row)
    pictures = np.array(list(by_picture), int)
    shown = np.array([seconds[rows[0]] for rows in by_picture.values()])
    tie = TIE if np.allclose(shown, shown.round(3), rtol=0, atol=1e-9) else 1e-6
    first, end = (np.floor(each * CLOCK + 0.5 + tie) for each in (shown, _ends(pictures, shown)))
    end = np.maximum(end, first + 1)
    chosen, gaps, lost = np.full(len(steps), -1), [], dict.fromkeys(("failed", "elsewhere", "absent"), 0)
    for index, step in enumerate(steps):
        at = int(np.searchsorted(first, step, side="right")) - 1
        if at < 0 or step >= end[at]:
            lost["absent"] += 1
            continue
        rows = [row for row in by_picture[int(pictures[at])] if table.success[row]]
        if not rows:
            lost["failed"] += 1
            continue
        row = _followed(table, rows, None if boxes is None else boxes[index])
        if row is None:
            lost["elsewhere"] += 1
            continue
        chosen[index] = row
        gaps.append(abs(step / CLOCK - shown[at]))
    facts = {"steps": len(steps), **lost, "gap_most": round(max(gaps, default=0.0), 6),
             "gap_median": round(float(np.median(gaps)) if gaps else 0.0, 6)}
    return chosen >= 0, table.values[chosen[chosen >= 0]], facts


def _ends(pictures: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(picture,) when each is no longer shown: at the next one or, where that is not in the table, as long as usual."""
    if len(pictures) < 2:
        return shown + 1 / CLOCK
    usual = float(np.median(np.diff(shown)))
    following = np.append(shown[1:], shown[-1] + usual)
    consecutive = np.append(np.diff(pictures) == 1, False)
    return np.where(consecutive, following, np.minimum(following, shown + usual))


def _followed(table: Table, rows: list[int], box: np.ndarray | None) -> int | None:
    """Which of a picture's rows is the followed person's, or None."""
    if box is None or table.boxes is None or not np.isfinite(box).all():
        surest = max(table.trust.values())
        people = [row for row in rows if table.trust[int(table.person[row])] == surest]
        return people[0] if people else None
    both = [_share(table.boxes[row], box) for row in rows]
    best = int(np.argmax(both))
    return rows[best] if both[best] >= SAME_FACE else None


def _share(one: np.ndarray, other: np.ndarray) -> float:
    """What two boxes have in common, of the smaller one's area."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    least = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
    return float(np.prod(sides.clip(min=0)) / least) if least > 0 else 0.0
