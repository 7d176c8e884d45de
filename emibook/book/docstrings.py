"""A Sphinx extension for the library's docstrings: layouts and drawings keep their lines, names become links."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Rewrite a docstring in place; called by Sphinx for each."""
    module = name
    while module not in sys.modules:
        module = module.rpartition(".")[0]
    parameters = inspect.signature(thing).parameters if inspect.isfunction(thing) else ()
    names = {key for key, value in vars(sys.modules[module]).items() if _has_page(value) and key not in parameters}

    def link(literal: re.Match) -> str:
        if literal[1] not in names:
            return literal[0]
        target = vars(sys.modules[module])[literal[1]]
        return f":py:obj:`{literal[1]} <{target.__module__}.{target.__qualname__}>`"

    lines[:] = [re.sub(r"(?<!`)``(\w+)``(?!`)", link, line) for line in keep_lines(lines)]
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")  # otherwise napoleon takes what stands before a colon in the first line for a type


def _has_page(value: Any) -> bool:
    ours = (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.split(".")[0] == "emibook"
    return ours and bool(value.__doc__) and not value.__qualname__.startswith("_")


def keep_lines(lines: list[str]) -> list[str]:
    """Make a literal block of every indented block that follows text at the margin and a blank line.

    Sections such as ``Args:`` are no such blocks, because they begin right below their head.
    """
    kept: list[str] = []
    margin = True  # whether the last line with text began at the margin
    for line in lines:
        if margin and line.startswith("    ") and len(kept) > 1 and not kept[-1] and not kept[-2].endswith("::"):
            kept += ["::", ""]
        margin = not line.startswith(" ") if line.strip() else margin
        kept.append(line)
    return kept


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx. Priority: before napoleon, which turns sections into lists of fields."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True}
