"""Chapters: percent files as notebooks, executed by papermill, paired for JupyterLab, and their fingerprints.

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
from emibook.files import write_text

if TYPE_CHECKING:
    from nbformat import NotebookNode

RESULTS = "results"
"""Folders of this name hold results that were computed once and are kept with the book."""


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
    """Names and defaults in the cell tagged ``parameters``. Raises ``InputError`` for one that is not a literal."""
    defaults: dict[str, Any] = {}
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            try:
                for node in ast.parse(cell.source).body:
                    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:  # `seed = 3` or `seed: int = 3`
                        names = node.targets if isinstance(node, ast.Assign) else [node.target]
                        defaults |= {ast.unparse(name): ast.literal_eval(node.value) for name in names}
            except SyntaxError as error:
                raise InputError("the cell tagged parameters is not Python "
                                 f"({error.msg}, line {error.lineno})") from None
            except ValueError:
                raise InputError(f"the cell tagged parameters has {ast.unparse(node)!r}, which is not a literal; "
                                 "write the value out") from None
            break
    return defaults


def execute(
    notebook: NotebookNode, target: Path, parameters: dict[str, Any], failed: Path | None = None
) -> None:
    """Run a notebook with ``parameters`` and write it to ``target`` after its last cell.

    If a cell fails, the notebook as far as it ran is kept at ``failed``, by default beside ``target`` as
    ``.<name>.failed.ipynb``.

    Raises:
        InputError: a parameter that the notebook does not declare, or a cell that fails.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    known = declared(notebook)
    if unknown := sorted(set(parameters) - set(known)):
        raise InputError(f"{target.stem}: no parameter {unknown[0]}; it has {', '.join(known) or 'none'}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not files.replacing: papermill wants the suffix .ipynb, and after a failure this file becomes the failed notebook.
    partial = target.with_name(f".{target.stem}.running.ipynb")
    failed = failed or target.with_name(f".{target.stem}.failed.ipynb")
    try:
        executed = papermill.execute_notebook(
            notebook, str(partial), parameters, cwd=str(Path.cwd()), kernel_name="python3", progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        os.replace(partial, failed)
        reason = " ".join(f"{error.ename}: {error.evalue}".split())
        raise InputError(f"chapter {target.stem}: a cell failed with {reason}; as far as it ran: {failed}") from None
    except DeadKernelError:
        raise InputError(f"chapter {target.stem}: its process was killed, perhaps because memory ran out") from None
    are_defaults = all(known[name] == value for name, value in parameters.items())
    for index, cell in enumerate(executed.cells):
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell["id"] = f"{index:03d}-parameters"
        if "injected-parameters" in tags or ("parameters" in tags and not are_defaults):
            tags.append("remove-cell")  # a page shows only values that it ran with
        cell.metadata.pop("papermill", None)
    executed.metadata.pop("papermill", None)  # it holds absolute paths
    nbformat.write(executed, partial)
    os.replace(partial, target)
    failed.unlink(missing_ok=True)


def pair(sources: Iterable[Path]) -> list[str]:
    """Write ``notebooks/<chapter>.ipynb`` beside each percent file, and ``notebooks/exercises/<chapter>.ipynb``.

    Both open in JupyterLab, and papermill's own command line runs the first; the second is for the reader's answers
    (``without_solutions``). A notebook that a reader edited is never overwritten. Returns a message for each one kept;
    an exercise notebook with answers is reported only if its chapter has changed since.
    """
    messages = []
    for path in sources:
        notebook = read_chapter(path)
        blank = without_solutions(notebook)
        notebook.metadata["jupytext"]["formats"] = "ipynb,py:percent"
        target, exercise = path.with_suffix(".ipynb"), path.parent / "exercises" / f"{path.stem}.ipynb"
        if _keep_edited(notebook, target):
            messages.append(f"{target} was edited and differs from {path}; kept as it is: delete it for a new one")
        if has_exercises(blank) and _keep_edited(blank, exercise) not in ("", _cells(blank)):
            messages.append(f"{exercise} has answers and {path} has changed; kept as it is: delete it for a new one")
    return messages


def has_exercises(blank: NotebookNode) -> bool:
    """Whether a chapter without its solutions has an exercise to solve."""
    return any("answer = ..." in cell.source for cell in blank.cells if cell.cell_type == "code")


def _keep_edited(notebook: NotebookNode, target: Path) -> str:
    """Write ``notebook`` unless ``target`` was edited; then return the ``_cells`` that it was written from."""
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
    write_text(target, nbformat.writes(notebook) + "\n")
    return ""


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """The chapter with open exercises: their text and their checks, and three dots instead of the solutions.

    Text and code between ``solution-start`` and ``solution-end`` are left out; the call of ``check_exercise`` stays,
    with ``answer`` as its answer. Directives that only the site understands become headings, and numbers that the site
    fills in become dots.
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
    blank.metadata.pop("jupytext", None)  # it has no percent file
    return blank


def _blank_checks(solution: NotebookNode) -> Iterator[str]:
    """For each check in a solution's code, the cell for the reader's answer."""
    for node in ast.walk(ast.parse(solution.source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "check_exercise":
            number, _, *others = node.args
            arguments = [ast.unparse(argument) for argument in (*others, *node.keywords)]
            call = ", ".join([json.dumps(ast.literal_eval(number)), "answer", *arguments])
            yield f"answer = ...  # yours\n{ast.unparse(node.func)}({call})"


def _plain(text: str, exercise: int) -> str:
    """Markdown for JupyterLab, which does not know the site's directives and roles."""
    text = re.sub(r"```\{exercise-start\} (.*)\n(?::.*\n)+```", rf"### Exercise {exercise}: \1", text)
    text = re.sub(r"```\{exercise-end\}\n```", "", text)
    text = re.sub(r"```\{figure\} \S*?static/(\S+)\n((?::.*\n)*)\n?([^`]*?)\n```", _picture, text)
    text = re.sub(r"\{glue:\w*\}`[^`]*`", "…", text)
    text = re.sub(r"(^|\n\n|[.!?:]\s)\{numref\}`[^`]*`", r"\1The figure", text)
    text = re.sub(r"\{numref\}`[^`]*`", "the figure", text)
    text = re.sub(r"\s*\{cite:\w+\}`[^`]*`", "", text)
    return text.strip()


def _picture(figure: re.Match) -> str:
    """A figure of the site as Markdown, with its path from ``notebooks/exercises``."""
    name, options, caption = figure.groups()
    words = re.search(r":alt: (.*)", options)
    return f"![{words.group(1) if words else ''}](../../book/static/{name})\n\n{caption}"


def _cells(notebook: NotebookNode) -> str:
    """A hash of what a reader can type: the cells' kinds, tags and text."""
    typed = [(cell.cell_type, cell.metadata.get("tags", []), cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(typed).encode()).hexdigest()


def fingerprint(chapter: Path, parameters: dict[str, Any], library: Library) -> str:
    """A hash of all that a chapter's result depends on.

    Its text and parameters, the library's modules that it uses, among them its exercises' checks, and the files that it
    names.
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

    If it names a folder ``results`` or a file in one, also the files there whose first word occurs in one of its
    strings: ``book/results`` and ``rehearsal_{name}.csv`` mean all that begin with ``rehearsal``.
    """
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)
             and isinstance(node.value, str) and re.fullmatch(r"[\w/.*-]+", node.value)}
    files = {path for path in map(Path, texts) if path.suffix and path.is_file()}
    folders = {path for path in map(Path, texts) if path.name == RESULTS and path.is_dir()}
    for folder in folders | {path.parent for path in files if path.parent.name == RESULTS}:
        files |= {path for path in folder.iterdir() if any(re.split("[_.]", path.name)[0] in text for text in texts)}
    return sorted(files)
