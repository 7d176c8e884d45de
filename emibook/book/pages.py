"""Pages and files that are made, not written: the library's reference from its docstrings, notebooks to solve.

Plain MyST in ``book/generated/``, rewritten at each build; the table of contents names it.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from emibook.book.notebooks import has_exercises, read_chapter, without_solutions

GENERATED = Path("book/generated")
LIST = re.compile(r"(Args|Arguments|Returns|Raises|Attributes):$")
WIDEST = 78  # characters of a signature on one line


def write_pages(sources: dict[str, Path], library: Path) -> None:
    """Bring ``book/generated`` up to date: ``api/``, ``api.md``, ``exercises/``, ``exercises.md``, ``tests.md``.

    ``sources`` are the chapters' percent files by name, ``library`` the folder of the package.
    """
    made = dict(reference(library)) | dict(exercise_pages(sources)) | dict(tests_page(library.parent / "tests"))
    for name, text in made.items():
        path = GENERATED / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    for path in [path for path in GENERATED.rglob("*") if path.is_file()]:
        if path.relative_to(GENERATED).as_posix() not in made:
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
        number = re.sub(r"^0*(\d+)_.*|.*", lambda found: f"{found[1]}. " if found[1] else "", name, count=1)
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


def tests_page(folder: Path) -> Iterator[tuple[str, str]]:
    """Every test by its name, which is a sentence, under the module that it is about."""
    parts = []
    for path in sorted(folder.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
        about = (ast.get_docstring(tree) or "").splitlines()
        parts.append(f"## {path.stem.removeprefix('test_').replace('_', ' ')}\n")
        parts += [f"{_inline(about[0])}\n"] if about else []
        parts.append("\n".join(f"- {name.removeprefix('test_').replace('_', ' ')}" for name in names) + "\n")
    yield "tests.md", TESTS + "\n".join(parts)


TESTS = """# Every test, as a sentence

Each line is the name of a test that runs with `make test`; a test holds for every case that it is given.

"""


def reference(library: Path) -> Iterator[tuple[str, str]]:
    """A page for each module or package directly under ``library``, and one that lists them."""
    rows = []
    rooms = sorted(path for path in library.iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py")
    for room in rooms:
        name = room.stem
        if name.startswith("_") and name != "__init__":
            continue
        files = sorted(room.rglob("*.py")) if room.is_dir() else [room]
        top = "emibook" if name == "__init__" else f"emibook.{name}"
        parts = [f"# `{top}`\n"]
        for file in files:
            own = ".".join(["emibook", *file.relative_to(library).with_suffix("").parts]).removesuffix(".__init__")
            parts += _module(own, ast.parse(file.read_text(encoding="utf-8")), heading=own != top)
        page = "library" if name == "__init__" else name
        yield f"api/{page}.md", "\n".join(parts) + "\n"
        first = ast.get_docstring(ast.parse(files[0].read_text(encoding="utf-8"))) or ""
        rows.append(f"| [`{top}`](api/{page}.md) | {_inline(first.splitlines()[0])} |")
    yield "api.md", REFERENCE.format(rows="\n".join(rows))


REFERENCE = """# The library

Written from the docstrings when these pages were made. A result says its axes and units, an error when it is raised,
and `Source:` names where a step comes from.

| module | what it is |
|---|---|
{rows}
"""


def _module(name: str, tree: ast.Module, heading: bool) -> Iterator[str]:
    if heading:
        yield f"## `{name}`\n"
    yield from _docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"### `{node.name}`\n" if heading else f"## `{node.name}`\n"
            yield f"```python\n{_signature(node)}\n```\n"
            yield from _docstring(node)
            methods = node.body if isinstance(node, ast.ClassDef) else []
            for each in methods:
                public = isinstance(each, ast.FunctionDef) and not each.name.startswith("_")
                if public and ast.get_docstring(each):
                    yield f"```python\n{_signature(each)}\n```\n"
                    yield from _docstring(each)


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """As it is written, without the body; one argument a line where it is long."""
    if isinstance(node, ast.ClassDef):
        starts = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        if starts:
            return _called(node.name, starts[0], skip=1)
        fields = [ast.unparse(each) for each in node.body if isinstance(each, ast.AnnAssign)]
        return f"class {node.name}" + "".join(f"\n    {each}" for each in fields)
    marks = [ast.unparse(each) for each in node.decorator_list]
    if "property" in marks or any("cached_property" in mark for mark in marks):
        return f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name
    method = bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
    return _called(node.name, node, skip=int(method))


def _called(name: str, node: ast.FunctionDef, skip: int) -> str:
    arguments = list(_arguments(node.args))[skip:]
    result = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    line = f"{name}({', '.join(arguments)}){result}"
    if len(line) <= WIDEST:
        return line
    return f"{name}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){result}"


def _arguments(given: ast.arguments) -> Iterator[str]:
    """Each argument with its type and its default, and the marks between their kinds."""
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + given.defaults
    for place, (each, default) in enumerate(zip(plain, defaults, strict=True), 1):
        yield _argument(each, default)
        if place == len(given.posonlyargs):
            yield "/"
    if given.vararg or given.kwonlyargs:
        yield f"*{ast.unparse(given.vararg) if given.vararg else ''}"
    for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _argument(each, default)
    if given.kwarg:
        yield f"**{ast.unparse(given.kwarg)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    equals = " = " if argument.annotation else "="
    return ast.unparse(argument) + (f"{equals}{ast.unparse(default)}" if default else "")


def _docstring(node: ast.AST) -> Iterator[str]:
    """A docstring as MyST: paragraphs, lists of arguments, and what is drawn or indented left as it is."""
    for block in re.split(r"\n[ ]*\n", ast.get_docstring(node) or ""):
        lines = block.splitlines()
        if not lines:
            continue
        head, rest = lines[0].strip(), lines[1:]
        if lines[0].startswith("    "):
            yield "```text\n" + "\n".join(line[4:] if line.startswith("    ") else line for line in lines) + "\n```\n"
        elif LIST.match(head) and rest:
            yield f"**{head.removesuffix(':')}**\n"
            whole = head == "Returns:"
            yield (_inline(" ".join(line.strip() for line in rest)) if whole else "\n".join(_entries(rest))) + "\n"
        elif head == "Example:" and rest:
            yield "**Example**\n\n```python\n" + "\n".join(line[4:] for line in rest) + "\n```\n"
        else:
            indented = next((place for place, line in enumerate(lines) if line.startswith("   ")), len(lines))
            yield _inline(" ".join(line.strip() for line in lines[:indented])) + "\n"
            if lines[indented:]:
                yield "```text\n" + "\n".join(lines[indented:]) + "\n```\n"


def _entries(lines: list[str]) -> Iterator[str]:
    """``name: what it is`` over one line or several, as list items."""
    items: list[str] = []
    for line in lines:
        if line.startswith("     ") and items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line.strip())
    for item in items:
        name, colon, about = item.partition(": ")
        named = colon and re.fullmatch(r"[\w, ]+", name)
        yield f"- `{name}`: {_inline(about)}" if named else f"- {_inline(item)}"


def _inline(text: str) -> str:
    """Words with ``code`` in them: what MyST would take for markup is written so that it does not."""
    parts = re.split(r"``(.+?)``", text.replace(" -> ", " → "))
    return "".join(f"`{part}`" if place % 2 else re.sub(r"([\\`*_{}\[\]<>$|#~])", r"\\\1", part)
                   for place, part in enumerate(parts))
