"""What of the library a chapter depends on: the modules that it imports, directly or through others.

Nothing is run to find out. Imports inside functions count like those at the top. Of a module counts the code without
comments and docstrings, because those change no result; what a chapter prints with ``listing`` counts as written.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = "emibook"
BY_CHAPTER = "emibook.book.exercises"
"""Imports one of its modules per chapter; which one counts for a chapter is in ``also`` of ``Library.used``."""


class Library:
    """The library under one folder, read once."""

    def __init__(self, folder: Path) -> None:
        self.texts, self.packages = {}, set()
        for path in sorted(folder.rglob("*.py")):
            name = ".".join([ROOT, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
            self.texts[name] = path.read_text(encoding="utf-8")
            self.packages |= {name} if path.stem == "__init__" else set()
        self.late = dict(re.findall(r'"(\w+)": "([\w.]+)"', self.texts[ROOT]))  # name to module, loaded at first use
        self.read, self.modules = cache(self._read), cache(self._modules)

    def used(self, chapter: str, also: Iterable[str] = ()) -> dict[str, str]:
        """The modules that a chapter of this text depends on, and ``also`` further ones; of each what counts."""
        nodes = list(ast.walk(ast.parse(chapter)))
        listed = {inner.id for node in nodes if isinstance(node, ast.Call) and "listing" in ast.unparse(node.func)
                  for argument in node.args for inner in ast.walk(argument) if isinstance(inner, ast.Name)}
        counted: dict[str, str] = {}
        waiting = [*imported(nodes), *also]
        while waiting:
            for module in self.modules(waiting.pop()) - set(counted):
                code, imports = self.read(module)
                counted[module] = code + "".join(self._as_written(module, listed))
                waiting += imports
        return dict(sorted(counted.items()))

    def _read(self, module: str) -> tuple[str, set[str]]:
        """A hash of a module's code, and what it imports.

        Also every module that a string names, and, where it imports by computed names, all of its own package.
        """
        text = self.texts[module]
        tree = ast.parse(text)
        nodes = list(ast.walk(tree))
        names = imported(nodes) | {node.value for node in nodes if isinstance(node, ast.Constant)
                                   and node.value in self.texts}
        if re.search(r"^ *(from|import) importlib( |$)", text, re.M) and module not in (ROOT, BY_CHAPTER):
            package = module if module in self.packages else module.rpartition(".")[0]
            names |= {name for name in self.texts if name.startswith(f"{package}.")}
        for node in nodes:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                node.body = [statement for statement in node.body
                             if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))]
        return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), names

    def _modules(self, dotted: str) -> set[str]:
        """The modules behind a dotted name: the packages that it is in, its own, and one that is loaded late."""
        parts = dotted.split(".")
        modules = {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & set(self.texts)
        if modules != {ROOT} or len(parts) == 1:
            return modules
        if re.search(rf"(^|^class |^def | import ){parts[1]}\b", self.texts[ROOT], re.M):
            return modules
        home = f"{ROOT}.{self.late.get(parts[1], '').removeprefix(f'{ROOT}.')}"
        return modules | (self._modules(f"{home}.{parts[1]}") if home in self.texts else set(self.texts))

    def _as_written(self, module: str, listed: set[str]) -> Iterator[str]:
        """The functions and classes of a module that a chapter lists."""
        text = self.texts[module]
        if any(re.search(rf"^(class|def) {name}\b", text, re.M) for name in listed):
            yield from (ast.get_source_segment(text, node) or "" for node in ast.parse(text).body
                        if getattr(node, "name", "") in listed)


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names of the library that a file imports, with the attributes that it takes of them."""
    names, taken, local = set(), set(), {}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                top = alias.name.split(".")[0]
                names.add(full)
                local[alias.asname or top] = full if alias.asname or isinstance(node, ast.ImportFrom) else top
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            taken.add((node.value.id, node.attr))
    names |= {f"{local[name]}.{attribute}" for name, attribute in taken if name in local}
    return {name for name in names if name.split(".")[0] == ROOT}
