"""When a chapter runs again: after a change of code that it reaches by imports of any kind, and of files it names."""

import subprocess
import sys
from pathlib import Path

import pytest

import emibook
from emibook.book import notebooks
from emibook.book.dependencies import BY_CHAPTER, Library

PACKAGE = Path(emibook.__file__).parent
FILES = {
    "__init__": '__version__ = "1"\n_HOME = {\n    "fused": "fusion",\n}\n\n\ndef __getattr__(name):\n'
                "    from importlib import import_module\n\n"
                '    return getattr(import_module(f"emibook.{_HOME[name]}"), name)',
    "metrics": '"""Words."""\n\nSCALE = 2\n"""Words."""\n\n\n'
               'def pearson():\n    """Words."""\n    return SCALE  # words',
    "fusion": "from emibook import metrics\n\n\ndef fused():\n    # why\n    return metrics.pearson()",
    "inside": "def load():\n    from emibook.metrics import pearson\n    return pearson()",
    "plain": "def load():\n    return 1",
    "parts/__init__": "from importlib import import_module\n\n\ndef __getattr__(name):\n"
                      '    return getattr(import_module(f"{__name__}.{name}"), name)',
    "parts/inner": "def inner():\n    return 1",
    "registry/__init__": "from emibook.registry.table import load",
    "registry/table": 'import importlib\n\n\ndef load(name):\n'
                      '    return importlib.import_module(f"emibook.registry.{name}")',
    "tasks/__init__": "",
    "tasks/named": 'from importlib import import_module\n\nFITTED_BY = "emibook.metrics"\n\n\n'
             "def load():\n    return import_module(FITTED_BY)",
    "registry/encoder": "from emibook.metrics import pearson",
}
CHAPTERS = {
    "directly": "from emibook.metrics import pearson\npearson()",
    "through": "from emibook import fusion\nfusion.fused()",
    "inside": "import emibook.inside as other\nother.load()",
    "late": "import emibook\nemibook.fused()",
    "late_from": "from emibook import fused\nfused()",
    "registry": "from emibook import registry\nregistry.load('encoder')",
    "named": "from emibook.tasks.named import load\nload()",
    "other": "from emibook.plain import load\nimport emibook\nemibook.__version__",
    "parts": "from emibook.parts import inner\ninner()",
}
REACH_METRICS = {"directly", "through", "inside", "late", "late_from", "named", "registry"}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def changed_by(folder):
    """The chapters that run again after the text of a module is changed."""
    def fingerprints():
        library = Library(folder)
        return {path.stem: notebooks.fingerprint(path, {}, library) for path in folder.glob("*.ipy")}

    def changed(module, old, new):
        before, text = fingerprints(), (folder / f"{module}.py").read_text()
        assert old in text
        (folder / f"{module}.py").write_text(text.replace(old, new))
        after = fingerprints()
        return {name for name in after if after[name] != before[name]}

    for name, text in CHAPTERS.items():
        (folder / f"{name}.ipy").write_text(text)
    return changed


def test_a_changed_function_runs_the_chapters_again_that_reach_its_module_and_no_others(changed_by):
    assert changed_by("metrics", "return SCALE", "return 3 * SCALE") == REACH_METRICS
    assert changed_by("fusion", "def fused", "@print\ndef fused") == {"through", "late", "late_from"}
    assert changed_by("parts/inner", "return 1", "return 2") == {"parts"}
    assert changed_by("registry/encoder", "import pearson", "import pearson as p") == {"registry"}
    assert changed_by("__init__", '"1"', '"2"') == set(CHAPTERS)


def test_comments_and_docstrings_run_nothing_again(changed_by):
    assert not changed_by("metrics", "Words", "Other words")
    assert not changed_by("metrics", "# words", "# other words")
    assert not changed_by("fusion", "    # why\n", "")


def test_a_listed_function_counts_as_it_is_written(folder, changed_by):
    (folder / "lists.ipy").write_text("from emibook.fusion import fused\nfrom emibook.book.page import listing\n"
                                      "listing(fused)")
    assert changed_by("fusion", "# why", "# because") == {"lists"}
    assert not changed_by("metrics", "# words", "# other words")


def test_a_module_that_nobody_imports_runs_nothing_again(changed_by, folder):
    (folder / "alone.py").write_text("one = 1")
    assert not changed_by("alone", "1", "2")


def test_a_late_name_that_no_table_places_counts_as_anything(folder):
    everything = set(Library(folder).texts)
    assert set(Library(folder).used("import emibook\nemibook.unknown()")) == everything
    assert set(Library(folder).used("import emibook\nemibook.fused()")) == {"emibook", "emibook.fusion",
                                                                            "emibook.metrics"}


def test_the_chapter_itself_and_its_parameters_count(folder):
    path, library = folder / "a.ipy", Library(folder)
    path.write_text("1")
    first = notebooks.fingerprint(path, {"seed": 1}, library)
    assert notebooks.fingerprint(path, {"seed": 2}, library) != first
    path.write_text("1\n# a word")
    assert notebooks.fingerprint(path, {"seed": 1}, library) != first


def test_a_file_that_a_chapter_names_counts(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chapter, claims = tmp_path / "15_audit.ipy", tmp_path / "claims.yml"
    chapter.write_text("open('claims.yml')\n'no such file.yml'\n'seaborn'")
    library = Library(folder)
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
    used = Library(PACKAGE).used("import emibook\nemibook.check_exercise('13.1', 1)", [f"{BY_CHAPTER}.late_fusion"])
    assert f"{BY_CHAPTER}.late_fusion" in used and f"{BY_CHAPTER}.puppet" not in used
    assert BY_CHAPTER in used and "emibook.book.build" not in used


def test_every_module_that_an_import_loads_is_counted():
    """Python itself says what is loaded; what is loaded later, as the encoders, is counted besides."""
    text = "from emibook.experiments import paper_tables\nimport emibook.preprocess as stage\nstage.preprocess"
    program = f"{text}\nimport sys\nprint(*(name for name in sys.modules if name.split('.')[0] == 'emibook'))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    used = set(Library(PACKAGE).used(text))
    assert len(loaded) > 30 and not set(loaded) - used
    assert {"emibook.preprocess.media", "emibook.features.resnet18", "emibook.models.tcn"} <= used
