"""Sweeps: one notebook run many times with other parameters, on this machine or through a Dask scheduler.

    OUT/<run>.ipynb           a run whose last cell has run; <run>.json says with which parameters, of which source
    OUT/<run>.failed.ipynb    one that stopped, as far as it ran
    OUT/sweep.csv             run, status, error, seconds, and a column a parameter
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import time
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from emibook import InputError, compute
from emibook.book.notebooks import declared, execute, read_chapter

if TYPE_CHECKING:
    from nbformat import NotebookNode

Runs = Mapping[str, Mapping[str, Any]]
GRID = "grid"


def sweep(
    notebook: Path | str,
    runs: Runs | Path | str,
    out: Path | str,
    *,
    resources: compute.Resources = compute.Resources(),  # noqa: B008 (frozen)
) -> pandas.DataFrame:
    """Run ``notebook`` once for each of ``runs``; the table that ``OUT/sweep.csv`` holds.

    A run that stops is a row with its reason and stops no other; called again, only runs that have not ended well, or
    whose source or parameters have changed, are made.

    Args:
        notebook: a percent file or an .ipynb, with a cell tagged ``parameters``.
        runs: by name the parameters of each, or a YAML file that says so; under the one name ``grid`` lists of values,
            of which every combination is a run.
        resources: as in ``compute.run``; the workers need ``out`` and the notebook's own paths.

    Raises:
        InputError: no such notebook, parameters that cannot be read or are not declared, names that no file can have.
    """
    notebook, out = Path(notebook), Path(out).absolute()
    source = _read(notebook)
    runs = _named(_parameters(Path(runs)) if isinstance(runs, Path | str) else runs)
    try:
        known = declared(source)
    except InputError as error:
        raise InputError(f"{notebook}: {error}") from None
    for name, parameters in runs.items():
        if unknown := sorted(set(parameters) - set(known)):
            raise InputError(f"run {name}: {notebook} has no parameter {unknown[0]}; "
                             f"it has {', '.join(known) or 'none'}")
    out.mkdir(parents=True, exist_ok=True)
    marks = {name: _mark(notebook, parameters) for name, parameters in runs.items()}
    rows = {name: _before(out, name, marks[name]) for name in runs}
    todo = [name for name, row in rows.items() if row["status"] != "ok"]
    task = functools.partial(_run, notebook=notebook.absolute(), runs=runs, out=out, folder=Path.cwd())
    for name, result in compute.run(task, todo, label="sweep", unit="notebook", resources=resources,
                                    limits=compute.Limits(seconds=None, memory=None)):
        if isinstance(result, Exception):
            rows[name] = {"status": "failed", "error": " ".join(str(result).split()), "seconds": None}
        else:
            rows[name] = {"status": "ok", "error": "", "seconds": result}
            about = {"mark": marks[name], **rows[name], "parameters": runs[name]}
            _write(out / f"{name}.json", json.dumps(about) + "\n")
    table = pandas.DataFrame([{"run": name, **rows[name], **runs[name]} for name in runs])
    _write(out / "sweep.csv", table.to_csv(index=False))
    return table


def _run(name: str, *, notebook: Path, runs: Runs, out: Path, folder: Path) -> float:
    """On a worker: one run, its seconds."""
    started = time.perf_counter()
    with chdir(folder):
        execute(_read(notebook), out / f"{name}.ipynb", dict(runs[name]), out / f"{name}.failed.ipynb")
    return round(time.perf_counter() - started, 1)


def _read(notebook: Path) -> NotebookNode:
    import nbformat

    if not notebook.is_file():
        raise InputError(f"{notebook}: no such notebook")
    if notebook.suffix == ".py":
        return read_chapter(notebook)
    try:
        return nbformat.read(notebook, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{notebook} is no notebook ({type(error).__name__})") from None


def _parameters(path: Path) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Of two entries of one name YAML keeps the last and says nothing."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            names = [key.value for key, _ in node.value]
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and names.count(key.value) > 1:
                    raise InputError(f"{path}: {key.value} is there twice; give each a name of its own")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of parameters") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML ({' '.join(str(error).split())})") from None


def _named(runs: Any) -> dict[str, dict[str, Any]]:
    """The runs by name, a grid spelt out."""
    if not isinstance(runs, Mapping) or not runs or not all(isinstance(each, Mapping) for each in runs.values()):
        raise InputError("parameters: give names of runs, each with its parameters, as `one: {seed: 1}`, "
                         "or `grid: {seed: [0, 1]}`")
    each = [(str(name), dict(parameters)) for name, parameters in runs.items()]
    if list(runs) == [GRID]:
        lists = {key: value if isinstance(value, list) else [value] for key, value in runs[GRID].items()}
        if without := [str(key) for key, values in lists.items() if not values]:
            raise InputError(f"grid: {without[0]} has no values; give one or more")
        combinations = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
        each = [("-".join(f"{key}-{value}" for key, value in one.items()), one) for one in combinations]
    named = dict(each)
    if len(named) < len(each):
        names = [name for name, _ in each]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"parameters: two runs are called {twice}; give each a name, or a value, of its own")
    for name in named:
        if not name or name.startswith(".") or any(mark in name for mark in "/\\\0") or name == "sweep":
            raise InputError(f"run {name!r}: no notebook can be named after it; rename the run")
    return named


def _mark(notebook: Path, parameters: Mapping[str, Any]) -> str:
    """Changes with the notebook and with the parameters."""
    text = json.dumps(parameters, sort_keys=True, default=str).encode()
    return hashlib.sha256(notebook.read_bytes() + b"\n" + text).hexdigest()[:16]


def _before(out: Path, name: str, mark: str) -> dict[str, Any]:
    """What an earlier call made of a run, where it ended well and is still the same."""
    try:
        about = json.loads((out / f"{name}.json").read_text())
        if about["mark"] == mark and (out / f"{name}.ipynb").is_file():
            return {key: about[key] for key in ("status", "error", "seconds")}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"status": "waiting", "error": "", "seconds": None}


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
