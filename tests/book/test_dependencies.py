"""What a chapter depends on: the functions it uses, through imports of every kind, and nothing beside them."""

import ast
from pathlib import Path

import pytest

from emibook.book import dependencies, notebooks

PACKAGE = Path(notebooks.__file__).parent
FILES = {
    "__init__": "def __getattr__(name):\n    from emibook.parts import late\n    return late",
    "metrics": "SCALE = 2\n\ndef pearson():\n    return SCALE\n\ndef other():\n    return 1",
    "fusion": "from emibook import metrics\n\ndef fused():\n    return metrics.pearson()\n\ndef plain():\n    return 1",
    "late": "def fused():\n    from emibook.metrics import other\n    return other()",
    "parts/__init__": "from emibook.parts.inner import kept as renamed\n\nlate = 1",
    "parts/inner": "import numpy as np\n\ndef kept():\n    return np.ones(Base.size)\n\nclass Base:\n    size = 3",
    "parts/lazy": "def only_here():\n    return 1",
    "registry": "from importlib import import_module\n\n"
                "def load(name):\n    return import_module(f'emibook.parts.{name}')",
    "whole": "from emibook import metrics\n\ndef hand_on(use):\n    return use(metrics)",
    "runs": "from emibook.metrics import SCALE\n\nTABLE = {}\nfor each in range(SCALE):\n    TABLE[each] = each",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return tmp_path


def names(folder: Path, text: str) -> set[str]:
    """Used parts of the library, without the package's name and the chapter's own."""
    used = dependencies.Library(folder).used(text)
    return {f"{module.removeprefix('emibook').lstrip('.')}:{name}" for module, name in used
            if module.startswith("emibook")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import numpy", set()),
        ("from emibook.metrics import pearson", set()),  # imported and not used
        ("from emibook.metrics import pearson\npearson()", {"metrics:pearson", "metrics:SCALE"}),
        ("from emibook import fusion\nfusion.fused()", {"fusion:fused", "metrics:pearson", "metrics:SCALE"}),
        ("from emibook import fusion\nfusion.plain()", {"fusion:plain"}),
        ("import emibook.fusion as f\nx = [f.plain() for _ in 'ab']", {"fusion:plain"}),
        ("from emibook import late\nlate.fused()", {"late:fused", "metrics:other"}),
        ("from emibook.parts import renamed\nrenamed()", {"parts.inner:kept", "parts.inner:Base"}),
        ("import emibook\nemibook.only_here()", {"parts.lazy:only_here", ":__getattr__", "parts:late"}),
        ("from emibook import whole\nwhole.hand_on(print)",
         {"whole:hand_on", "metrics:*", "metrics:SCALE", "metrics:pearson", "metrics:other"}),
        ("from emibook.runs import TABLE\nTABLE[0]", {"runs:TABLE", "runs:", "metrics:SCALE"}),
    ],
)
def test_what_is_used(folder, text, expected):
    assert names(folder, text) == expected


def test_a_module_that_is_named_in_a_text_counts_whole(folder):
    found = names(folder, "from emibook.registry import load\nload('inner')")
    assert {"registry:load", "parts:*", "parts.inner:kept", "parts.lazy:only_here"} <= found
    assert not any(name.startswith(("metrics", "fusion")) for name in found)


def test_a_changed_function_changes_the_chapters_that_use_it_and_only_those(folder, tmp_path):
    uses, does_not = tmp_path / "10_uses.ipy", tmp_path / "11_not.ipy"
    uses.write_text("from emibook import fusion\nfusion.fused()")
    does_not.write_text("from emibook import fusion\nfusion.plain()")

    def prints(**parameters):
        library = dependencies.Library(folder)
        return [notebooks.fingerprint(path, parameters, library) for path in (uses, does_not)]

    before = prints()
    (folder / "metrics.py").write_text(FILES["metrics"].replace("return 1", "return 2"))
    assert prints() == before, "nobody uses other()"
    (folder / "metrics.py").write_text(FILES["metrics"].replace("SCALE = 2", "SCALE = 3"))
    after = prints()
    assert after[0] != before[0] and after[1] == before[1]
    (folder / "fusion.py").write_text(FILES["fusion"].replace("def plain", "# a word\n@staticmethod\ndef plain"))
    assert prints()[0] == after[0] and prints()[1] != after[1], "a decorator belongs to its function"
    assert prints(seed=1) != prints(seed=2)
    uses.write_text(uses.read_text() + "\n# a word")
    assert prints()[0] != after[0]


def test_words_about_code_count_only_where_they_are_shown(folder, tmp_path):
    uses, shows = tmp_path / "10_uses.ipy", tmp_path / "11_shows.ipy"
    uses.write_text("from emibook import fusion\nfusion.fused()")
    shows.write_text("from emibook.fusion import fused\nfrom emibook.book.page import listing\nlisting(fused)")

    def prints(text, name="fusion"):
        (folder / f"{name}.py").write_text(text)
        library = dependencies.Library(folder)
        return [notebooks.fingerprint(path, {}, library) for path in (uses, shows)]

    first = FILES["fusion"].replace("fused():", "fused():\n    \"\"\"Words.\"\"\"")
    before = prints(first)
    for changed in (first.replace("Words.", "Other words."),
                    first.replace("    return metrics", "    # why\n    return metrics")):
        after = prints(changed)
        assert after[0] == before[0] and after[1] != before[1]
    before = prints(first)
    assert prints(FILES["metrics"].replace("return SCALE", '"Words."\n    return SCALE'), "metrics") == before
    changed = prints(FILES["metrics"].replace("return SCALE", "return 2 * SCALE"), "metrics")
    assert changed[0] != before[0] and changed[1] != before[1]


def test_a_file_that_a_chapter_names_counts(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chapter, claims = tmp_path / "15_audit.ipy", tmp_path / "claims.yml"
    chapter.write_text("open('claims.yml')\n'no such file.yml'\n'seaborn'")
    library = dependencies.Library(folder)
    claims.write_text("one")
    before = notebooks.fingerprint(chapter, {}, library)
    claims.write_text("two")
    assert notebooks.fingerprint(chapter, {}, library) != before


def test_kept_results_that_a_chapter_reads_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "book/results"
    kept.mkdir(parents=True)
    for name in ("people.json", "people_fusion.csv", "rehearsal.json", "rehearsal_tiny.csv"):
        (kept / name).write_text("one")
    texts = ["open('book/results/people.json')", "kept = 'book/results'\n[kept + f'rehearsal_{n}.csv' for n in 'ab']"]
    expected = [["people.json", "people_fusion.csv"], ["rehearsal.json", "rehearsal_tiny.csv"]]
    assert [[path.name for path in notebooks._files_named(text)] for text in texts] == expected


def test_the_checks_of_a_chapters_exercises_count_and_no_others():
    library = dependencies.Library(PACKAGE)
    text = "import emibook\nemibook.check_exercise('13.1', 1)"
    used = library.used(text, [("emibook.book.exercises.late_fusion", dependencies.ALL)])
    modules = {module for module, _ in used}
    assert "emibook.book.exercises.late_fusion" in modules and "emibook.book.exercises.puppet" not in modules
    assert ("emibook.book.exercises", "check_exercise") in used


def test_nothing_of_the_library_is_lost():
    """Every name that a module takes from the library is found where it is defined."""
    library = dependencies.Library(PACKAGE)
    for module in library.modules.values():
        for name, dotted in module.imported.items():
            if dotted.startswith("emibook."):
                assert list(library._resolved(dotted, ())), f"{module.name}: {name}"
    used = library.used("from emibook.experiments import tables\ntables()")
    for name in ("emibook.models.tcn:TCN", "emibook.fusion:late_fusion", "emibook.preprocess.media:frames",
                 "emibook.features.visual:ResNet18", "emibook.metrics:pearson"):
        assert tuple(name.split(":")) in used, name
    assert not any(module == "emibook.book.build" for module, _ in used)


def test_a_source_is_what_is_written():
    module = dependencies.read_module("import x\n\n@x.y\ndef f():\n    return 1\n\nA = B = 2\nC, D = 1, 2", "m", False)
    assert module.source("f") == "@x.y\ndef f():\n    return 1"
    assert module.code("f") == module.source("f")
    only = dependencies.read_module('class A(Exception):\n    """Words."""  # more', "m", False)
    assert only.code("A") == "class A(Exception):\n    pass" and '"""Words."""' in only.source("A")
    assert {"f", "A", "B", "C", "D"} == set(module.defined) and ast.parse(module.source("C"))
