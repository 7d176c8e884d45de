"""Table 3 from Table 2: branches that have the paper's correlations, and the score of their average."""

import numpy as np
import pytest

from emibook.audit import fusion_bounds
from emibook.metrics import mean_pearson
from emibook.studies.simulation.calibration import LEVELS, calibrate, fit_ridge
from emibook.studies.simulation.sizes import Size
from emibook.studies.table3_from_table2 import Table3Study, attainable, attained, trained
from emibook.training.loop import Recipe, load_model


def test_the_best_branches_have_table_2s_correlations_and_average_as_the_formula_says():
    found = attainable(0.0, clips=15_000).set_index("features")
    for row in found.itertuples():
        assert (row.visual, row.sound) == pytest.approx((row._8, row._9), abs=0.012)
        formula = fusion_bounds.calibrated(row.visual, row.sound, row.r12)
        assert row.fused == pytest.approx(formula, abs=0.01)
        assert max(row.visual, row.sound) < row.fused < row._7 + 1e-6
        assert abs(row.r12) < 0.12
    crossing = attainable(0.08, clips=15_000).set_index("features")
    assert (crossing["fused"] > found["fused"]).all()


def test_attained_branches_have_table_2s_correlations_on_the_clips_that_are_scored():
    found = attained(0.05, Size("test", (1500, 1000, 0), 4, 0.5, 8))
    assert list(found["visual"]) == pytest.approx([LEVELS[name] for name in LEVELS if name != "wav2vec2"], abs=0.015)
    assert list(found["sound"]) == pytest.approx([0.2808] * 4, abs=0.01)
    assert (found["low"] < found["fused"]).all() and (found["fused"] < found["high"]).all()
    assert np.isfinite(found.select_dtypes(float)).all().all()


def test_trained_branches_are_the_papers_and_are_trained_once(tmp_path):
    size, recipe = Size("test", (300, 200, 0), 4, 0.5, 8), Recipe("t", learning_rate=1e-3,
                                                                  batch=32, epochs=1, threads=1)
    study = Table3Study(averages=size, recipe=recipe, trained_rounds=1)
    found = trained(tmp_path, 0.05, study, progress=False)
    assert (found["calibration"] == "trained").all() and np.isfinite(found.select_dtypes(float)).all().all()
    folders = {path.parent.name.rsplit("-", 1)[0]: path.parent for path in tmp_path.rglob("weights.safetensors")}
    assert set(folders) == set(LEVELS)
    layers = {name: load_model(folder).config["transformer_layers"] for name, folder in folders.items()}
    assert layers == {name: 0 if name == "wav2vec2" else 2 for name in LEVELS}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("weights.safetensors")}
    assert trained(tmp_path, 0.05, study, progress=False).equals(found)
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_levels_are_raised_until_table_2_is_reached():
    levels, branches, valid = calibrate(fit_ridge, 0.05, Size("test", (1500, 1000, 0), 4, 0.5, 8))
    assert set(levels) == set(branches) == set(LEVELS)
    assert levels["wav2vec2"] > LEVELS["wav2vec2"] and levels["resnet18+aus"] > max(levels["resnet18"], levels["aus"])
    for name, branch in branches.items():
        assert mean_pearson(valid.targets, branch) == pytest.approx(LEVELS[name], abs=0.015)
