"""Preprocess every clip of a corpus; a clip that cannot be used is a row with its reason."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import os
import socket
import sys
from pathlib import Path

import pandas as pd
import torch

from emibook import InputError, compute
from emibook.compute import Resources
from emibook.corpus import Corpus
from emibook.files import lock, write_text
from emibook.preprocess.alignment import CROP_SIZE, CROPS
from emibook.preprocess.clip import QUALITY, SETTINGS, Row, clear, crop_of, one_line, preprocess_clip, read_settings
from emibook.preprocess.media import FRAME_RATE

VERSION = 4
"""Version of the processing; with another one, every clip is processed again."""
GPU_WORKER_BYTES = 3 * 2**30
"""GPU memory of one worker: the cascade on a batch of 1080p frames."""
COLUMNS = ("clip", "status", "error", "frames", "faces", "seconds", "audio_seconds")
Item = tuple[str, str, str]
"""A clip's id, its video and its separate sound file, which is empty where the video has the sound."""


def preprocess(
    corpus: Corpus,
    work: Path | str,
    *,
    exhaustive: bool | None = None,
    crop: str | None = None,
    resources: Resources = Resources(),  # noqa: B008 (frozen)
) -> pd.DataFrame:
    """Resample every clip to the clock, detect and align its faces, extract its sound.

    Writes the files that ``emibook.preprocess.clip`` describes, and one row per clip into ``WORK/preprocess.csv``,
    which grows as clips are done and is sorted by clip at the end. A repeated call resumes: it processes clips without
    a row, clips that failed, and clips whose video or sound is newer than their faces. Clips that were processed with
    other settings are all processed again.

    Args:
        corpus: the clips.
        work: folder to write into.
        exhaustive: the whole cascade on every frame, as in the paper, instead of tracking faces; None: as WORK was
            made, else tracking.
        crop: a key of ``alignment.CROPS``; None: as WORK was made, else ``warp``.
        resources: as in ``emibook.compute.run``.

    Returns:
        ``WORK/preprocess.csv``, as ``read_table`` reads it.

    Raises:
        InputError: WORK belongs to another corpus or cannot be written into.
    """
    work = Path(work).absolute()
    _record_corpus(work, corpus)
    with lock(work / "faces", progress=resources.progress):
        settings = _record_settings(work, exhaustive, crop, resources.progress)
        exhaustive = settings["faces"] == "exhaustive"
        rows = {str(row["clip"]): row for row in _read_rows(work / "preprocess.csv")}
        todo, done = [], []
        for clip, path, sound in corpus.clips[["clip", "path", "audio"]].itertuples(index=False, name=None):
            row = rows.get(clip)
            if row and row["status"] != "failed" and _is_current(work, clip, path, sound):
                done.append(row)
            else:
                todo.append((clip, path, sound))
        todo.sort(key=_size, reverse=True)  # so that the last core is not left with a long clip
        if todo and (reason := _unwritable(work)):
            raise InputError(f"{reason}; give another work folder, or make this one writable")
        task = functools.partial(_preprocess_item, work=work, exhaustive=exhaustive, crop=crop_of(settings))
        # The whole cascade takes hours for a quarter of an hour at 1080p.
        limits = compute.Limits(seconds=24 * 3600.0) if exhaustive else compute.Limits()
        given = resources.workers, resources.scheduler, resources.slurm
        if exhaustive and todo and given == (None, None, None) and torch.cuda.is_available():
            resources = dataclasses.replace(resources, workers=compute.workers_on_gpu(GPU_WORKER_BYTES))
        results = compute.run(task, todo, label="preprocess", resources=resources, limits=limits, failed=_is_failure)
        try:
            if todo:
                _write_rows(work / "preprocess.csv", done)
            with open(work / "preprocess.csv", "a", encoding="utf-8", newline="") as table:
                for (clip, *_), result in results:
                    done.append(_failed(clip, result, work) if isinstance(result, Exception) else result)
                    table.write(_as_csv(done[-1:]))
                    table.flush()
            _write_rows(work / "preprocess.csv", sorted(done, key=lambda row: str(row["clip"])))
        except OSError as error:
            raise InputError(f"{error.filename or work / 'preprocess.csv'}: {error.strerror}; fix this, then "
                             "repeat the command to resume") from error
    return read_table(work)


def read_table(work: Path | str) -> pd.DataFrame:
    """``WORK/preprocess.csv``: ids and reasons as text, the rest as numbers, NaN for a missing duration."""
    path = Path(work) / "preprocess.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; run emibook preprocess first")
    try:
        table = pd.read_csv(path, dtype={"clip": str, "status": str, "error": str}, keep_default_na=False,
                            na_values={"seconds": [""], "audio_seconds": [""]})
        return table.astype({"frames": int, "faces": int, "seconds": float, "audio_seconds": float})
    except (ValueError, KeyError):
        raise InputError(f"{path} is damaged; delete it, and emibook preprocess processes all clips again") from None


def _preprocess_item(item: Item, *, work: Path, exhaustive: bool, crop: str) -> Row:
    if reason := _unwritable(work):
        raise compute.EndRun(f"{reason} on {socket.gethostname()}; workers there need the same folder")
    clip, path, sound = item
    try:
        return preprocess_clip(clip, path, sound or None, work, exhaustive=exhaustive, crop=crop)
    except OSError as error:  # a full disk, whose error names no file
        error.filename = error.filename or str(work)
        raise


def _unwritable(work: Path) -> str | None:
    """Why no clip's files can be written, or None. Not a clip's fault, so it is not reported in a row."""
    if not (work / "corpus.json").is_file():
        return f"{work} cannot be seen"
    for folder in (work, work / "faces", work / "audio"):
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            return f"{folder} cannot be written into"
    return None


def _is_failure(result: Row | Exception) -> bool:
    return isinstance(result, Exception) or result["status"] == "failed"


def _failed(clip: str, error: Exception, work: Path) -> Row:
    """The row of a clip whose worker died or was ended; its incomplete files are removed."""
    clear(clip, work)
    reason = str(error) if isinstance(error, (compute.WorkerDied, compute.LimitExceeded)) else one_line(error)
    return {"clip": clip, "status": "failed", "error": reason, "frames": 0, "faces": 0, "seconds": None,
            "audio_seconds": None}


def _record_corpus(work: Path, corpus: Corpus) -> None:
    """Write ``WORK/corpus.json``. Raises ``InputError`` where WORK belongs to another corpus."""
    path = work / "corpus.json"
    about = {"root": str(Path(corpus.root).resolve()), "name": corpus.name, "targets": list(corpus.targets),
             "note": corpus.note}
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            owner = before["root"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged; delete it if {work} holds the clips of {corpus.root}") from None
        if owner != about["root"]:
            raise InputError(f"{work} holds the clips of {owner}, not of {about['root']}; give another work folder, "
                             f"or delete {path} if the corpus was only moved")
        if before == about:
            return
    write_text(path, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def _record_settings(
    work: Path, exhaustive: bool | None, crop: str | None, progress: bool
) -> dict[str, str | int | float]:
    """Write ``WORK/preprocess.json``, how faces are detected and cropped; after a change, remove the table's rows."""
    path, table = work / SETTINGS, work / "preprocess.csv"
    before = read_settings(work)
    if exhaustive is None:
        exhaustive = before.get("faces") == "exhaustive"
    crop = crop or crop_of(before)
    if crop not in CROPS:
        raise InputError(f"no crop {crop!r}; there are {', '.join(CROPS)}")
    settings = {"version": VERSION, "faces": "exhaustive" if exhaustive else "followed", "crop": crop,
                "pixels": CROP_SIZE, "quality": QUALITY, "clock": FRAME_RATE}
    if before == settings:
        return settings
    if _unwritable(work) is None:
        if table.is_file() and _read_rows(table):
            if progress:
                print(f"preprocess: {table} was made with other settings; all of its clips are processed again",
                      file=sys.stderr)
            _write_rows(table, [])
        write_text(path, json.dumps(settings, indent=1) + "\n")
    return settings


def _is_current(work: Path, clip: str, path: str, sound: str) -> bool:
    """Whether the clip's files exist and are no older than its video and sound."""
    track = work / "faces" / f"{clip}.csv"
    sources = [Path(source) for source in (path, sound) if source]
    return track.is_file() and all(
        source.is_file() and source.stat().st_mtime <= track.stat().st_mtime for source in sources)


def _size(item: Item) -> int:
    path = Path(item[1])
    return path.stat().st_size if path.is_file() else 0


def _read_rows(path: Path) -> list[Row]:
    """The complete rows of the table; the last row is incomplete where a run was killed while it wrote."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[:text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    if whole and tuple(reader.fieldnames or ()) != COLUMNS:
        raise InputError(f"{path} has other columns than {','.join(COLUMNS)}; move it away and repeat")
    return list(reader)


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write_rows(path: Path, rows: list[Row]) -> None:
    text = ",".join(COLUMNS) + "\n" + _as_csv(rows)
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
