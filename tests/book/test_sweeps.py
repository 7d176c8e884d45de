"""Sweeps: two runs of which one stops, and what is left of either."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas
import pytest
from dask_hosts import Hosts

from emibook import InputError
from emibook.book.notebooks import declared
from emibook.book.sweeps import _named, _read, sweep
from emibook.cli import main
from emibook.compute import Resources

NOTEBOOK = """# %% [markdown]
# # A sweep

# %% tags=["parameters"]
number = 1
text = "none"

# %%
import os
from pathlib import Path

assert number != 2, "two is not allowed"
Path(text).write_text(str(10 * number))
print("wrote", 10 * number, "on", os.environ.get("HOST", "this machine"))
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "notebook.py"
    path.write_text(NOTEBOOK)
    return path


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def test_of_two_runs_one_fails_and_both_notebooks_are_kept(notebook, tmp_path, capsys):
    (tmp_path / "runs.yml").write_text("good: {number: 4, text: made.txt}\nbad: {number: 2}\n")
    code = main(["sweep", str(notebook), "--parameters", str(tmp_path / "runs.yml"), "--out", str(tmp_path / "out"),
                 "--workers", "1"])
    said = capsys.readouterr()
    assert code == 1 and "bad" in said.err and "two is not allowed" in said.err
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"good.ipynb", "good.json", "bad.failed.ipynb", "sweep.csv"}
    assert (tmp_path / "made.txt").read_text() == "40"  # relative to where the sweep was started
    assert printed(out / "good.ipynb") == "wrote 40 on this machine\n"
    assert "two is not allowed" in (out / "bad.failed.ipynb").read_text()
    table = pandas.read_csv(out / "sweep.csv", keep_default_na=False).set_index("run")
    assert list(table["status"]) == ["ok", "failed"] and "two is not allowed" in table.loc["bad", "error"]
    assert table.loc["good", "number"] == 4

    before = (out / "good.ipynb").stat().st_mtime_ns
    again = sweep(notebook, {"good": {"number": 4, "text": "made.txt"}, "bad": {"number": 3, "text": "three.txt"}}, out,
                  resources=Resources(workers=1, progress=False))
    assert list(again["status"]) == ["ok", "ok"] and (tmp_path / "three.txt").read_text() == "30"
    assert (out / "good.ipynb").stat().st_mtime_ns == before, "a run that had ended well was made again"
    assert not (out / "bad.failed.ipynb").exists()


def test_through_a_dask_scheduler_too_what_failed_and_what_did_not_are_kept(notebook, tmp_path, capsys):
    """A scheduler and a worker in processes of their own, which have been started somewhere else."""
    (tmp_path / "runs.yml").write_text("good: {number: 4, text: made.txt}\nbad: {number: 2}\n")
    (tmp_path / "elsewhere").mkdir()
    hosts, out = Hosts(tmp_path / "elsewhere"), tmp_path / "out"
    try:
        hosts.host(environment={"HOST": "another"})
        code = main(["sweep", "notebook.py", "--parameters", "runs.yml", "--out", "out",
                     "--scheduler", hosts.address])
        said = capsys.readouterr()
    finally:
        for process in hosts.running:
            hosts.kill(process)
    failed = out / "bad.failed.ipynb"
    told = f"chapter bad: a cell failed with AssertionError: two is not allowed; as far as it ran: {failed}"
    assert code == 1 and said.out.splitlines() == ["1 ok, 1 failed", "out/sweep.csv"]
    assert [line for line in said.err.splitlines() if line.startswith("failed")] == [f"failed: bad: {told}"]
    assert {path.name for path in out.iterdir()} == {"good.ipynb", "good.json", "bad.failed.ipynb", "sweep.csv"}
    assert (tmp_path / "made.txt").read_text() == "40" and "two is not allowed" in failed.read_text()
    assert printed(out / "good.ipynb") == "wrote 40 on another\n"
    table = pandas.read_csv(out / "sweep.csv", keep_default_na=False).set_index("run")
    assert table["status"].to_dict() == {"good": "ok", "bad": "failed"} and table.loc["bad", "error"] == told


def test_a_grid_is_every_combination():
    runs = _named({"grid": {"seed": [0, 1], "features": ["aus", "mfcc"], "work": "w"}})
    assert list(runs.values()) == [
        {"seed": seed, "features": features, "work": "w"} for seed in (0, 1) for features in ("aus", "mfcc")
    ]
    assert list(runs)[3] == "seed-1-features-mfcc-work-w"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {count: 3}", "run a: notebook.py has no parameter count; it has number, text"),
        ("- 3", "give names of runs"),
        ("a: 3", "give names of runs"),
        ("", "give names of runs"),
        ("../a: {number: 1}", "no notebook can be named after it"),
        ("a: [", "is not YAML"),
        ("grid: {number: []}", "grid: number has no values; give one or more"),
        ("grid: {number: [1, 1]}", "two runs are called number-1; give each"),
        ("a: {number: 1}\na: {number: 3}", "runs.yml: a appears twice; give each a name of its own"),
        ("a: {number: 1, number: 3}", "runs.yml: number appears twice"),
        ("1: {number: 1}\n'01': {number: 1}\n'1': {number: 3}", "1 appears twice"),
    ],
)
def test_what_cannot_be_swept_is_one_line_and_nothing_is_written(notebook, tmp_path, text, said):
    (tmp_path / "runs.yml").write_text(text)
    with pytest.raises(InputError, match=said) as error:
        sweep("notebook.py", "runs.yml", "out", resources=Resources(progress=False))
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_notebooks_and_parameters_that_are_not_there(notebook, tmp_path):
    (tmp_path / "broken.ipynb").write_text("no notebook")
    for path, runs, said in (("nowhere.py", {"a": {}}, "no such notebook"),
                             ("notebook.py", "nowhere.yml", "no such file"),
                             ("broken.ipynb", {"a": {}}, "is not a notebook")):
        with pytest.raises(InputError, match=said):
            sweep(path, runs, "out", resources=Resources(progress=False))


def test_two_names_that_one_file_would_have_are_refused():
    with pytest.raises(InputError, match="two runs are called 1; give each a name"):
        _named({1: {}, "1": {}})


@pytest.mark.parametrize(
    ("cell", "said"),
    [("number = int(3)", "the cell tagged parameters has 'number = int(3)', which is not a literal"),
     ("number: int = int(3)", "has 'number: int = int(3)', which is not a literal"),
     ("number = (", "the cell tagged parameters is not Python"),
     ("text = 'none'", "has no parameter number; it has text"),
     ("number: int", "has no parameter number; it has none")],
)
def test_a_cell_of_parameters_that_cannot_be_read_is_one_line(notebook, tmp_path, cell, said):
    notebook.write_text(NOTEBOOK.replace('number = 1\ntext = "none"', cell))
    with pytest.raises(InputError) as error:
        sweep("notebook.py", {"a": {"number": 4}}, "out", resources=Resources(progress=False))
    assert said in str(error.value) and "notebook.py" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_parameter_with_its_type_is_one(notebook):
    notebook.write_text(NOTEBOOK.replace("number = 1", "number: int = 1").replace("text =", "text = again ="))
    assert declared(_read(notebook)) == {"number": 1, "text": "none", "again": "none"}
