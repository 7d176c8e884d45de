"""Rules that every chapter keeps: parameters, short cells, glued numbers, alt text, exercises, promises kept."""

import ast
import re
from pathlib import Path

import pytest

from emibook import figures
from emibook.book import build, notebooks

pytest.importorskip("jupytext")
ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
PAGES = sorted((ROOT / "book").glob("*.md"))
SMALLEST_TEXT = 8  # points
LONGEST_CELL = 15
WIDEST_LINE = 93  # characters that a page shows without scrolling
ALLOWED = ("The paper:", "By definition:")
"""A paragraph that opens with one of these may hold typed decimals: they are the paper's, or nobody's measurement."""


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def source(request):
    return request.param


@pytest.fixture
def notebook(source):
    return notebooks.read_chapter(source)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def typed_decimals(text: str) -> list[str]:
    """Numbers with a decimal point, and percentages, that somebody typed in prose."""
    found = []
    text = re.sub(r"```\{(?:math|figure|code)[^`]*```", "", text, flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", text):
        words = paragraph.strip().lstrip(">").strip()
        if words.startswith(ALLOWED):
            continue
        words = re.sub(r"\{[a-z:]+\}`[^`]*`", "", words)  # roles: glue, references
        words = re.sub(r"https?://\S+|\barXiv[: ]\d+\.\d+", "", words)
        words = re.sub(r'check_exercise\("[\d.]+"', "", words)  # the number of an exercise
        place = r"\d+(?:\.\d+)+"
        words = re.sub(rf"\b(?:[Ss]ections?|version)\s+{place}(?:(?:,| to| and)\s+{place})*|wav2vec\s+2\.0", "", words)
        found += re.findall(r"(?<![\w.])\d*\.\d+|\b\d+(?:\.\d+)? ?%", words)
    return found


def test_there_are_chapters():
    assert len(SOURCES) >= 2


def test_the_table_of_contents_names_every_chapter():
    listed = re.findall(r"file: book/executed/(\S+)", (ROOT / "book/_toc.yml").read_text())
    assert sorted(listed) == [path.stem for path in SOURCES]


def test_typed_decimals_are_found():
    assert typed_decimals("It reached 0.31, or 40 %.") == ["0.31", "40 %"]
    assert typed_decimals("above .5") == [".5"]
    assert not typed_decimals("It reached {glue:text}`r:.2f` in section 3.2.1, with wav2vec 2.0 and 16 clips.")
    assert typed_decimals("`check_exercise(\"13.1\", 0.5)`") == ["0.5"]
    assert not typed_decimals("> The paper: a rate of 0.5.") and typed_decimals("A rate of 0.5. The paper: 1.")


def test_the_first_code_cell_holds_the_parameters(notebook):
    first = code(notebook)[0]
    assert "parameters" in first.metadata.tags
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
    values = notebooks.declared(notebook)
    known = build._values("builtin", None, None, None)
    assert {"profile", "root", "work", "clips", "seed"} <= set(values) <= set(known)
    assert values == {name: known[name] for name in values}, "defaults are those of the profile builtin"


def test_cells_are_short_and_define_almost_nothing(notebook):
    defined = []
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= LONGEST_CELL, f"belongs in the library:\n{cell.source}"
        if "remove-cell" not in cell.metadata.get("tags", []):
            assert max(map(len, cell.source.splitlines())) <= WIDEST_LINE, cell.source
        nodes = ast.walk(ast.parse(cell.source))
        defined += [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(defined) <= 1
    words = sum(len(text.split()) for text in prose(notebook))
    assert words >= 4 * sum(len(cell.source.splitlines()) for cell in code(notebook))


def test_no_decimal_is_typed_in_prose(notebook):
    typed = [(number, text[:60]) for text in prose(notebook) for number in typed_decimals(text)]
    assert not typed


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_no_decimal_is_typed_on_a_page_that_is_no_notebook(page):
    assert not typed_decimals(page.read_text())


def small_text(code: str) -> list[str]:
    """Sizes of text, in points, that a piece of code sets below what can be read."""
    found = []
    for node in ast.walk(ast.parse(code)):
        pairs = []
        if isinstance(node, ast.Call):
            pairs = [(keyword.arg or "", keyword.value) for keyword in node.keywords]
        elif isinstance(node, ast.Dict):
            pairs = [(key.value, value) for key, value in zip(node.keys, node.values, strict=True)
                     if isinstance(key, ast.Constant) and isinstance(key.value, str)]
        for name, value in pairs:
            if re.search(r"(?:font|label|title|^)_?size$", name) and isinstance(value, ast.Constant):
                tiny = value.value in ("xx-small", "x-small") or \
                    isinstance(value.value, int | float) and value.value < SMALLEST_TEXT
                found += [f"{name}={value.value}"] * tiny
    return found


def test_no_text_in_a_figure_is_too_small(notebook):
    """Everything else has the style's sizes, which are larger."""
    assert figures.SMALLEST_TEXT >= SMALLEST_TEXT
    assert not [size for cell in code(notebook) for size in small_text(cell.source)]


def test_small_text_is_found():
    assert small_text("ax.set_title('x', fontsize=7); ax.tick_params(labelsize=6)") == ["fontsize=7", "labelsize=6"]
    assert small_text("plt.rcParams.update({'font.size': 8, 'legend.fontsize': 5})") == ["legend.fontsize=5"]
    assert small_text("ax.text(0, 0, 'x', size='x-small')") and not small_text("ax.plot(x, markersize=3, size=9)")
    assert not small_text((ROOT / "emibook/figures.py").read_text())


def test_every_glued_number_is_made_and_every_one_made_is_used(notebook):
    wanted = set(re.findall(r"\{glue:\w*\}`([\w-]+)", "\n".join(prose(notebook))))
    made = set()
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "glue":
                made.add(ast.literal_eval(node.args[0]))
    assert wanted == made


def test_every_figure_has_alt_text_and_a_caption(notebook):
    shown = 0
    for cell in code(notebook):
        draws = re.search(r"\b(plt|figures|ax|axes)\.\w+\(", cell.source) and "figures.use_style" not in cell.source
        options = cell.metadata.get("mystnb", {})
        if draws or options:
            shown += 1
            alt, caption = options["image"]["alt"], options["figure"]["caption"]
            assert len(alt.split()) >= 10, f"alt text says what is to be seen: {alt!r}"
            assert len(caption.split()) >= 5 and alt != caption
            assert not re.search(r"\d\.\d", alt + caption), "a number typed in a caption"
    for text in prose(notebook):
        for block in re.findall(r"```\{figure\}.*?```", text, re.DOTALL):
            shown += 1
            assert re.search(r":alt: (\S+ ){10}", block)
    assert shown >= 3


def test_every_clip_that_plays_is_described(notebook):
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "play":
                words = {each.targets[0].id: ast.unparse(each.value) for each in ast.parse(cell.source).body
                         if isinstance(each, ast.Assign)}
                assert len(words["alt"].split()) >= 8 and len(words["caption"].split()) >= 5
                assert {each.arg for each in node.keywords} == {"alt", "caption"}


def test_exercises_come_with_executed_folded_solutions(notebook):
    text = "\n".join(prose(notebook))
    exercises = re.findall(r"\{exercise-start\}.*\n:label: (\S+)", text)
    solutions = re.findall(r"\{solution-start\} (\S+)\n:class: dropdown", text)
    assert len(exercises) >= 2 and exercises == solutions
    inside = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and "{solution-start}" in cell.source:
            inside, lines = True, 0
        elif cell.cell_type == "markdown" and "{solution-end}" in cell.source:
            assert inside and lines, "a solution that runs nothing"
            inside = False
        elif cell.cell_type == "code" and inside:
            lines += len(cell.source.splitlines())


def test_what_is_promised_is_answered(notebook):
    text = "\n".join(prose(notebook))
    bullets = r"^You {}:?\n\n?((?:- .*\n(?:  .*\n)*)+)"
    promised, kept = (re.search(bullets.format(word), text + "\n", re.MULTILINE) for word in ("will", "have"))
    assert promised and kept
    assert promised.group(1).count("\n- ") == kept.group(1).count("\n- ") >= 2


def test_the_parts_of_a_chapter(notebook):
    texts = prose(notebook)
    assert texts[0].startswith("# ") and "\n## Sources" in "\n" + "\n".join(texts)
    assert any(text.count("\n> ") or text.startswith("> ") for text in texts), "the paper's sentence"
    assert "banner(profile, corpus)" in "\n".join(cell.source for cell in code(notebook))


def test_no_result_of_the_paper_stands_on_a_page(source):
    """Levels from the paper's tables are about other faces and voices than those on the page."""
    from emibook.experiments.paper_rows import TABLE2, TABLE3

    text = source.read_text()
    for row in (*TABLE2, *TABLE3):
        assert f"{row.paper:.4f}".lstrip("0") not in text
