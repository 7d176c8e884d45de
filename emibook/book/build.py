"""The book: chapters through papermill, then the site through Jupyter Book.

A chapter is a percent file in ``notebooks/``, the only form of it that is committed. It is converted one way, executed
in ``book/executed/`` under another name, moved into place when its last cell has run, and built into ``_build/html``.
Nothing that is up to date is done again.
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

if TYPE_CHECKING:
    from nbformat import NotebookNode

EXECUTED = Path("book/executed")
SITE = Path("_build/html")
LOG = Path("_build/sphinx.log")
LEDGER = "timings.csv"
LIBRARY = Path(__file__).parents[1]
AT_ONCE = 2
"""Chapters that run at one time, where there are as many cores: each may hold a gigabyte."""
_ONE_AT_A_TIME = threading.Lock()  # for what chapters that run side by side write into one file


def book(
    profile: str = "builtin",
    root: Path | str | None = None,
    work: Path | str | None = None,
    chapters: Sequence[str] | None = None,
    parameters: dict[str, Any] | None = None,
) -> Path:
    """Bring the chapters and the site up to date; returns the folder of the site, ``_build/html``.

    ``root`` is the corpus (made on the spot for ``builtin``), ``work`` everything computed from it
    (``work/<profile>`` unless given). ``chapters`` are names as in ``notebooks/``, all of them unless given; a chapter
    that is then neither chosen nor up to date gets a page that says so. ``parameters`` overrides the profile's values.
    A chapter that declares ``chapters`` is given the fingerprint of each of the others, and runs after them.
    Raises ``InputError`` for an unknown profile, chapter or parameter, a missing root, a cell that stops, a chapter
    that is stale when all have run because something changed meanwhile, a warning of Sphinx, and where the current
    folder is not the project's.
    """
    sources = _sources()
    names = list(dict.fromkeys(chapters)) if chapters else list(sources)
    if unknown := [name for name in names if name not in sources]:
        raise InputError(f"no chapter {unknown[0]} in notebooks/; there are {', '.join(sources)}")
    values = _values(profile, root, work, parameters)

    notebooks = {name: read_chapter(path) for name, path in sources.items()}
    taken = {name: declared(notebook) for name, notebook in notebooks.items()}
    if unknown := sorted(set(parameters or {}) - set().union(*(taken[name] for name in names))):
        raise InputError(f"no parameter {unknown[0]} in {', '.join(names)}; see the first code cell of each")
    library, given, prints = Library(LIBRARY), {}, {}
    about_others = [name for name in sources if "chapters" in taken[name]]
    for name in [*(name for name in sources if name not in about_others), *about_others]:
        values["chapters"] = dict(prints)
        given[name] = {key: values[key] for key in taken[name] if key in values}
        prints[name] = fingerprint(sources[name], given[name], library)

    stale = [name for name in names if not _fresh(name, prints[name])]
    if stale:
        _stages(values, set().union(*(taken[name] for name in stale)))

    def run(name: str) -> None:
        print(f"chapter {name}", file=sys.stderr)
        with _timed(Path(values["work"]), f"chapter {name}"):
            execute(notebooks[name], EXECUTED / f"{name}.ipynb", given[name])
        _write(_record(name), json.dumps({"fingerprint": prints[name], "profile": profile, "parameters": given[name]}))

    _side_by_side(run, [name for name in stale if name not in about_others])
    _side_by_side(run, [name for name in stale if name in about_others])
    if stale:
        library = Library(LIBRARY)
        for name in names:
            if fingerprint(sources[name], given[name], library) != prints[name]:
                raise InputError(f"chapter {name}, or code or kept results that it uses, changed while the book was "
                                 "built; run emibook book again")
    for name in sources:
        if not _fresh(name, prints[name]):
            _record(name).unlink(missing_ok=True)
            _write(EXECUTED / f"{name}.ipynb", _placeholder(name, notebooks[name]))
    for line in pair():
        print(line, file=sys.stderr)
    write_pages(sources, LIBRARY)
    return build_site()


def _side_by_side(run: Callable[[str], None], names: Sequence[str]) -> None:
    """Run each chapter, two at a time where there are two cores; the first that stops lets no further one begin.

    A chapter is a process of its own, so threads that wait for it are enough.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(AT_ONCE, cores)) as pool:
        runs = [pool.submit(run, name) for name in names]
        try:
            for done in as_completed(runs):
                done.result()
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
    """What a profile gives the chapters that declare it."""
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


def _fresh(name: str, wanted: str) -> bool:
    record = _record(name)
    if not record.exists() or not (EXECUTED / f"{name}.ipynb").exists():
        return False
    return json.loads(record.read_text(encoding="utf-8"))["fingerprint"] == wanted


def _placeholder(name: str, notebook: NotebookNode) -> str:
    """The page of a chapter that was not chosen and is not up to date: its title, and how to run it."""
    import nbformat

    title = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown").splitlines()[0]
    text = f"{title}\n\nNot run in this build. To run it: `emibook book --chapter {name}`."
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text, id="not-run")])
    page.metadata = notebook.metadata
    return nbformat.writes(page)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _stages(values: dict[str, Any], needed: set[str]) -> None:
    """Everything the chapters will find done, here in the terminal where progress can be seen.

    A chapter that takes ``weights`` reads features, and one that takes ``seeds`` reads the tables.
    """
    from emibook.corpus import open_corpus

    if not needed & {"root", "work"}:
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
    if needed & {"weights", "seeds"}:
        from emibook.features import extract

        with _timed(work, "extract"):
            extract(corpus, work, TABLE_FEATURES, weights=values["weights"])
    if "seeds" in needed:
        from emibook.experiments import tables
        from emibook.studies.human.people import rows

        with _timed(work, "tables"):
            tables(corpus, work, seeds=values["seeds"], reference_rows=rows(corpus))


@contextmanager
def _timed(work: Path, stage: str) -> Iterator[None]:
    """Add a stage's seconds to ``WORK/timings.csv``, whether it ended well or not."""
    start, ended = time.perf_counter(), "stopped"
    try:
        yield
        ended = "ok"
    finally:
        ledger = work / LEDGER
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with _ONE_AT_A_TIME, ledger.open("a", newline="", encoding="utf-8") as file:
            new = not file.tell()
            rows = csv.writer(file)
            if new:
                rows.writerow(["stage", "seconds", "ended"])
            rows.writerow([stage, f"{time.perf_counter() - start:.1f}", ended])


def build_site() -> Path:
    """``_build/html`` from the executed chapters; warnings are errors, and all that Sphinx said is in the log.

    Built from nothing each time, because Sphinx repeats no warning about a page that it has read before; skipped
    where no input has changed since the last good build.
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
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    said = re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout)
    _write(LOG, said)
    wrong = [line.strip() for line in said.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
    if ended.returncode or not (SITE / "index.html").exists():
        first = wrong[0] if wrong else f"jupyter-book ended with code {ended.returncode}"
        raise InputError(f"the site was not built: {first} ({len(wrong)} in all, see {LOG})")
    _write(stamp, json.dumps({"inputs": state}))
    return SITE


def pair() -> list[str]:
    """Write an ``.ipynb`` beside each percent file; returns a line for each that a reader edited and that stays."""
    return pair_chapters(_sources().values())
