"""What of the library a chapter uses, down to single functions, classes and constants; nothing is run to find out.

From the names in a chapter the search goes on to the names in what they stand for, through imports and re-exports. A
module that is handed on as a whole, or named in a text such as ``"emibook.features."`` from which something is imported
late, counts with all that is in it; a name that a package loads late counts where one of its modules defines it.

Comments and docstrings change no result, so they count only in what a chapter shows with ``listing``.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = "emibook"
Name = tuple[str, str]
"""A module and what it defines; ``*`` for all of it, and empty text for what it runs when it is imported."""
ALL, RUNS = "*", ""
SHOWS = "listing"
"""The function by which a chapter shows source as it is written."""


@dataclass(frozen=True)
class Module:
    """A file of the library, or a chapter: its statements by the name that they define, and what it imports."""

    name: str
    package: bool
    defined: dict[str, list[ast.stmt]]
    imported: dict[str, str]
    """Local name to the dotted name that it stands for."""
    text: str = field(repr=False)

    def code(self, name: str) -> str:
        """The statements that define ``name``, without comments and docstrings."""
        return "\n".join(map(ast.unparse, self.defined[name]))

    def source(self, name: str) -> str:
        """The statements that define ``name``, as they are written."""
        lines = self.text.splitlines()
        return "\n".join("\n".join(lines[_first(node) - 1 : node.end_lineno]) for node in self.defined[name])


def _first(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])


class Library:
    """The library under one folder, read once."""

    def __init__(self, folder: Path) -> None:
        self.modules: dict[str, Module] = {}
        for path in sorted(folder.rglob("*.py")):
            parts = [ROOT, *path.relative_to(folder).with_suffix("").parts]
            package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if package else parts)
            self.modules[name] = read_module(path.read_text(encoding="utf-8"), name, package)

    def used(self, source: str, also: Iterable[Name] = ()) -> dict[Name, str]:
        """All that a chapter of this text uses, and what each is: its code, or the import of a foreign package."""
        chapter = read_module(source, "chapter", False)
        found: dict[Name, str] = {}
        shown = set(self._shown(chapter))
        waiting = [*also, *(each for name in chapter.defined for each in self._in_statements(chapter, name))]
        while waiting:
            each = waiting.pop()
            if each in found:
                continue
            module = self.modules.get(each[0])
            if module and each[1] in module.defined:
                found[each] = module.source(each[1]) if each in shown else self._code(*each)
            else:
                found[each] = each[1]
            waiting += self._next(each)
        return dict(sorted(found.items()))

    def _shown(self, chapter: Module) -> Iterator[Name]:
        """What the chapter prints the source of."""
        for node in ast.walk(ast.parse(chapter.text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == SHOWS:
                for dotted in map(_dotted, node.args):
                    if dotted and dotted[0] in chapter.imported:
                        yield from self._resolved(chapter.imported[dotted[0]], dotted[1:])

    @functools.cache  # noqa: B019 - a library is read once a build
    def _code(self, module: str, name: str) -> str:
        return self.modules[module].code(name)

    def _next(self, each: Name) -> Iterator[Name]:
        module = self.modules.get(each[0])
        if module is None:
            return
        if each[1] == ALL:
            yield from ((module.name, name) for name in module.defined)
            inside = f"{module.name}."
            yield from ((name, ALL) for name in self.modules if module.package and name.startswith(inside))
        elif each[1] in module.defined:
            yield from self._references(*each)
            yield from [(module.name, RUNS)] if RUNS in module.defined else []

    @functools.cache  # noqa: B019 - a library is read once a build
    def _references(self, module: str, name: str) -> list[Name]:
        return list(self._in_statements(self.modules[module], name))

    def _in_statements(self, module: Module, name: str) -> Iterator[Name]:
        """What the statements that define ``name`` refer to, own names, imports and late imports alike."""
        for statement in module.defined[name]:
            imported = module.imported | dict(_imports(ast.walk(statement)))
            inner = {node.value for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
            for node in ast.walk(statement):
                if isinstance(node, ast.Attribute) and node not in inner:
                    dotted = _dotted(node)
                    if dotted and dotted[0] in imported:
                        yield from self._resolved(imported[dotted[0]], dotted[1:])
                elif isinstance(node, ast.Name) and node not in inner:
                    if node.id in imported:
                        yield from self._resolved(imported[node.id], ())
                    elif node.id in module.defined and node.id != name:
                        yield module.name, node.id
                elif isinstance(node, ast.Name) and node.id in module.defined and node.id not in imported:
                    yield module.name, node.id  # an attribute of something defined here
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield from self._named_in(node.value)

    def _named_in(self, text: str) -> Iterator[Name]:
        """A text such as ``emibook.features.`` or ``emibook.models.tcn``: a module that is imported late."""
        if re.fullmatch(rf"{ROOT}(\.\w+)+\.?", text):
            name = text.rstrip(".")
            if name in self.modules:
                yield name, ALL

    def _resolved(self, dotted: str, attributes: Iterable[str]) -> Iterator[Name]:
        """What a dotted name with attributes stands for."""
        parts = [*dotted.split("."), *attributes]
        if parts[0] != ROOT:
            yield "", dotted  # a foreign package: which one it is
            return
        place = len(parts)
        while ".".join(parts[:place]) not in self.modules:
            place -= 1
        module = self.modules[".".join(parts[:place])]
        if place == len(parts):
            yield module.name, ALL
        else:
            yield from self._member(module, parts[place])

    def _member(self, module: Module, name: str) -> Iterator[Name]:
        if name in module.defined:
            yield module.name, name
        elif name in module.imported:
            yield from self._resolved(module.imported[name], ())
        else:
            inside = [other for other in self.modules.values() if other.name.startswith(f"{module.name}.")]
            yield from ((other.name, name) for other in inside if name in other.defined)
            if "__getattr__" in module.defined:
                yield module.name, "__getattr__"


def read_module(text: str, name: str, package: bool) -> Module:
    """A file's statements by what they define."""
    defined: dict[str, list[ast.stmt]] = {}
    imported: dict[str, str] = {}
    body = _WithoutDocstrings().visit(ast.parse(text)).body
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            imported |= dict(_imports(ast.walk(statement)))
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            imported |= dict(_imports([statement]))
        else:
            for each in _defines(statement) or [RUNS]:
                defined.setdefault(each, []).append(statement)
    return Module(name, package, defined, imported, text)


class _WithoutDocstrings(ast.NodeTransformer):
    """Takes out every text that stands alone as a statement."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        return None if isinstance(node.value, ast.Constant) else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        node = super().generic_visit(node)
        if isinstance(node, ast.stmt) and not getattr(node, "body", True):
            node.body = [ast.copy_location(ast.Pass(), node)]
        return node


def _defines(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    return [node.id for target in targets for node in ast.walk(target)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Local name and dotted name of every import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _dotted(node: ast.expr) -> list[str]:
    """``a.b.c`` as its parts; nothing where it begins with something else than a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return [node.id, *parts] if isinstance(node, ast.Name) else []
