"""What an average can score: formulas against drawn predictions, and what Table 3 says of its branches."""

import numpy as np
import pytest

from emibook import InputError
from emibook.audit import fusion_bounds
from emibook.experiments.paper_rows import TABLE2, TABLE3
from emibook.fusion import late_fusion
from emibook.metrics import pearson

CASES = [(0.15, 0.28, -0.1), (0.3, 0.2, 0.4), (0.1, 0.25, 0.025), (0.5, 0.5, 0.0)]


def drawn(r1, r2, r12, clips=400_000):
    spread = [[1, r1, r2], [r1, 1, r12], [r2, r12, 1]]
    return np.random.default_rng(0).multivariate_normal(np.zeros(3), spread, clips).T[..., None]


@pytest.mark.parametrize(("r1", "r2", "r12"), CASES)
def test_averages_of_drawn_predictions_score_what_the_formulas_say(r1, r2, r12):
    truth, first, second = drawn(r1, r2, r12)
    scored = pearson(truth, late_fusion(first, second))[0]
    assert scored == pytest.approx(fusion_bounds.average(r1, r2, r12), abs=0.005)
    scored = pearson(truth, late_fusion(2 * first, 0.5 * second))[0]
    assert scored == pytest.approx(fusion_bounds.average(r1, r2, r12, 2, 0.5), abs=0.005)
    scored = pearson(truth, late_fusion(r1 * first, r2 * second))[0]
    assert scored == pytest.approx(fusion_bounds.calibrated(r1, r2, r12), abs=0.005)


@pytest.mark.parametrize(("r1", "r2", "r12"), CASES)
def test_the_best_weights_are_those_of_least_squares_and_no_average_beats_them(r1, r2, r12):
    truth, first, second = (values[:, 0] for values in drawn(r1, r2, r12))
    columns = np.stack([first, second], axis=1)
    weights = np.linalg.lstsq(columns, truth, rcond=None)[0]
    assert np.corrcoef(truth, columns @ weights)[0, 1] == pytest.approx(fusion_bounds.best(r1, r2, r12), abs=0.005)
    spreads = np.geomspace(0.05, 20, 200)
    assert fusion_bounds.average(r1, r2, r12, 1.0, spreads).max() <= fusion_bounds.best(r1, r2, r12) + 1e-12


@pytest.mark.parametrize(("r1", "r2", "r12"), CASES)
def test_what_a_triple_implies_is_what_made_it(r1, r2, r12):
    for case in ("equal", "calibrated", "best"):
        fused = {"equal": fusion_bounds.average, "calibrated": fusion_bounds.calibrated,
                 "best": fusion_bounds.best}[case](r1, r2, r12)
        if fused > max(r1, r2):
            assert fusion_bounds.implied(r1, r2, float(fused))[case] == pytest.approx(r12, abs=1e-9)


def test_of_all_spreads_the_best_weights_need_least_contradiction():
    for row in fusion_bounds.imply(TABLE2, TABLE3, 0.08).itertuples():
        agreement = fusion_bounds.implied(row.visual, row.sound, row.fused)
        assert agreement["best"] >= max(agreement["equal"], agreement["calibrated"])


def test_triples_that_say_nothing_are_refused():
    with pytest.raises(InputError, match="not above the better branch"):
        fusion_bounds.implied(0.1, 0.3, 0.29)
    with pytest.raises(InputError, match="between 0 and 1"):
        fusion_bounds.implied(-0.1, 0.3, 0.35)


def test_crossing_keeps_the_means_and_lifts_the_average():
    first, second = fusion_bounds.crossed(0.15, 0.28, 0.05)
    assert first.mean() == pytest.approx(0.15) and second.mean() == pytest.approx(0.28)
    assert np.mean(fusion_bounds.best(first, second, 0.0)) > fusion_bounds.best(0.15, 0.28, 0.0)


def test_the_crossing_needed_is_the_least_that_does():
    needed = fusion_bounds.crossing_needed(0.15, 0.28, 0.33)
    first, second = fusion_bounds.crossed(0.15, 0.28, needed)
    reached = np.mean(fusion_bounds.calibrated(first, second, first * second))
    assert reached == pytest.approx(0.33, abs=1e-3) and needed > 0
    assert fusion_bounds.crossing_needed(0.15, 0.28, 0.30) == 0
    assert np.isnan(fusion_bounds.crossing_needed(0.15, 0.28, 0.45))


def test_the_papers_rows():
    """The figures that were worked out by hand before there was code."""
    found = fusion_bounds.imply(TABLE2, TABLE3, crossing=0.08)
    last = found.loc["resnet18+aus & wav2vec2"]
    assert last["equal"] == pytest.approx(0.303, abs=5e-4)
    assert last["calibrated"] == pytest.approx(0.3174, abs=5e-5)
    assert last["crossed"] == pytest.approx(0.335, abs=5e-4)
    ours = ["vit & wav2vec2", "resnet18 & wav2vec2", "aus & wav2vec2", "resnet18+aus & wav2vec2"]
    assert list(found.loc[ours, "r12 calibrated"]) == pytest.approx([0.17, 0.08, 0.08, -0.08], abs=5e-3)
    assert list(found["verdict"]) == [fusion_bounds.FOLLOWS] * 4 + [fusion_bounds.CROSSES]
    assert last["expected"] - found.loc["aus & wav2vec2", "fused"] == pytest.approx(0.006, abs=1e-3)
    assert fusion_bounds.imply(TABLE2, TABLE3, crossing=0.02)["verdict"].iloc[-1] == fusion_bounds.OPPOSES
