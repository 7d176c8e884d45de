from __future__ import annotations

import numpy as np
import pytest

from emibook import InputError
from emibook.fusion import FUSION_ALTERNATIVES, cross_fitted_fusion, late_fusion
from emibook.metrics import pearson

RNG = np.random.default_rng(0)
FACE, SOUND, THIRD = RNG.random((3, 8, 6))


def test_is_the_average():
    np.testing.assert_allclose(late_fusion(FACE, SOUND), (FACE + SOUND) / 2)
    np.testing.assert_allclose(late_fusion(FACE, SOUND, THIRD), (FACE + SOUND + THIRD) / 3)
    np.testing.assert_array_equal(late_fusion(FACE), FACE)


def test_missing_data_in_one_branch_as_mask_or_nan_leaves_the_average_of_the_others():
    there = np.ones(8, bool)
    there[[2, 5]] = False
    lacking = np.where(there[:, None], FACE, np.nan)
    expected = np.where(there[:, None], (FACE + SOUND) / 2, SOUND)
    np.testing.assert_allclose(late_fusion(lacking, SOUND), expected)
    np.testing.assert_allclose(late_fusion(FACE, SOUND, present=[there, np.ones(8, bool)]), expected)
    np.testing.assert_allclose(late_fusion(lacking, SOUND, THIRD)[2], (SOUND[2] + THIRD[2]) / 2)


def test_missing_data_in_all_branches_keeps_their_average():
    nobody = np.zeros((2, 8), bool)
    np.testing.assert_allclose(late_fusion(FACE, SOUND, present=nobody), (FACE + SOUND) / 2)
    nothing = np.full((8, 6), np.nan)
    assert np.isnan(late_fusion(nothing, nothing)).all()
    np.testing.assert_allclose(late_fusion(nothing, SOUND, present=nobody), SOUND)


def test_order_of_branches_does_not_matter_and_order_of_clips_goes_through():
    lacking = FACE.copy()
    lacking[1] = np.nan
    order = RNG.permutation(8)
    np.testing.assert_allclose(late_fusion(SOUND, lacking), late_fusion(lacking, SOUND))
    np.testing.assert_allclose(late_fusion(lacking[order], SOUND[order]), late_fusion(lacking, SOUND)[order])


def test_a_single_missing_number_is_not_hidden():
    broken = FACE.copy()
    broken[4, 2] = np.nan
    fused = late_fusion(broken, SOUND)
    assert np.isnan(fused[4, 2]) and np.isnan(fused).sum() == 1


def test_wrong_shapes_are_refused():
    for wrong in ((), (FACE, SOUND[:-1]), (FACE[0], SOUND[0])):
        with pytest.raises(InputError):
            late_fusion(*wrong)
    with pytest.raises(InputError, match="present"):
        late_fusion(FACE, SOUND, present=[np.ones(8, bool)])


def test_does_not_write_into_its_input():
    before = FACE.copy()
    late_fusion(FACE, SOUND, present=np.zeros((2, 8), bool))
    np.testing.assert_array_equal(FACE, before)


@pytest.fixture(scope="module")
def planted():
    """Many clips: labels, a good branch, a weak one of thirty times the standard deviation, and two halves."""
    rng = np.random.default_rng(1)
    truth = rng.random((4000, 3))
    good, weak = truth + rng.normal(0, 0.4, truth.shape), 30 * (truth + rng.normal(0, 1.2, truth.shape)) + 5
    return truth, good, weak, rng.integers(0, 2, 4000)


def within(truth, fused, half) -> np.ndarray:
    """(half, emotion), never over both halves at once."""
    return np.stack([pearson(truth[half == number], fused[half == number]) for number in (0, 1)])


@pytest.mark.parametrize("alternative", FUSION_ALTERNATIVES)
def test_the_labels_of_a_half_reach_no_weight_that_it_is_fused_with(planted, alternative):
    truth, good, weak, half = planted
    fused = cross_fitted_fusion(alternative, good, weak, truth=truth, half=half)
    other = truth.copy()
    other[half == 1] = weak[half == 1]
    again = cross_fitted_fusion(alternative, good, weak, truth=other, half=half)
    np.testing.assert_array_equal(again[half == 1], fused[half == 1])
    if alternative != "equal variance":
        assert np.abs(again[half == 0] - fused[half == 0]).max() > 0.01, "the other half's labels fit nothing"


def test_alternatives_equal_their_formulas(planted):
    truth, good, weak, half = planted
    first, last = half == 0, half == 1
    equal = cross_fitted_fusion("equal variance", good, weak, truth=truth, half=half)
    expected = (good[first] / good[last].std(axis=0) + weak[first] / weak[last].std(axis=0)) / 2
    np.testing.assert_allclose(equal[first] - expected, (equal[first] - expected)[:1].repeat(first.sum(), axis=0))
    scores = [pearson(truth[last], share / 20 * good[last] + (1 - share / 20) * weak[last]).mean()
              for share in range(21)]
    best = int(np.argmax(scores)) / 20
    one = cross_fitted_fusion("shared weights", good, weak, truth=truth, half=half)
    blend = best * good[first] + (1 - best) * weak[first]
    np.testing.assert_allclose(pearson(truth[first], one[first]), pearson(truth[first], blend))
    fitted = cross_fitted_fusion("per-emotion least squares", good, weak, truth=truth, half=half)
    for emotion in range(3):
        columns = np.stack([good[:, emotion], weak[:, emotion], np.ones(len(half))], axis=1)
        weights = np.linalg.lstsq(columns[last], truth[last, emotion], rcond=None)[0]
        regressed = columns[first] @ weights
        np.testing.assert_allclose(fitted[first, emotion], regressed - truth[last, emotion].mean(), atol=1e-9)


def test_where_scales_differ_alternatives_beat_the_average_and_reach_the_best_linear_combination(planted):
    truth, good, weak, half = planted
    average = within(truth, late_fusion(good, weak), half).mean()
    fused = {name: cross_fitted_fusion(name, good, weak, truth=truth, half=half) for name in FUSION_ALTERNATIVES}
    found = {name: within(truth, predictions, half).mean() for name, predictions in fused.items()}
    assert min(found.values()) > average + 0.05
    r1, r2, r12 = (pearson(one, two).mean() for one, two in ((truth, good), (truth, weak), (good, weak)))
    bound = np.sqrt((r1**2 + r2**2 - 2 * r1 * r2 * r12) / (1 - r12**2))
    assert found["per-emotion least squares"] == pytest.approx(bound, abs=0.01) and max(found.values()) < bound + 0.01


@pytest.mark.parametrize("alternative", FUSION_ALTERNATIVES)
def test_a_clip_without_data_in_one_branch_is_not_fitted_on_and_takes_the_other(planted, alternative):
    truth, good, weak, half = planted
    there = np.ones((2, len(truth)), bool)
    there[1, ::7] = False
    fused = cross_fitted_fusion(alternative, good, weak, truth=truth, half=half, present=there)
    spoilt = np.where(there[1][:, None], weak, 1e6)
    np.testing.assert_array_equal(
        cross_fitted_fusion(alternative, good, spoilt, truth=truth, half=half, present=there), fused)
    lone = np.flatnonzero(~there[1] & (half == 0))
    assert (pearson(good[lone], fused[lone]) > 0.999).all()
    few = half.copy()
    few[:] = 1
    few[:1] = 0
    assert np.isnan(cross_fitted_fusion(alternative, good, weak, truth=truth, half=few)[1:]).all()


def test_unknown_alternatives_are_named():
    with pytest.raises(InputError, match="no fusion named 'best'; there are equal variance"):
        cross_fitted_fusion("best", FACE, SOUND, truth=FACE, half=np.arange(8) % 2)
