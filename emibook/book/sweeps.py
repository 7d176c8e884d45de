"""Sweeps: one notebook run many times with other parameters, on this machine or through a Dask scheduler.

    OUT/<run>.ipynb           a run that reached its last cell; <run>.json has its parameters and its source's hash
    OUT/<run>.failed.ipynb    a run that failed, as far as it ran
    OUT/sweep.csv             run, status, error, seconds, and one column per parameter
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import time
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from emibook import InputError, compute
from emibook.book.notebooks import declared, execute, read_chapter
from emibook.files import write_text

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
    """Run ``notebook`` once for each of ``runs``.

    A run that fails is a row with the reason, and the others go on. Called again, it makes only the runs that failed or
    whose source or parameters have changed.

    Args:
        notebook: a percent file or an .ipynb, with a cell tagged ``parameters``.
        runs: the parameters of each run by its name, or a YAML file with them. Under the single name ``grid``, lists of
            values; every combination is a run.
        resources: as in ``compute.run``; the workers need ``out`` and the notebook's own paths.

    Returns:
        The table that is in ``OUT/sweep.csv``.

    Raises:
        InputError: no such notebook, parameters that cannot be read or are not declared, names that files cannot have.
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
    hashes = {name: _hash(notebook, parameters) for name, parameters in runs.items()}
    rows = {name: _previous(out, name, hashes[name]) for name in runs}
    todo = [name for name, row in rows.items() if row["status"] != "ok"]
    task = functools.partial(_run, notebook=notebook.absolute(), runs=runs, out=out, folder=Path.cwd())
    for name, result in compute.run(task, todo, label="sweep", unit="notebook", resources=resources,
                                    limits=compute.Limits(seconds=None, memory=None)):
        if isinstance(result, Exception):
            rows[name] = {"status": "failed", "error": " ".join(str(result).split()), "seconds": None}
        else:
            rows[name] = {"status": "ok", "error": "", "seconds": result}
            record = {"hash": hashes[name], **rows[name], "parameters": runs[name]}
            write_text(out / f"{name}.json", json.dumps(record) + "\n")
    table = pandas.DataFrame([{"run": name, **rows[name], **runs[name]} for name in runs])
    write_text(out / "sweep.csv", table.to_csv(index=False))
    return table


def _run(name: str, *, notebook: Path, runs: Runs, out: Path, folder: Path) -> float:
    """On a worker: one run; returns its seconds."""
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
        raise InputError(f"{notebook} is not a notebook ({type(error).__name__})") from None


def _parameters(path: Path) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Of two entries with one name YAML silently keeps the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            names = [key.value for key, _ in node.value]
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and names.count(key.value) > 1:
                    raise InputError(f"{path}: {key.value} appears twice; give each a name of its own")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of parameters") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML ({' '.join(str(error).split())})") from None


def _named(runs: Any) -> dict[str, dict[str, Any]]:
    """The runs by name, with every combination of a grid."""
    if not isinstance(runs, Mapping) or not runs or not all(isinstance(run, Mapping) for run in runs.values()):
        raise InputError("parameters: give names of runs, each with its parameters, as `one: {seed: 1}`, "
                         "or `grid: {seed: [0, 1]}`")
    pairs = [(str(name), dict(parameters)) for name, parameters in runs.items()]
    if list(runs) == [GRID]:
        lists = {key: value if isinstance(value, list) else [value] for key, value in runs[GRID].items()}
        if without := [str(key) for key, values in lists.items() if not values]:
            raise InputError(f"grid: {without[0]} has no values; give one or more")
        combinations = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
        pairs = [("-".join(f"{key}-{value}" for key, value in one.items()), one) for one in combinations]
    named = dict(pairs)
    if len(named) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"parameters: two runs are called {twice}; give each a name, or a value, of its own")
    for name in named:
        if not name or name.startswith(".") or any(mark in name for mark in "/\\\0") or name == "sweep":
            raise InputError(f"run {name!r}: no notebook can be named after it; rename the run")
    return named


def _hash(notebook: Path, parameters: Mapping[str, Any]) -> str:
    """Of the notebook and its parameters."""
    text = json.dumps(parameters, sort_keys=True, default=str).encode()
    return hashlib.sha256(notebook.read_bytes() + b"\n" + text).hexdigest()[:16]


def _previous(out: Path, name: str, wanted: str) -> dict[str, Any]:
    """The row of an earlier call if that run succeeded and nothing has changed since, else one that waits."""
    try:
        record = json.loads((out / f"{name}.json").read_text())
        if record["hash"] == wanted and (out / f"{name}.ipynb").is_file():
            return {key: record[key] for key in ("status", "error", "seconds")}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"status": "waiting", "error": "", "seconds": None}
