"""Chapters: percent files as notebooks, executed by papermill, paired for JupyterLab, and what each depends on.

A chapter is a percent file in ``notebooks/``, the only form of it that is committed. It is converted one way.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emibook import InputError

if TYPE_CHECKING:
    from nbformat import NotebookNode


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
    """Names and defaults in the cell tagged ``parameters``."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            assigned = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Assign)]
            return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}
    return {}


def execute(notebook: NotebookNode, target: Path, parameters: dict[str, Any]) -> None:
    """Run a notebook with ``parameters`` and leave it at ``target`` once its last cell has run.

    The notebook as far as it ran stays beside ``target`` as ``.<name>.failed.ipynb`` where a cell stops.
    Raises ``InputError`` for a parameter that the notebook does not declare, and for a cell that stops.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    known = declared(notebook)
    if unknown := sorted(set(parameters) - set(known)):
        raise InputError(f"{target.stem}: no parameter {unknown[0]}; it has {', '.join(known) or 'none'}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, failed = (target.with_name(f".{target.stem}.{state}.ipynb") for state in ("running", "failed"))
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
    """Write ``notebooks/<chapter>.ipynb`` beside each percent file; returns a line for each one left alone.

    Either opens in JupyterLab, and papermill's own command line runs the ``.ipynb``. One that was edited since it was
    written here is never overwritten.
    """
    import nbformat

    kept = []
    for path in sources:
        notebook = read_chapter(path)
        notebook.metadata["jupytext"]["formats"] = "ipynb,py:percent"
        cells = _cells(notebook)
        notebook.metadata["emibook"] = {"written": cells}
        target = path.with_suffix(".ipynb")
        if target.exists():
            present = nbformat.read(target, as_version=4)
            now = _cells(present)
            if now == cells:
                continue
            if now != present.metadata.get("emibook", {}).get("written"):
                kept.append(f"{target} was edited and differs from {path}; left as it is: delete it for a new one")
                continue
        partial = target.with_name(f".{target.name}.partial")
        nbformat.write(notebook, partial)
        os.replace(partial, target)
    return kept


def _cells(notebook: NotebookNode) -> str:
    """A hash of what a reader can type: the cells' kinds, tags and text."""
    typed = [(cell.cell_type, cell.metadata.get("tags", []), cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(typed).encode()).hexdigest()


def fingerprint(chapter: Path, parameters: dict[str, Any]) -> str:
    """Changes with the chapter's source, with any library source that it imports, and with its parameters."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for path in [chapter, *library_files(chapter)]:
        digest.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def library_files(source: Path) -> list[Path]:
    """Files of ``emibook`` that ``source`` imports, itself or through others; nothing is run to find out.

    A package counts whole, since it may load its modules late. ``publish`` counts but is not followed: it runs
    every stage.
    """
    package = Path(__file__).parent
    found: set[Path] = set()
    waiting = [source]
    while waiting:
        path = waiting.pop()
        for module in _imports(path):
            parts = module.split(".")[1:]
            place = package.joinpath(*parts)
            if not parts:
                files = [package / "__init__.py"]
            elif place.is_dir():
                files = sorted(place.rglob("*.py"))
            else:
                files = [place.with_suffix(".py")] if place.with_suffix(".py").exists() else []
            fresh = [file for file in files if file not in found]
            found.update(fresh)
            waiting += [file for file in fresh if file != package / "publish.py"]
    return sorted(found)


def _imports(path: Path) -> Iterator[str]:
    """Dotted names under ``emibook`` that a file imports, functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "emibook")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module.split(".")[0] == "emibook":
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
