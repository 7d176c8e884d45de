"""The rehearsal: parts as tables with their settings, and kept results that can be reproduced."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas
import pytest

from emibook import InputError, cli
from emibook.experiments.recipes import IMPROVED
from emibook.studies import rehearsal
from emibook.studies.recipe_recovery import TEN_TIMES, Condition, conditions, score
from emibook.studies.rehearsal import PARTS, Part, rehearse
from emibook.studies.simulation.calibration import LEVELS
from emibook.studies.simulation.sizes import SIZES, Size
from emibook.studies.specification_curve import RECIPE
from emibook.studies.table3_from_table2 import attainable
from emibook.studies.uncertainty import differences
from emibook.training.loop import Recipe

KEPT = Path(__file__).parents[2] / "book" / "results"
IDENTITY = ["features", "patterns", "attainable", "train_clips", "variant", "changes", "seed", "replication"]


def identity(condition: Condition) -> tuple:
    return (condition.features, condition.patterns, condition.level, condition.train_clips, condition.variant.name,
            condition.changes, condition.seed, condition.replication)


def kept(part: str) -> pandas.DataFrame:
    return pandas.read_csv(KEPT / f"rehearsal_{part}.csv")


@dataclass(frozen=True)
class Study:
    clips: tuple[int, int, int] = (9, 9, 9)
    repeats: int = 60
    recipe: Recipe = RECIPE


@dataclass(frozen=True)
class SizedStudy:
    size: Size
    train_clips: int = 2000


def test_a_part_is_a_table_and_a_record_of_its_settings(tmp_path, monkeypatch, capsys):
    calls = []

    def make(out, study, progress):
        calls.append(study)
        return pandas.DataFrame({"x": [1 / 3]})

    monkeypatch.setitem(PARTS, "widths", Part("widths", "a test", make, Study(), {"repeats": 6}, {"draws": 4}))
    assert cli.main(["rehearse", "--out", str(tmp_path), "--size", "tiny", "--parts", "widths"]) == 0
    assert calls == [Study(repeats=6)]
    assert (tmp_path / "rehearsal_widths.csv").read_text() == "x\n0.333333\n"
    recorded = json.loads((tmp_path / "rehearsal.json").read_text())["widths"]
    assert "--parts widths" in recorded["command"] and "torch" in recorded["versions"]
    recipe = {"name": "curve", "learning_rate": 6e-4, "batch": 8, "epochs": 6, "threads": 1}  # no default options
    assert recorded["size"] == {"name": "tiny", "depends": "only on whether it is tiny", "clips": [9, 9, 9],
                                "repeats": 6, "recipe": recipe, "draws": 4}  # fmt: skip
    assert "widths: 1 rows in" in capsys.readouterr().err
    rehearse(tmp_path, size="tiny", parts=["widths"])
    assert set(json.loads((tmp_path / "rehearsal.json").read_text())) == {"widths"}


def test_a_part_that_depends_on_the_size_gets_and_records_it(tmp_path, monkeypatch):
    calls = []
    part = Part("optimism", "a test", lambda out, study, progress: calls.append(study) or pandas.DataFrame(),
                SizedStudy(SIZES["reduced"]), {"train_clips": 20})  # fmt: skip
    monkeypatch.setitem(PARTS, "optimism", part)
    for name, clips in (("tiny", 20), ("full", 2000)):
        rehearse(tmp_path, size=name, parts=["optimism"], progress=False)
        assert calls.pop() == SizedStudy(SIZES[name], clips)
        recorded = json.loads((tmp_path / "rehearsal.json").read_text())["optimism"]["size"]
        assert recorded == {**json.loads(json.dumps(asdict(SIZES[name]))), "train_clips": clips}


@pytest.mark.slow
def test_every_part_can_be_tried_at_the_tiny_size(tmp_path, monkeypatch):
    """All that ``--size tiny`` makes but the trainings of the recipes and variants, which other tests make."""
    monkeypatch.setattr("emibook.studies.recipe_recovery.conditions", lambda size: [])
    monkeypatch.setattr("emibook.studies.recipe_recovery.table", lambda *_, **__: pandas.DataFrame({"none": []}))
    monkeypatch.setattr("emibook.studies.crop_comparison.compare", lambda *_, **__: kept("crops"))
    runs = {}
    monkeypatch.setattr("emibook.studies.specification_curve._runs", lambda *_: runs)
    assert cli.main(["rehearse", "--out", str(tmp_path), "--size", "tiny"]) == 0
    made = {name: pandas.read_csv(tmp_path / f"rehearsal_{name}.csv") for name in PARTS if name != "recovery"}
    for name, table in made.items():
        assert set(table.columns) == set(kept(name).columns), name
    assert len(made["choices"]) < len(kept("choices")) and made["widths"]["between_person_sd"].nunique() == 2
    for name, about in json.loads((tmp_path / "rehearsal.json").read_text()).items():
        assert about["size"]["name"] == "tiny", name
        assert PARTS[name].tiny.keys() <= about["size"].keys()
        assert about["size"] != PARTS[name].settings(SIZES["reduced"])


def test_tables_of_another_size_in_the_same_folder_are_of_another_simulation(tmp_path, monkeypatch):
    simulated = []
    monkeypatch.setattr(rehearsal, "simulate", lambda root, work, plan, **_: simulated.append((root, work, plan.size)))
    monkeypatch.setattr(rehearsal, "open_corpus", lambda root: root)
    monkeypatch.setattr(rehearsal.paper_tables, "tables", lambda *_, **__: [pandas.DataFrame({"x": [1]})] * 2)
    for size in ("tiny", "reduced"):
        assert list(rehearse(tmp_path, size=size, parts=["tables"], progress=False)["tables"]["table"]) == [2, 3]
    (root, work, size), (other_root, other_work, other_size) = simulated
    assert len({root, work, other_root, other_work}) == 4 and size.clips != other_size.clips


def test_what_there_is_not_is_refused(tmp_path):
    with pytest.raises(InputError, match="no part 'everything'"):
        rehearse(tmp_path, parts=["everything"])
    with pytest.raises(InputError, match="no size 'huge'"):
        rehearse(tmp_path, size="huge")
    assert not list(tmp_path.iterdir())


def test_the_kept_results_are_of_the_settings_of_this_code():
    recorded = json.loads((KEPT / rehearsal.SETTINGS).read_text())
    assert set(recorded) == set(PARTS)
    for name, about in recorded.items():
        assert about["size"] == PARTS[name].settings(SIZES["reduced"]) and len(kept(name)), name
    found, planned = kept("recovery"), conditions(SIZES["reduced"])
    found["changes"] = found["changes"].fillna("")
    assert [tuple(row) for row in found[IDENTITY].itertuples(index=False)] == list(map(identity, planned))
    for row, condition in zip(found.itertuples(), planned, strict=True):
        recipe = replace(condition.recipe, **condition.variant.recipe)
        assert (row.learning_rate, row.batch, row.epochs) == (recipe.learning_rate, recipe.batch, recipe.epochs)
        sets = condition.plan(SIZES["reduced"]).chosen(condition.joined)
        assert row.width == sum(planted.width for planted in sets)


def test_a_kept_table_is_reproduced_with_fewer_clips():
    made, before = attainable(0.08, clips=15_000), kept("table3")
    before = before[(before["calibration"] == "attainable") & (before["crossing"] == 0.08)]
    assert list(made["features"]) == list(before["features"])
    for column in ("visual", "sound", "fused", "r12"):
        assert list(made[column]) == pytest.approx(list(before[column]), abs=0.025)
    assert list(made["paper"]) == list(before["paper"]) and set(LEVELS) > {"vit", "wav2vec2"}


def test_kept_differences_are_reproduced_with_fewer_replications():
    """With a fifth of them a standard deviation is known to a fifth of itself, and rows share replications."""
    settings = json.loads((KEPT / rehearsal.SETTINGS).read_text())["differences"]["size"]
    given = {name: settings[name] for name in ("crossing", "between_person_sd")}
    made = differences(**given, clips=tuple(settings["clips"]), repeats=settings["repeats"] // 5)
    before = kept("differences")
    for column in ("features", "compared_with"):
        assert list(made[column]) == list(before[column])
    assert list(made["difference"]) == pytest.approx(list(before["difference"]), abs=1e-6)
    assert 0.7 < (made["margin"] / before["margin"]).median() < 1.4


@pytest.mark.parametrize(("features", "patterns", "variant"), [
    ("wav2vec2", "mean", TEN_TIMES), ("resnet18+aus", "mean", TEN_TIMES), ("wav2vec2", "mixed", IMPROVED),
])  # fmt: skip
def test_a_kept_training_is_reproduced_at_the_tiny_size(features, patterns, variant, tmp_path):
    """``emibook rehearse --out FOLDER --size tiny --parts recovery`` made the kept rows.

    Trainings are compared with a wide tolerance: rounding and native precision differ between processors, and a
    training amplifies them. Features and predictors without a training differ by rounding to float16 alone. The kept
    ridge regressions chose their penalty by correlation and not by squared error.
    """
    size = SIZES["tiny"]
    planned = conditions(size)
    index = next(index for index, condition in enumerate(planned)
                 if (condition.features, condition.patterns, condition.variant) == (features, patterns, variant))
    made, before = score(planned[index], size, tmp_path, progress=False), kept("tiny").iloc[index]
    assert len(planned) == len(kept("tiny")) and tuple(before[IDENTITY]) == identity(planned[index])
    for column in ("reached", "test", "cross_fitted"):
        assert made[column] == pytest.approx(before[column], abs=0.03), column
    assert made["ridge"] == pytest.approx(before["ridge"], abs=0.01)
    for column in ("best", "bound_low", "bound_high", "best Joy"):
        assert made[column] == pytest.approx(before[column], abs=2e-3), column
