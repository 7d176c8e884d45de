"""Tables of action units by other programs, one row per picture and face.

Two programs' tables are read, and told apart by the names of their columns: OpenFace's (1.x and 2.x, whole or cleaned,
with or without spaces in the header, one face or several) and py-feat's. Both give the columns of
``action_units.NAMES``:

- OpenFace: intensities / 5 as ``AU01_r``..., presences as ``AU01_c``... (those of unit 28 have no intensity and are
  left out).
- py-feat: its probabilities of presence as ``AU01_c``.... It measures no intensity, and of the 17 units not 45 (its
  closed eyes are unit 43, which is another unit).

A column that a table lacks is 0 in every row; ``Table.columns`` names those that it has. A row that the program marks
as failed is not a measurement.
Source: OpenFace's and py-feat's own files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emibook import InputError
from emibook.features.action_units import MAX_INTENSITY, NAMES, UNITS

POINTS = 68  # landmarks of a face in OpenFace's tables
PY_FEAT_BOX = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight")
USED_COLUMNS = re.compile(
    r"frame|face_id|timestamp|confidence|success|AU\d\d(_[rc])?|[xy]_\d+|FaceRect(X|Y|Width|Height)|FaceScore|Identity")


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of one file, in its order.

    Attributes:
        picture: number of the picture, counted from 0 (row,).
        seconds: time of the picture (row,), or None where the file has no timestamps.
        person: number of the person (row,).
        success: whether the row is a measurement (row,).
        confidence: 0..1 (row,).
        boxes: x1 y1 x2 y2 of the face in pixels (row, 4), or None.
        values: the columns of ``action_units.NAMES`` in 0..1 (row, 34).
        columns: those of ``action_units.NAMES`` that the file has.
        program: the program that wrote it.
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
        """The number of pictures, with a measurement or without."""
        return len(np.unique(self.picture))

    @property
    def succeeded(self) -> int:
        """The number of pictures with a measurement."""
        return len(np.unique(self.picture[self.success]))

    @cached_property
    def total_confidence(self) -> dict[int, float]:
        """The program's confidence in each person, summed over all pictures."""
        return {int(person): float(self.confidence[self.success & (self.person == person)].sum())
                for person in np.unique(self.person)}


def columns_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """The program that wrote a table, and its columns of ``NAMES``. Raises ``InputError`` for any other file."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = {name.strip() for name in file.readline().split(",")}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    return _columns(header, path)


def _columns(header: set[str], path: Path) -> tuple[str, tuple[str, ...]]:
    if columns := tuple(name for name in NAMES if name in header):
        return "OpenFace", columns
    if columns := tuple(f"AU{unit:02d}_c" for unit in UNITS if f"AU{unit:02d}" in header):
        return "py-feat", columns
    raise InputError(f"{path} has no action units: expected OpenFace's columns AU01_r, AU02_r... or py-feat's AU01...")


def read_table(path: Path) -> Table:
    """The rows of a file. Raises ``InputError`` where it is no table of action units."""
    import pandas

    try:
        rows = pandas.read_csv(path, skipinitialspace=True, encoding="utf-8-sig", encoding_errors="replace",
                               usecols=lambda name: bool(USED_COLUMNS.fullmatch(name.strip())), low_memory=False)
    except (pandas.errors.EmptyDataError, pandas.errors.ParserError, ValueError) as error:
        raise InputError(f"{path} is no table ({' '.join(str(error).split())})") from None
    rows.columns = [name.strip() for name in rows.columns]
    program, columns = _columns(set(rows.columns), path)

    def number(name: str, default: float) -> np.ndarray:
        if name not in rows:
            return np.full(len(rows), default)
        return pandas.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)

    seconds = number("timestamp", np.nan) if "timestamp" in rows else None
    if seconds is None and "frame" not in rows:
        raise InputError(f"{path} has neither a column timestamp nor a column frame, so its rows have no time")
    picture = number("frame", np.nan)
    if "frame" not in rows:
        picture = np.unique(seconds, return_inverse=True)[1].astype(float)
    headers = {name: name if program == "OpenFace" else name.removesuffix("_c") for name in columns}
    measured = np.stack([number(headers[name], 0) for name in columns], axis=1)
    success = np.isfinite(measured).all(axis=1) & np.isfinite(picture) & (number("success", 1) == 1)
    if seconds is not None:
        success &= np.isfinite(seconds)
    confidence = number("confidence", 1) if program == "OpenFace" else number("FaceScore", 1)
    values = np.zeros((len(rows), len(NAMES)), np.float32)
    scale = [MAX_INTENSITY if name.endswith("_r") else 1 for name in columns]
    values[:, [NAMES.index(name) for name in columns]] = np.clip(np.nan_to_num(measured) / scale, 0, 1)
    identity = rows.get("face_id", rows.get("Identity"))
    person = np.zeros(len(rows), int) if identity is None else pandas.factorize(identity)[0]
    kept = np.isfinite(picture) if seconds is None else np.isfinite(picture) & np.isfinite(seconds)
    first = 1 if program == "OpenFace" and kept.any() and picture[kept].min() >= 1 else 0  # OpenFace counts from 1
    boxes = _boxes(rows)
    return Table(picture[kept].astype(int) - first, None if seconds is None else seconds[kept], person[kept],
                 success[kept], np.nan_to_num(confidence)[kept], None if boxes is None else boxes[kept], values[kept],
                 columns, program)


def _boxes(rows) -> np.ndarray | None:
    """(row, 4) around the landmarks, or the program's own boxes; None where it gives neither."""
    x, y = ([f"{axis}_{point}" for point in range(POINTS)] for axis in "xy")
    if all(name in rows for name in (*x, *y)):
        across, down = rows[x].to_numpy(np.float64), rows[y].to_numpy(np.float64)
        return np.stack([across.min(1), down.min(1), across.max(1), down.max(1)], axis=1)
    if all(name in rows for name in PY_FEAT_BOX):
        left, top, width, height = (rows[name].to_numpy(np.float64) for name in PY_FEAT_BOX)
        return np.stack([left, top, left + width, top + height], axis=1)
    return None
