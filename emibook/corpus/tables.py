"""CSV files of a corpus, read as text: ids keep their leading zeros, and messages can quote invalid cells."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from emibook import InputError

NOT_A_TABLE = (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError)
LITTER = {"thumbs.db", "desktop.ini", "__macosx"}  # written by file managers and archivers


def read_text(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """The CSV as text, with stripped cells; an absent cell is empty text.

    Raises:
        InputError: the file is absent, is no CSV, or lacks one of the ``required`` columns.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a CSV with the columns {','.join(required)}") from None
    except (*NOT_A_TABLE, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as a CSV ({reason}); write it again, in UTF-8") from None
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table.fillna("").apply(lambda column: column.str.strip())


def numbers(column: pd.Series) -> np.ndarray:
    """The cells as float64, NaN where a cell is no finite number."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def bad_id(clip: str) -> str:
    """Why ``clip`` cannot name files in a work folder; empty text for a valid id."""
    if not clip:
        return "is empty"
    if clip in (".", "..") or re.search(r"[/\\\x00-\x1f]", clip):
        return "would leave its folder, or holds a control character"
    if clip.lower().endswith(".csv"):
        return "ends in .csv"  # faces/<clip>.csv is a table and faces/<clip>/ a folder
    return ""


def is_litter(name: str) -> bool:
    """Whether a file of this name is hidden, or left behind by a file manager."""
    return name.startswith(".") or name.lower() in LITTER


def duplicates(clips: Sequence[str]) -> list[str]:
    """The ids that occur more than once, sorted."""
    seen: set[str] = set()
    return sorted({clip for clip in clips if clip in seen or seen.add(clip)})


def read_participants(path: Path, as_id: Callable[[str], str] = str) -> tuple[dict[str, str], list[str]]:
    """Read a CSV with the columns ``clip,participant``.

    Args:
        path: the CSV.
        as_id: turns an id as written in the file into the corpus's own.

    Returns:
        Participants by clip, and the problems of the file, one line each.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    table = read_text(path, ("clip", "participant"))
    by_clip: dict[str, str] = {}
    problems = []
    for clip, participant in zip(table["clip"].map(as_id), table["participant"], strict=True):
        if by_clip.setdefault(clip, participant) != participant:
            problems.append(f"{path.name}, clip {clip}: belongs to participant {by_clip[clip]} and to {participant}")
    return by_clip, problems


def stop_at_first(problems: Sequence[str], root: Path) -> None:
    """Raise the first of the ``problems`` as an ``InputError``."""
    if problems:
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise InputError(f"{root}: {problems[0]}{more}; `emibook check {root}` lists all")
