"""Table 3 from Table 2: branches that have the paper's correlations, and what their average scores."""

import numpy as np
import pytest

from emibook import bounds
from emibook.agreement import LEVELS, attainable, attained
from emibook.recovery import Size


def test_the_best_branches_have_table_2s_correlations_and_average_as_the_formula_says():
    found = attainable(0.0, clips=15_000).set_index("features")
    for row in found.itertuples():
        assert (row.visual, row.sound) == pytest.approx((row._8, row._9), abs=0.012)
        formula = bounds.calibrated(row.visual, row.sound, row.r12)
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
