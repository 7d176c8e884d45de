"""The library's reference, its examples, and the notebooks to solve, with nothing of the solutions in them."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

from emibook import InputError, fusion
from emibook.book import docstrings, notebooks, pages

nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).parents[2]
SOURCES = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.py"))}
HEADER = """\
# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
"""
CHAPTER = HEADER + '''
# %% [markdown]
# # A product
#
# As {glue:text}`seven` shows {cite:p}`yu2024`.
# {numref}`product-picture` shows more.
#
# ```{figure} ../static/branches.svg
# :name: product-picture
# :alt: Two columns of boxes
#
# All of it.
# ```

# %% tags=["parameters"]
seed = 0

# %%
import emibook
import emibook.book.exercises
import types

right = types.SimpleNamespace(CHECKS={"90.1": lambda answer, of: "" if answer == of * 6 else "No.",
                                      "90.2": lambda answer: "" if answer == 1 else "No."})
emibook.book.exercises.checks = lambda chapter: right.CHECKS
of = 7
print("before the exercises")

# %% [markdown]
# ```{exercise-start} Six times
# :label: product-six
# ```
# How much is six times that? `emibook.check_exercise("90.1", product, of=of)`
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} product-six
# :class: dropdown
# ```
# Add it up six times.

# %%
product = sum([of] * 6)
emibook.check_exercise("90.1", product, of=of)

# %% [markdown]
# That was easy.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} One
# :label: product-one
# ```
# One? `emibook.check_exercise("90.2", one)`
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} product-one
# :class: dropdown
# ```
# Yes.

# %%
emibook.check_exercise("90.2", 1)

# %% [markdown]
# Indeed.
# ```{solution-end}
# ```

# %% [markdown]
# ## After
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/90_product.py").write_text(CHAPTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blank() -> object:
    return notebooks.without_solutions(notebooks.read_chapter(Path("notebooks/90_product.py")))


def test_a_notebook_without_solutions(project):
    notebook = blank()
    text = "\n".join(cell.source for cell in notebook.cells)
    for gone in ("Add it up", "sum([of]", "product = ", "That was easy", "Indeed", "{glue", "{cite", "```"):
        assert gone not in text
    assert "The figure shows more.\n\n![Two columns of boxes](../../book/static/branches.svg)\n\nAll of it." in text
    assert "### Exercise 1: Six times" in text and "### Exercise 2: One" in text and "## After" in text
    answers = [cell.source for cell in notebook.cells if cell.source.startswith("answer")]
    assert answers == ['answer = ...  # yours\nemibook.check_exercise("90.1", answer, of=of)',
                       'answer = ...  # yours\nemibook.check_exercise("90.2", answer)']
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == [cell.id for cell in blank().cells]


@pytest.mark.slow
def test_it_runs_as_far_as_the_first_exercise_without_an_answer(project):
    """And the chapter itself runs to its end."""
    notebooks.execute(notebooks.read_chapter(Path("notebooks/90_product.py")), Path("whole.ipynb"), {})
    with pytest.raises(InputError, match="Exercise 90.1 has no answer yet"):
        notebooks.execute(blank(), Path("blank.ipynb"), {})
    notebook = nbformat.read(".blank.failed.ipynb", as_version=4)
    assert "before the exercises" in str([cell.get("outputs") for cell in notebook.cells])
    solved = blank()
    for cell, answer in zip([cell for cell in solved.cells if "answer = ..." in cell.source], (42, 2), strict=True):
        cell.source = cell.source.replace("...", str(answer))
    with pytest.raises(InputError, match="Exercise 90.2, not yet: No."):
        notebooks.execute(solved, Path("solved.ipynb"), {})


def test_what_a_reader_wrote_is_never_overwritten(project):
    source, target = Path("notebooks/90_product.py"), Path("notebooks/exercises/90_product.ipynb")
    assert notebooks.pair([source]) == []
    target.write_text(target.read_text().replace("answer = ...", "answer = 42"))
    assert notebooks.pair([source]) == [] and "answer = 42" in target.read_text(), "being worked on is no news"
    source.write_text(CHAPTER.replace("How much is", "What is"))
    (line,) = notebooks.pair([source])
    assert "has answers" in line and "answer = 42" in target.read_text()
    target.unlink()
    assert notebooks.pair([source]) == [] and "What is" in target.read_text()


@pytest.mark.parametrize("name", SOURCES)
def test_no_solution_leaks_from_a_chapter(name):
    notebook = notebooks.read_chapter(SOURCES[name])
    solutions, inside = [], False
    for cell in notebook.cells:
        inside = inside or "{solution-start}" in cell.source
        if inside:
            solutions.append(cell)
        inside = inside and "{solution-end}" not in cell.source
    without = notebooks.without_solutions(notebook)
    text = "\n".join(cell.source for cell in without.cells)
    words = "\n".join(cell.source for cell in without.cells if cell.cell_type == "markdown")
    assert not re.search(r"\{[a-z:]+\}`|```\{|^:[a-z]+:", words, re.MULTILINE), "a directive or role of the site"
    for path in re.findall(r"\]\(\.\./\.\./(\S+)\)", words):
        assert (Path(__file__).parents[2] / path).is_file()
    for cell in solutions:
        assert cell.source not in text
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else []:
            assert len(line.split()) < 5 or line not in text, line
    made, wanted = set(), set()
    for cell in without.cells:
        if cell.cell_type == "code":
            nodes = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
            wanted |= {node.id for node in nodes if isinstance(node.ctx, ast.Load)}
            made |= {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    only_in_solutions = {node.id for cell in solutions if cell.cell_type == "code"
                         for node in ast.walk(ast.parse(cell.source))
                         if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)} - made
    assert not wanted & only_in_solutions, "the chapter goes on with what only a solution makes"


def test_the_page_that_hands_them_out(project):
    (project / "emibook").mkdir()
    for name in ("__init__", "metrics"):
        (project / f"emibook/{name}.py").write_text('"""What it is."""')
    pages.write_pages({"90_product": Path("notebooks/90_product.py")}, project / "emibook")
    page = (pages.GENERATED / "exercises.md").read_text()
    assert "[90. A product](../executed/90_product.ipynb) | 2 | {download}`90_product.ipynb <exercises/90" in page
    assert nbformat.read(pages.GENERATED / "exercises/90_product.ipynb", as_version=4).cells
    stamp = (pages.GENERATED / "api/metrics.rst").stat().st_mtime_ns
    (pages.GENERATED / "api/gone.rst").write_text("of a module that is no more")
    pages.write_pages({"90_product": Path("notebooks/90_product.py")}, project / "emibook")
    assert (pages.GENERATED / "api/metrics.rst").stat().st_mtime_ns == stamp
    assert not (pages.GENERATED / "api/gone.rst").exists()


def test_the_reference_names_every_module():
    generated = dict(pages.reference(ROOT / "emibook"))
    named = re.findall(r"automodule:: (\S+)\n", "".join(generated.values()))
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
               for path in (ROOT / "emibook").rglob("*.py")]
    assert sorted(named) == sorted(modules)
    for page in generated:
        assert page == "api.rst" or f"<{page.removesuffix('.rst')}>" in generated["api.rst"]


def test_a_layout_in_a_docstring_keeps_its_lines():
    lines = ["Words.", "", "    WORK/", "      a/   one", "    b", "", "More words:", "", "Args:", "    x: one,",
             "        two.", "", "Drawn::", "", "    t"]
    kept = docstrings.keep_lines(lines)
    assert kept == ["Words.", "", "::", "", *lines[2:]]


def test_a_name_in_a_docstring_becomes_a_link_unless_it_is_a_parameter():
    lines = ["``late_fusion`` and ``pearson``, ``predictions``, ``one_spread`` and ``np``."]
    docstrings.process(None, "module", "emibook.fusion", fusion, None, lines)
    assert lines[0].startswith(":py:obj:`late_fusion <emibook.fusion.late_fusion>` and :py:obj:`pearson <emibook.me")
    assert "``predictions``" in lines[0] and "``np``" in lines[0]

    def fused(pearson):
        """Not the metric."""

    lines = ["Steps: 1 + 2."]
    docstrings.process(None, "property", "emibook.fusion.late_fusion", fusion.late_fusion, None, lines)
    assert lines == ["", "Steps: 1 + 2."], "no type before the colon"
    lines = ["``pearson``"]
    docstrings.process(None, "function", "emibook.fusion.fused", fused, None, lines)
    assert lines == ["``pearson``"]


@pytest.mark.parametrize("path", [path for path in sorted((ROOT / "emibook").rglob("*.py")) if ">>>" in
                                  path.read_text()], ids=lambda path: path.stem)
def test_examples_in_docstrings_give_what_they_show(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed


@pytest.mark.parametrize("page", ["faults.md", "testing.md"])
def test_a_test_that_a_page_names_exists(page):
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "book" / page).read_text()))
    there = {node.name for path in (ROOT / "tests").rglob("test_*.py") for node in ast.parse(path.read_text()).body
             if isinstance(node, ast.FunctionDef)} | {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert named and not named - there
