"""Generated pages: one per room of the library's reference, and the notebooks with open exercises.

They lie in ``book/generated/`` and are rewritten at each build; the table of contents names them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from emibook.book.notebooks import has_exercises, read_chapter, without_solutions
from emibook.files import write_text

GENERATED = Path("book/generated")


def write_pages(sources: dict[str, Path], library: Path) -> None:
    """Bring ``book/generated`` up to date: ``api/``, ``api.rst``, ``exercises/``, ``exercises.md``.

    ``sources`` are the chapters' percent files by name, ``library`` the folder of the package.
    """
    pages = dict(reference(library)) | dict(exercise_pages(sources))
    for name, text in pages.items():
        path = GENERATED / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    for path in [path for path in GENERATED.rglob("*") if path.is_file()]:
        if path.relative_to(GENERATED).as_posix() not in pages:
            path.unlink()


def exercise_pages(sources: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """The notebooks without solutions, and the page that hands them out."""
    import nbformat

    rows = []
    for name, path in sources.items():
        notebook = read_chapter(path)
        blank = without_solutions(notebook)
        if not has_exercises(blank):
            continue
        title = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown").splitlines()[0]
        count = sum("answer = ..." in cell.source for cell in blank.cells if cell.cell_type == "code")
        yield f"exercises/{name}.ipynb", nbformat.writes(blank) + "\n"
        number = re.sub(r"^0*(\d+)_.*|.*", lambda match: f"{match[1]}. " if match[1] else "", name, count=1)
        rows.append(f"| [{number}{title.removeprefix('# ')}](../executed/{name}.ipynb) | {count} | "
                    f"{{download}}`{name}.ipynb <exercises/{name}.ipynb>` |")
    yield "exercises.md", EXERCISES.format(rows="\n".join(rows))


EXERCISES = """# Exercises to solve

Each chapter as a notebook whose exercises are open: the solutions are gone, the checks have stayed. Put your answer in
the place of the three dots and run the cell; the check says what is wrong with it, and keeps the answer to itself. A
notebook runs as far as the first exercise that has no answer yet. `emibook book` puts the same files into
`notebooks/exercises/` of the project, where they find the data; what you have written in one is never overwritten.

| chapter | exercises | notebook |
|---|---|---|
{rows}
"""


def reference(library: Path) -> Iterator[tuple[str, str]]:
    """A page per room, a module or package directly under ``library``, and one that lists them.

    The pages only name the modules. Sphinx writes their content from the docstrings when it builds the site.
    """
    rows = []
    for room in sorted(path for path in library.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()):
        files = sorted(room.rglob("*.py")) if room.is_dir() else [room]
        names = [".".join(["emibook", *file.relative_to(library).with_suffix("").parts]).removesuffix(".__init__")
                 for file in files]
        page = names[0].removeprefix("emibook.")
        yield f"api/{page}.rst", "\n".join(_section(name, "=-"[name != names[0]]) for name in names)
        summary = (ast.get_docstring(ast.parse(files[0].read_text(encoding="utf-8"))) or "").split("\n")[0]
        rows.append(f"   * - :doc:`{names[0]} <api/{page}>`\n     - {summary}")
    yield "api.rst", REFERENCE.format(rows="\n".join(rows))


def _section(module: str, underline: str) -> str:
    return f"{module}\n{underline * len(module)}\n\n.. automodule:: {module}\n"


REFERENCE = """The library
===========

Every public function and class, from its docstring. A result says its axes and units, an error when it is raised, and
"Source:" names where a step comes from. All names are in the :ref:`index <genindex>` and the
:ref:`list of modules <modindex>`.

.. list-table::
   :header-rows: 1

   * - module
     - what it is
{rows}
"""
