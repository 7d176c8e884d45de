"""The rehearsal: parts as tables with what they took, and kept results that can be made again."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from emibook import InputError, cli, rehearsal
from emibook.agreement import LEVELS, attainable
from emibook.recovery import MENDED, NARROW, SIZES, Case, cases, score
from emibook.rehearsal import PARTS, Part, rehearse

KEPT = Path(__file__).parents[1] / "book" / "results"


IDENTITY = ["features", "patterns", "attainable", "train_clips", "width", "inputs", "variant", "seed", "drawn"]


def identity(case: Case) -> tuple:
    simulation = case.plan(SIZES["reduced"])
    width = sum(each.width for each in simulation.chosen(case.features))
    return (case.features, case.patterns, case.level, case.train_clips, width, case.inputs, case.variant.name,
            case.seed, case.drawn)  # fmt: skip


def kept(part: str) -> pandas.DataFrame:
    return pandas.read_csv(KEPT / f"rehearsal_{part}.csv")


def test_a_part_is_a_table_and_a_note_of_what_it_took(tmp_path, monkeypatch):
    calls = []

    def make(size, out, progress):
        calls.append(size.name)
        return pandas.DataFrame({"x": [1 / 3]})

    monkeypatch.setitem(PARTS, "widths", Part("widths", "a test", make))
    assert cli.main(["rehearse", "--out", str(tmp_path), "--size", "tiny", "--parts", "widths"]) == 0
    assert calls == ["tiny"]
    assert (tmp_path / "rehearsal_widths.csv").read_text() == "x\n0.333333\n"
    noted = json.loads((tmp_path / "rehearsal.json").read_text())["widths"]
    assert noted["size"]["name"] == "tiny" and "--parts widths" in noted["command"] and "torch" in noted["versions"]
    rehearse(tmp_path, size="tiny", parts=["widths"])
    assert set(json.loads((tmp_path / "rehearsal.json").read_text())) == {"widths"}


def test_what_there_is_not_is_refused(tmp_path):
    with pytest.raises(InputError, match="no part 'everything'"):
        rehearse(tmp_path, parts=["everything"])
    with pytest.raises(InputError, match="no size 'huge'"):
        rehearse(tmp_path, size="huge")
    assert not list(tmp_path.iterdir())


def test_what_is_kept_is_what_the_code_would_make():
    noted = json.loads((KEPT / rehearsal.SETTINGS).read_text())
    assert set(noted) == set(PARTS)
    for name, about in noted.items():
        assert about["size"]["name"] == "reduced" and len(kept(name)), name
    found = kept("recovery")
    assert [tuple(row) for row in found[IDENTITY].itertuples(index=False)] == [
        identity(case) for case in cases(SIZES["reduced"])
    ]
    assert (found["reached"] < found["best"] + 0.02).all()
    in_means = found[found["patterns"] == "mean"]
    assert np.allclose(in_means["bound_low"], in_means["attainable"])
    assert not noted["recovery"]["machine"].startswith(("x86", "aarch")), "the processor's name, not its kind"


def test_the_mended_recipe_reaches_nineteen_twentieths_and_is_not_below_ridge():
    found = kept("recovery")
    strong = found[(found["attainable"] == 0.6) & (found["train_clips"] == 8072) & (found["patterns"] == "mean")]
    mended = strong[strong["variant"] == MENDED.name]
    assert set(mended["features"]) == {"wav2vec2", "resnet18+aus"} and set(mended["drawn"]) == {0, 1}
    assert (mended["reached"] / mended["best"] >= 0.95).all()
    assert (mended["over_ridge_high"] > 0).all()


def test_on_mixed_signals_the_rate_helps_and_fewer_idle_features_or_more_clips_help_further():
    found = kept("recovery")
    mixed = found[(found["patterns"] == "mixed")]
    usual = mixed[(mixed["train_clips"] == 8072) & (mixed["width"] == 64)].sort_values("share")
    assert usual["variant"].iloc[0] == "base" and usual["variant"].iloc[-1] == NARROW.name
    narrow = usual.iloc[-1]
    assert (usual["over_ridge_low"] > 0).all() and narrow["over_ridge_low"] > usual["over_ridge_high"].iloc[0]
    others = mixed[(mixed["variant"] == NARROW.name) & ((mixed["width"] < 64) | (mixed["train_clips"] > 8072))]
    assert len(others) == 2 and (others["share"] > narrow["share"] + 0.02).all()


def test_a_kept_table_can_be_made_again():
    made, before = attainable(0.08, clips=15_000), kept("table3")
    before = before[(before["calibration"] == "attainable") & (before["crossing"] == 0.08)]
    assert list(made["features"]) == list(before["features"])
    for column in ("visual", "sound", "fused", "r12"):
        assert list(made[column]) == pytest.approx(list(before[column]), abs=0.025)
    assert list(made["paper"]) == list(before["paper"]) and set(LEVELS) > {"vit", "wav2vec2"}


@pytest.mark.parametrize(("features", "patterns", "variant"), [
    ("wav2vec2", "mean", MENDED), ("resnet18+aus", "mean", MENDED), ("wav2vec2", "mixed", NARROW),
])  # fmt: skip
def test_a_reduced_rehearsal_comes_out_as_the_one_that_was_kept(features, patterns, variant, tmp_path):
    """``emibook rehearse --out FOLDER --size tiny --parts recovery`` made what is compared; sums differ by machine."""
    size = SIZES["tiny"]
    every = cases(size)
    place = next(place for place, case in enumerate(every)
                 if (case.features, case.patterns, case.variant) == (features, patterns, variant))  # fmt: skip
    made, before = score(every[place], size, tmp_path, progress=False), kept("tiny").iloc[place]
    assert len(every) == len(kept("tiny")) and {name: before[name] for name in IDENTITY} == {
        name: made[name] for name in IDENTITY
    }
    for column in ("reached", "fresh", "honest"):
        assert made[column] == pytest.approx(before[column], abs=0.03), column
    for column in ("best", "ridge", "bound_low", "bound_high", "best Joy"):
        assert made[column] == pytest.approx(before[column], abs=2e-3), column
