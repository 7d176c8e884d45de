"""Chapters: percent files as notebooks, executed by papermill, paired for JupyterLab, and what each depends on.

A chapter is a percent file in ``notebooks/``, the only form of it that is committed. It is converted one way.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emibook import InputError
from emibook.book.dependencies import BY_CHAPTER, Library
from emibook.book.exercises import CHAPTERS, chapter_of

if TYPE_CHECKING:
    from nbformat import NotebookNode

RESULTS = "results"
"""Folders of this name hold what was computed once and is kept beside the book."""


def read_chapter(path: Path) -> NotebookNode:
    """A percent file as a notebook whose cell ids depend on its text only."""
    import jupytext

    notebook = jupytext.read(path, fmt="py:percent")
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"{index:03d}-{hashlib.sha256(cell.source.encode()).hexdigest()[:8]}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata.setdefault(
        "kernelspec", {"name": "python3", "display_name": "Python 3", "language": "python"}
    )
    return notebook


def declared(notebook: NotebookNode) -> dict[str, Any]:
    """Names and defaults in the cell tagged ``parameters``. Raises ``InputError`` for one that is no plain value."""
    found: dict[str, Any] = {}
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            try:
                for node in ast.parse(cell.source).body:
                    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:  # `seed = 3` or `seed: int = 3`
                        names = node.targets if isinstance(node, ast.Assign) else [node.target]
                        found |= {ast.unparse(name): ast.literal_eval(node.value) for name in names}
            except SyntaxError as error:
                raise InputError("the cell tagged parameters is no Python "
                                 f"({error.msg}, line {error.lineno})") from None
            except ValueError:
                raise InputError(f"the cell tagged parameters has {ast.unparse(node)!r}, which is no plain value; "
                                 "write the value out") from None
            break
    return found


def execute(
    notebook: NotebookNode, target: Path, parameters: dict[str, Any], failed: Path | None = None
) -> None:
    """Run a notebook with ``parameters`` and leave it at ``target`` once its last cell has run.

    Where a cell stops, the notebook as far as it ran stays at ``failed``, else beside ``target`` as
    ``.<name>.failed.ipynb``.
    Raises ``InputError`` for a parameter that the notebook does not declare, and for a cell that stops.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    known = declared(notebook)
    if unknown := sorted(set(parameters) - set(known)):
        raise InputError(f"{target.stem}: no parameter {unknown[0]}; it has {', '.join(known) or 'none'}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.running.ipynb")
    failed = failed or target.with_name(f".{target.stem}.failed.ipynb")
    try:
        executed = papermill.execute_notebook(
            notebook, str(partial), parameters, cwd=str(Path.cwd()), kernel_name="python3", progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        os.replace(partial, failed)
        reason = " ".join(f"{error.ename}: {error.evalue}".split())
        raise InputError(f"chapter {target.stem}: a cell stopped with {reason}; as far as it ran: {failed}") from None
    except DeadKernelError:
        raise InputError(f"chapter {target.stem}: its process was killed, perhaps for want of memory") from None
    as_written = all(known[name] == value for name, value in parameters.items())
    for index, cell in enumerate(executed.cells):
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell["id"] = f"{index:03d}-parameters"
        if "injected-parameters" in tags or ("parameters" in tags and not as_written):
            tags.append("remove-cell")  # a page shows no value that it did not run with
        cell.metadata.pop("papermill", None)
    executed.metadata.pop("papermill", None)  # it holds paths of this machine
    nbformat.write(executed, partial)
    os.replace(partial, target)
    failed.unlink(missing_ok=True)


def pair(sources: Iterable[Path]) -> list[str]:
    """Write ``notebooks/<chapter>.ipynb`` beside each percent file, and ``notebooks/exercises/<chapter>.ipynb``.

    Either opens in JupyterLab, and papermill's own command line runs the first; the second is for the reader's answers
    (``without_solutions``). One that was edited since it was written here is never overwritten. Returns a line for
    each one left alone; an exercise notebook that is being worked on is none, unless its chapter has changed since.
    """
    kept = []
    for path in sources:
        notebook = read_chapter(path)
        blank = without_solutions(notebook)
        notebook.metadata["jupytext"]["formats"] = "ipynb,py:percent"
        target, exercise = path.with_suffix(".ipynb"), path.parent / "exercises" / f"{path.stem}.ipynb"
        if _keep_edited(notebook, target):
            kept.append(f"{target} was edited and differs from {path}; left as it is: delete it for a new one")
        if has_exercises(blank) and _keep_edited(blank, exercise) not in ("", _cells(blank)):
            kept.append(f"{exercise} has answers and {path} has changed; left as it is: delete it for a new one")
    return kept


def has_exercises(blank: NotebookNode) -> bool:
    """Whether there is anything to answer in a chapter without its solutions."""
    return any("answer = ..." in cell.source for cell in blank.cells if cell.cell_type == "code")


def _keep_edited(notebook: NotebookNode, target: Path) -> str:
    """Write ``notebook``, unless what is there was edited: then what it was written from, as ``_cells`` has it."""
    import nbformat

    cells = _cells(notebook)
    if target.exists():
        present = nbformat.read(target, as_version=4)
        now, written = _cells(present), present.metadata.get("emibook", {}).get("written", "unknown")
        if now == cells:
            return ""
        if now != written:
            return written
    notebook.metadata["emibook"] = {"written": cells}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    nbformat.write(notebook, partial)
    os.replace(partial, target)
    return ""


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """The chapter for a reader who wants to solve: exercises, checks, and in the solutions' place three dots.

    What stands between ``solution-start`` and ``solution-end`` is left out, its words and its code; the call of
    ``check_exercise`` in it stays, with ``answer`` where the solution had its own. Directives that only the site
    understands become headings, and numbers that the site fills in become dots.
    """
    import nbformat

    kept, inside, exercises = [], False, 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and "{solution-start}" in cell.source:
            inside = True
        if inside and cell.cell_type == "code":
            kept += [nbformat.v4.new_code_cell(text, id=f"check-{len(kept):03d}") for text in _blank_checks(cell)]
        if not inside:
            new = nbformat.from_dict(json.loads(json.dumps(cell)))
            if cell.cell_type == "markdown":
                exercises += "{exercise-start}" in cell.source
                new.source = _plain(cell.source, exercises)
            kept.append(new)
        if cell.cell_type == "markdown" and "{solution-end}" in cell.source:
            inside = False
    blank = nbformat.v4.new_notebook(cells=kept)
    blank.metadata = nbformat.from_dict(json.loads(json.dumps(notebook.metadata)))
    blank.metadata.pop("jupytext", None)  # this one has no percent file
    return blank


def _blank_checks(solution: NotebookNode) -> Iterator[str]:
    """For each check in a solution's code, the cell that waits for the reader's answer."""
    for node in ast.walk(ast.parse(solution.source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "check_exercise":
            number, _, *others = node.args
            given = [ast.unparse(each) for each in (*others, *node.keywords)]
            call = ", ".join([json.dumps(ast.literal_eval(number)), "answer", *given])
            yield f"answer = ...  # yours\n{ast.unparse(node.func)}({call})"


def _plain(text: str, exercise: int) -> str:
    """Markdown for JupyterLab, which knows none of the site's directives and roles."""
    text = re.sub(r"```\{exercise-start\} (.*)\n(?::.*\n)+```", rf"### Exercise {exercise}: \1", text)
    text = re.sub(r"```\{exercise-end\}\n```", "", text)
    text = re.sub(r"```\{figure\} \S*?static/(\S+)\n((?::.*\n)*)\n?([^`]*?)\n```", _picture, text)
    text = re.sub(r"\{glue:\w*\}`[^`]*`", "…", text)
    text = re.sub(r"(^|\n\n|[.!?:]\s)\{numref\}`[^`]*`", r"\1The figure", text)
    text = re.sub(r"\{numref\}`[^`]*`", "the figure", text)
    text = re.sub(r"\s*\{cite:\w+\}`[^`]*`", "", text)
    return text.strip()


def _picture(figure: re.Match) -> str:
    """A figure of the site as Markdown has it, seen from ``notebooks/exercises``."""
    name, options, caption = figure.groups()
    words = re.search(r":alt: (.*)", options)
    return f"![{words.group(1) if words else ''}](../../book/static/{name})\n\n{caption}"


def _cells(notebook: NotebookNode) -> str:
    """A hash of what a reader can type: the cells' kinds, tags and text."""
    typed = [(cell.cell_type, cell.metadata.get("tags", []), cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(typed).encode()).hexdigest()


def fingerprint(chapter: Path, parameters: dict[str, Any], library: Library) -> str:
    """Changes with the chapter's text and parameters, the library's modules that it uses, and files that it names.

    The checks of a chapter's exercises count as used by it.
    """
    text = chapter.read_text(encoding="utf-8")
    checks = CHAPTERS.get(chapter_of(chapter.stem))
    also = [f"{BY_CHAPTER}.{checks}"] if checks else []
    digest = hashlib.sha256(json.dumps([parameters, text], sort_keys=True).encode())
    digest.update(json.dumps(library.used(text, also)).encode())
    for path in _files_named(text):
        digest.update(f"\n{path}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _files_named(source: str) -> list[Path]:
    """Files of the project that a chapter names by their path from its folder, as ``book/claims.yml``.

    Of a folder ``results`` that it names, or names a file of, those too whose first word occurs in one of its texts:
    ``book/results`` and ``rehearsal_{name}.csv`` mean all that begin with ``rehearsal``.
    """
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)
             and isinstance(node.value, str) and re.fullmatch(r"[\w/.*-]+", node.value)}
    files = {path for path in map(Path, texts) if path.suffix and path.is_file()}
    folders = {path for path in map(Path, texts) if path.name == RESULTS and path.is_dir()}
    for folder in folders | {path.parent for path in files if path.parent.name == RESULTS}:
        files |= {path for path in folder.iterdir() if any(re.split("[_.]", path.name)[0] in text for text in texts)}
    return sorted(files)
