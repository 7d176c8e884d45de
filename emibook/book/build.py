"""Builds the book: runs the chapters with papermill, then the site with Jupyter Book.

A chapter is a percent file in ``notebooks/``, the only form of it that is committed. It is converted one way, executed
in ``book/executed/`` under another name, moved into place when its last cell has run, and built into ``_build/html``.
What is up to date is not run again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emibook import InputError
from emibook.book.dependencies import Library
from emibook.book.notebooks import declared, execute, fingerprint, read_chapter
from emibook.book.notebooks import pair as pair_chapters
from emibook.book.page import PROFILES, TABLE_FEATURES
from emibook.book.pages import write_pages
from emibook.files import write_text

if TYPE_CHECKING:
    from nbformat import NotebookNode

EXECUTED = Path("book/executed")
SITE = Path("_build/html")
LOG = Path("_build/sphinx.log")
TIMINGS = "timings.csv"
LIBRARY = Path(__file__).parents[1]
MAX_PARALLEL = 2
"""Chapters that run in parallel, given as many cores: each may need a gigabyte of memory."""
_TIMINGS_LOCK = threading.Lock()  # chapters that run in parallel write into one file


def book(
    profile: str = "builtin",
    root: Path | str | None = None,
    work: Path | str | None = None,
    chapters: Sequence[str] | None = None,
    parameters: dict[str, Any] | None = None,
) -> Path:
    """Bring the chapters and the site up to date; returns the folder of the site, ``_build/html``.

    A chapter that declares the parameter ``chapters`` receives the fingerprint of each of the others and runs after
    them.

    Args:
        profile: a name in ``page.PROFILES``.
        root: the corpus; the profile ``builtin`` makes its own.
        work: the folder for everything computed from it, ``work/<profile>`` by default.
        chapters: names as in ``notebooks/``, by default all. A chapter that is neither chosen nor up to date gets a
            page that says so.
        parameters: values that replace the profile's.

    Raises:
        InputError: unknown profile, chapter or parameter; no root; a cell that fails; a file that changed during the
            build, so that a chapter is out of date again; a warning of Sphinx; or the current folder is not the
            project's.
    """
    sources = _sources()
    names = list(dict.fromkeys(chapters)) if chapters else list(sources)
    if unknown := [name for name in names if name not in sources]:
        raise InputError(f"no chapter {unknown[0]} in notebooks/; there are {', '.join(sources)}")
    values = _values(profile, root, work, parameters)

    notebooks = {name: read_chapter(path) for name, path in sources.items()}
    parameters_of = {name: declared(notebook) for name, notebook in notebooks.items()}
    if unknown := sorted(set(parameters or {}) - set().union(*(parameters_of[name] for name in names))):
        raise InputError(f"no parameter {unknown[0]} in {', '.join(names)}; see the first code cell of each")
    library, given, fingerprints = Library(LIBRARY), {}, {}
    dependent = [name for name in sources if "chapters" in parameters_of[name]]
    for name in [*(name for name in sources if name not in dependent), *dependent]:
        values["chapters"] = dict(fingerprints)
        given[name] = {key: values[key] for key in parameters_of[name] if key in values}
        fingerprints[name] = fingerprint(sources[name], given[name], library)

    stale = [name for name in names if not _up_to_date(name, fingerprints[name])]
    if stale:
        _stages(values, set().union(*(parameters_of[name] for name in stale)))

    def run(name: str) -> None:
        print(f"chapter {name}", file=sys.stderr)
        with _timed(Path(values["work"]), f"chapter {name}"):
            execute(notebooks[name], EXECUTED / f"{name}.ipynb", given[name])
        record = {"fingerprint": fingerprints[name], "profile": profile, "parameters": given[name]}
        write_text(_record(name), json.dumps(record))

    _in_parallel(run, [name for name in stale if name not in dependent])
    _in_parallel(run, [name for name in stale if name in dependent])
    if stale:
        library = Library(LIBRARY)
        for name in names:
            if fingerprint(sources[name], given[name], library) != fingerprints[name]:
                raise InputError(f"chapter {name}, or code or kept results that it uses, changed while the book was "
                                 "built; run emibook book again")
    for name in sources:
        if not _up_to_date(name, fingerprints[name]):
            _record(name).unlink(missing_ok=True)
            write_text(EXECUTED / f"{name}.ipynb", _placeholder(name, notebooks[name]))
    for message in pair():
        print(message, file=sys.stderr)
    write_pages(sources, LIBRARY)
    return build_site()


def _in_parallel(run: Callable[[str], None], names: Sequence[str]) -> None:
    """Run each chapter, two in parallel on two cores or more; after the first failure no further one starts.

    A chapter runs in a process of its own, so threads that wait for it are enough.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(MAX_PARALLEL, cores)) as pool:
        runs = [pool.submit(run, name) for name in names]
        try:
            for run_ended in as_completed(runs):
                run_ended.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _sources() -> dict[str, Path]:
    folder = Path("notebooks")
    sources = {path.stem: path for path in sorted(folder.glob("*.py"))}
    if not sources or not Path("_config.yml").exists():
        raise InputError(f"no notebooks/ and _config.yml in {Path.cwd()}: run this in the folder of the project")
    return sources


def _values(
    profile: str, root: Path | str | None, work: Path | str | None, parameters: dict[str, Any] | None
) -> dict[str, Any]:
    """The values of the parameters that chapters may declare, for a profile."""
    if profile not in PROFILES:
        raise InputError(f"no profile {profile}; there are {', '.join(PROFILES)}")
    settings = PROFILES[profile]
    work = Path(work) if work else Path("work") / profile
    if root is None and settings.clips is None:
        raise InputError(f"profile {profile} needs a root, the folder of its data: {settings.data}")
    if root is None:
        root = work / "corpus"
    elif settings.clips is None and not Path(root).is_dir():
        raise InputError(f"no folder {root}; profile {profile} needs a root, the folder of its data: {settings.data}")
    values = {"profile": profile, "root": str(root), "work": str(work), "clips": settings.clips, "seed": 0}
    values |= {"seeds": settings.seeds, "weights": settings.weights, "chapters": {}}
    return values | (parameters or {})


def _record(name: str) -> Path:
    return EXECUTED / f"{name}.json"


def _up_to_date(name: str, fingerprint: str) -> bool:
    record = _record(name)
    if not record.exists() or not (EXECUTED / f"{name}.ipynb").exists():
        return False
    return json.loads(record.read_text(encoding="utf-8"))["fingerprint"] == fingerprint


def _placeholder(name: str, notebook: NotebookNode) -> str:
    """The page of a chapter that was not chosen and is not up to date: its title and how to run it."""
    import nbformat

    title = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown").splitlines()[0]
    text = f"{title}\n\nNot run in this build. To run it: `emibook book --chapter {name}`."
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text, id="not-run")])
    page.metadata = notebook.metadata
    return nbformat.writes(page)


def _stages(values: dict[str, Any], declared: set[str]) -> None:
    """Compute what the chapters need, here in the terminal, where the progress can be seen.

    A chapter that takes ``weights`` reads features, and one that takes ``seeds`` reads the tables.
    """
    from emibook.corpus import open_corpus

    if not declared & {"root", "work"}:
        return
    root, work = Path(values["root"]), Path(values["work"])
    if PROFILES[values["profile"]].clips is not None:
        from emibook.puppet.corpus import make_corpus

        with _timed(work, "make-corpus"):
            make_corpus(root, clips=values["clips"], seed=values["seed"])
    corpus = open_corpus(root)
    from emibook.preprocess import preprocess

    with _timed(work, "preprocess"):
        preprocess(corpus, work)
    if declared & {"weights", "seeds"}:
        from emibook.features import extract

        with _timed(work, "extract"):
            extract(corpus, work, TABLE_FEATURES, weights=values["weights"])
    if "seeds" in declared:
        from emibook.experiments import tables
        from emibook.studies.human.people import rows

        with _timed(work, "tables"):
            tables(corpus, work, seeds=values["seeds"], reference_rows=rows(corpus))


@contextmanager
def _timed(work: Path, stage: str) -> Iterator[None]:
    """Add a stage's seconds to ``WORK/timings.csv``, whether it succeeded or failed."""
    start, ended = time.perf_counter(), "failed"
    try:
        yield
        ended = "ok"
    finally:
        timings = work / TIMINGS
        timings.parent.mkdir(parents=True, exist_ok=True)
        with _TIMINGS_LOCK, timings.open("a", newline="", encoding="utf-8") as file:
            new = not file.tell()
            rows = csv.writer(file)
            if new:
                rows.writerow(["stage", "seconds", "ended"])
            rows.writerow([stage, f"{time.perf_counter() - start:.1f}", ended])


def build_site() -> Path:
    """Build ``_build/html`` from the executed chapters; warnings are errors, and Sphinx's output is in the log.

    Built from scratch each time, because Sphinx does not repeat a warning about a page that it has read before;
    skipped if no input has changed since the last successful build.

    Raises:
        InputError: no Jupyter Book, or a warning; the text has the first one.
    """
    stamp = SITE.parent / "site.json"
    inputs = [Path("_config.yml"), *sorted(path for path in Path("book").rglob("*") if path.is_file())]
    inputs += sorted(LIBRARY.rglob("*.py"))  # the reference is made of their docstrings
    inputs = [path for path in inputs if not path.name.startswith(".") and path != _record(path.stem)]
    state = hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in inputs)).hexdigest()
    if stamp.exists() and (SITE / "index.html").exists() and json.loads(stamp.read_text())["inputs"] == state:
        return SITE
    program = Path(sysconfig.get_path("scripts")) / "jupyter-book"
    if not program.exists():
        raise InputError("jupyter-book is not installed here: pip install 'emibook[book]'")
    stamp.unlink(missing_ok=True)
    for old in (SITE, SITE.parent / ".doctrees", SITE.parent / "jupyter_execute"):
        shutil.rmtree(old, ignore_errors=True)
    command = [str(program), "build", ".", "--toc", "book/_toc.yml", "-n", "-W", "--keep-going"]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    output = re.sub(r"\x1b\[[0-9;]*m", "", process.stdout)
    write_text(LOG, output)
    warnings = [line.strip() for line in output.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
    if process.returncode or not (SITE / "index.html").exists():
        first = warnings[0] if warnings else f"jupyter-book failed with exit code {process.returncode}"
        raise InputError(f"the site was not built: {first} ({len(warnings)} in all, see {LOG})")
    write_text(stamp, json.dumps({"inputs": state}))
    return SITE


def pair() -> list[str]:
    """Write an ``.ipynb`` beside each percent file; returns a message for each that a reader edited, which is kept."""
    return pair_chapters(_sources().values())
