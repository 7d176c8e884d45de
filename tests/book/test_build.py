"""The book's machinery: conversion, parameters, staleness, pairing, and a real site of one page."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from emibook import InputError
from emibook.book import build, notebooks, page

nbformat = pytest.importorskip("nbformat")
PROJECT = Path(__file__).parents[2]

HEADER = """\
# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     cell_metadata_filter: tags,mystnb
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
"""

CHAPTER = HEADER + '''
# %% [markdown]
# # A line
#
# See {numref}`line-figure`.

# %% tags=["parameters"]
seed = 0
height = 2

# %%
import os

from myst_nb import glue

glue("top", height * 7, display=False)

# %% mystnb={"image": {"alt": "a rising line"}, "figure": {"caption": "It rises.", "name": "line-figure"}}
import matplotlib.pyplot as plt

plt.plot([0, height]);

# %% [markdown]
# Its top times seven is {glue:text}`top`, and $x^2$.
'''

FAILING = HEADER + """
# %% [markdown]
# # One that stops

# %% tags=["parameters"]
seed = 0

# %%
raise RuntimeError("no such luck")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty book with one chapter, and the current folder in it. The stages are another module's test."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks/01_line.py").write_text(CHAPTER)
    shutil.copy(PROJECT / "_config.yml", tmp_path)
    for folder in ("static", "extra"):
        shutil.copytree(PROJECT / "book" / folder, tmp_path / "book" / folder)
    (tmp_path / "book/references.bib").write_text("")
    (tmp_path / "book/intro.md").write_text("# Front\n\nRead [on](executed/01_line.ipynb).\n")
    (tmp_path / "book/_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n  - file: book/executed/01_line\n"
        "  - file: book/generated/api\n    sections:\n      - glob: book/generated/api/*\n"
    )
    (tmp_path / "emibook").mkdir()
    (tmp_path / "emibook/__init__.py").write_text('"""A library of nothing."""')
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "emibook")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runs(monkeypatch):
    """Counts which chapters are executed and how often the site is built, without doing either."""
    done = []
    monkeypatch.setattr(build, "execute", lambda notebook, target, parameters: _pretend(done, target))
    monkeypatch.setattr(build, "build_site", lambda: build.SITE)
    return done


def _pretend(done: list[str], target: Path) -> None:
    done.append(target.stem)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("{}")


@pytest.mark.slow
def test_the_site_from_one_chapter(project):
    site = build.book(parameters={"height": 3})
    page = (site / "book/executed/01_line.html").read_text()
    assert re.search(r"times seven is <span[^>]*>21</span>", page)  # the parameter went in, the number came out
    assert 'alt="a rising line"' in page
    assert "<span class=\"n\">seed</span>" not in page  # neither papermill's cell nor defaults that were not used
    assert not re.findall(r"""<(?:script|link|img)[^>]*(?:src|href)=["'](?:https?:)?//""", page)
    assert (site / "index.html").exists()
    reference = (site / "book/generated/api/emibook.html").read_text()  # Sphinx imports the library as it is installed
    assert 'id="emibook.InputError"' in reference and "_modules/emibook.html#InputError" in reference
    assert "book/generated/api/emibook.html#emibook.InputError" in (site / "genindex.html").read_text()
    assert "\x1b" not in build.LOG.read_text()
    executed = (build.EXECUTED / "01_line.ipynb").read_text()
    assert str(project) not in executed

    written = (site / "index.html").stat().st_mtime_ns
    build.book(parameters={"height": 3})
    assert (site / "index.html").stat().st_mtime_ns == written

    (build.EXECUTED / ".01_line.failed.ipynb").write_text((build.EXECUTED / "01_line.ipynb").read_text())
    Path("book/intro.md").write_text("# Front\n\nRead [on](executed/01_nowhere.ipynb).\n")
    for _ in range(2):  # and not only the first time: Sphinx does not repeat itself about pages it knows
        with pytest.raises(InputError, match="01_nowhere"):
            build.book(parameters={"height": 3})


@pytest.mark.slow
def test_a_cell_that_stops(project):
    Path("notebooks/02_stops.py").write_text(FAILING)
    with pytest.raises(InputError, match="02_stops.*RuntimeError: no such luck") as error:
        build.book(chapters=["02_stops"])
    assert "\n" not in str(error.value)
    assert not (build.EXECUTED / "02_stops.ipynb").exists()
    failed = build.EXECUTED / ".02_stops.failed.ipynb"
    assert "no such luck" in failed.read_text()
    Path("notebooks/02_stops.py").write_text(FAILING.replace("raise RuntimeError", "str"))
    Path("book/_toc.yml").write_text(Path("book/_toc.yml").read_text() + "  - file: book/executed/02_stops\n")
    site = build.book(chapters=["02_stops"])  # what failed before is no page, and in nobody's way
    assert not failed.exists() and "Not run in this build" in (site / "book/executed/01_line.html").read_text()


def test_cell_ids_depend_on_the_text_only(project):
    ids = [[cell.id for cell in notebooks.read_chapter(Path("notebooks/01_line.py")).cells] for _ in range(2)]
    assert ids[0] == ids[1] and len(set(ids[0])) == len(ids[0])


def test_only_what_changed_runs_again(project, runs, monkeypatch):
    Path("notebooks/02_other.py").write_text(FAILING)
    build.book()
    assert sorted(runs) == ["01_line", "02_other"]
    build.book()
    assert len(runs) == 2
    Path("notebooks/02_other.py").write_text(FAILING + "\n# one more word\n")
    build.book()
    assert runs[2:] == ["02_other"]
    build.book(parameters={"height": 5})  # only the first declares it
    assert runs[3:] == ["01_line"]
    (build.EXECUTED / "01_line.ipynb").unlink()
    build.book(parameters={"height": 5})
    assert runs[4:] == ["01_line"]


def test_what_changes_while_the_book_is_built_is_not_published(project, runs, monkeypatch):
    execute, kept = build.execute, Path("notebooks/01_line.py")

    def edited_meanwhile(*given):
        execute(*given)
        kept.write_text(CHAPTER + "\n# an afterthought\n")

    monkeypatch.setattr(build, "execute", edited_meanwhile)
    with pytest.raises(InputError, match="01_line.*changed while the book was built; run emibook book again"):
        build.book()
    monkeypatch.setattr(build, "execute", execute)
    build.book()
    assert runs == ["01_line", "01_line"]
    build.book()
    assert len(runs) == 2


def test_a_chapter_neither_chosen_nor_fresh_gets_a_page_that_says_so(project, runs):
    Path("notebooks/02_other.py").write_text(FAILING)
    build.book(chapters=["01_line"])
    assert runs == ["01_line"]
    page = nbformat.read(build.EXECUTED / "02_other.ipynb", as_version=4)
    assert page.cells[0].source.startswith("# One that stops") and "Not run in this build" in page.cells[0].source
    build.book()
    assert runs == ["01_line", "02_other"]


def test_a_chapter_about_the_others_runs_after_them_and_with_them(project, runs):
    about = FAILING.replace("seed = 0", "seed = 0\nchapters = {}")
    Path("notebooks/00_status.py").write_text(about)
    build.book()
    assert runs == ["01_line", "00_status"]
    build.book()
    assert len(runs) == 2
    Path("notebooks/01_line.py").write_text(CHAPTER + "\n# one more word\n")
    build.book()
    assert runs[2:] == ["01_line", "00_status"]
    given = json.loads((build.EXECUTED / "00_status.json").read_text())["parameters"]["chapters"]
    assert given == {"01_line": json.loads((build.EXECUTED / "01_line.json").read_text())["fingerprint"]}


def test_two_at_a_time_and_none_after_one_that_stops(monkeypatch):
    monkeypatch.setattr(build.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    together, most, done = 0, 0, []

    def run(name):
        nonlocal together, most
        together += 1
        most = max(most, together)
        time.sleep(0.05)
        together -= 1
        if name == "b":
            raise InputError("b stopped")
        done.append(name)

    build._in_parallel(run, ["a", "c", "d", "e"])
    assert most == 2 and sorted(done) == ["a", "c", "d", "e"]
    done.clear()
    with pytest.raises(InputError, match="b stopped"):
        build._in_parallel(run, ["a", "b", "c", "d", "e", "f", "g", "h"])
    assert len(done) <= 4
    monkeypatch.setattr(build.os, "sched_getaffinity", lambda process: {0}, raising=False)
    together = most = 0
    build._in_parallel(run, ["a", "c"])
    assert most == 1


@pytest.mark.slow
def test_a_number_that_no_chapter_made_fails_the_build(project):
    """And so does one that is not made any more."""
    Path("notebooks/01_line.py").write_text(CHAPTER.replace('glue("top", height * 7', 'glue("bottom", height * 7'))
    with pytest.raises(InputError, match="the site was not built: .*top"):
        build.book()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"profile": "bultin"}, "no profile bultin; there are builtin, open, paper"),
        ({"profile": "paper"}, "needs a root"),
        ({"profile": "open", "root": "nowhere"}, "no folder nowhere"),
        ({"chapters": ["07_lost"]}, "no chapter 07_lost .* 01_line"),
        ({"parameters": {"hight": 3}}, "no parameter hight"),
    ],
)
def test_bad_input_is_one_line(project, runs, arguments, words):
    with pytest.raises(InputError, match=words) as error:
        build.book(**arguments)
    assert "\n" not in str(error.value)
    assert not runs


def test_outside_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="notebooks/"):
        build.book()


def test_execute_refuses_a_parameter_that_is_not_declared(project):
    notebook = notebooks.read_chapter(Path("notebooks/01_line.py"))
    with pytest.raises(InputError, match="no parameter sede; it has seed, height"):
        notebooks.execute(notebook, Path("out.ipynb"), {"sede": 1})
    assert not list(Path().glob("*out*"))


def test_pairs(project):
    source, target = Path("notebooks/01_line.py"), Path("notebooks/01_line.ipynb")
    assert build.pair() == []
    notebook = nbformat.read(target, as_version=4)
    assert notebook.metadata.jupytext.formats == "ipynb,py:percent"
    assert notebook.metadata.kernelspec.name == "python3"
    figure = next(cell for cell in notebook.cells if "plt.plot" in cell.source)
    assert figure.metadata.mystnb.image.alt == "a rising line"

    source.write_text(CHAPTER.replace("height = 2", "height = 4"))
    assert build.pair() == []
    assert "height = 4" in target.read_text()

    edited = json.loads(target.read_text())
    edited["cells"][1]["source"] = ["seed = 7"]
    target.write_text(json.dumps(edited))
    source.write_text(CHAPTER)
    (line,) = build.pair()
    assert "01_line.ipynb was edited" in line and "seed = 7" in target.read_text()
    target.unlink()
    assert build.pair() == [] and "height = 2" in target.read_text()


def test_running_a_notebook_by_hand_is_no_edit(project):
    build.pair()
    target = Path("notebooks/01_line.ipynb")
    notebook = nbformat.read(target, as_version=4)
    notebook.cells[1].execution_count = 1
    nbformat.write(notebook, target)
    Path("notebooks/01_line.py").write_text(CHAPTER.replace("height = 2", "height = 4"))
    assert build.pair() == [] and "height = 4" in target.read_text()


def test_paths_mean_the_project_wherever_the_notebook_was_opened(project, monkeypatch):
    monkeypatch.chdir(project / "notebooks")
    assert page.project_path("work/x") == project / "work/x"
    assert page.project_path("/elsewhere") == Path("/elsewhere")


def test_the_timings(tmp_path):
    with build._timed(tmp_path, "one"):
        pass
    with pytest.raises(RuntimeError), build._timed(tmp_path, "two"):
        raise RuntimeError
    rows = [line.split(",") for line in (tmp_path / build.TIMINGS).read_text().splitlines()]
    assert rows[0] == ["stage", "seconds", "ended"]
    assert [(row[0], row[2]) for row in rows[1:]] == [("one", "ok"), ("two", "failed")]


def test_banner_says_what_the_clips_are(tmp_path):
    pandas = pytest.importorskip("pandas")
    from emibook.corpus import COLUMNS, Corpus

    table = pandas.DataFrame(
        [["00000", "train", "a", "", ""], ["00001", "valid", "b", "", ""]], columns=list(COLUMNS)
    )
    text = page.banner("builtin", Corpus("puppet", tmp_path, table, (), note="says <nothing> about people")).data
    assert "2 clips" in text and "1 train" in text and "builtin" in text
    assert "Says &lt;nothing&gt; about people." in text and "puppet, drawn by this book" in text
    text = page.banner("builtin", Corpus("simulated", Path(), table, ())).data
    assert "simulated numbers" in text and "puppet" not in text


def test_profiles_are_the_three_of_the_design():
    assert list(page.PROFILES) == ["builtin", "open", "paper"]
    assert [profile.clips is None for profile in page.PROFILES.values()] == [False, True, True]


def test_a_listing_is_the_source_as_it_stands():
    from emibook.book.page import listing
    from emibook.corpus import Corpus
    from emibook.metrics import mean_pearson

    shown = listing(mean_pearson).data
    assert shown.startswith("```python\ndef mean_pearson(") and shown.endswith("names=names)))\n```")
    assert listing(Corpus.partition).data.startswith("```python\ndef partition(self"), "a method stands at the margin"
