from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emibook import InputError
from emibook.metrics import mean_pearson, pearson


def made(seed: int, clips: int = 40, emotions: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(clips, emotions))
    return truth, 0.4 * truth + rng.normal(size=(clips, emotions))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 60))
def test_equals_the_bare_formula_and_numpy(seed, clips):
    truth, prediction = made(seed, clips)
    covariance = ((truth - truth.mean(0)) * (prediction - prediction.mean(0))).mean(0)
    formula = covariance / np.sqrt(truth.var(0) * prediction.var(0))
    library = [np.corrcoef(truth[:, i], prediction[:, i])[0, 1] for i in range(6)]
    np.testing.assert_allclose(pearson(truth, prediction), formula, atol=1e-12)
    np.testing.assert_allclose(pearson(truth, prediction), library, atol=1e-12)
    assert mean_pearson(truth, prediction) == pytest.approx(np.mean(library), abs=1e-12)


def test_perfect_prediction_scores_exactly_one_whatever_the_number_of_clips():
    for clips in (2, 3, 5, 128):
        truth, _ = made(1, clips)
        np.testing.assert_allclose(pearson(truth, 3.0 * truth + 7.0), 1.0, atol=1e-12)
        np.testing.assert_allclose(pearson(truth, -truth), -1.0, atol=1e-12)


def test_unchanged_by_scale_shift_and_a_common_order_but_not_by_reordering_one_side():
    truth, prediction = made(2)
    order = np.random.default_rng(0).permutation(len(truth))
    np.testing.assert_allclose(pearson(truth[order], prediction[order]), pearson(truth, prediction), atol=1e-12)
    np.testing.assert_allclose(pearson(truth, 1e-9 * prediction - 5), pearson(truth, prediction), atol=1e-5)
    assert np.abs(pearson(truth[order], prediction) - pearson(truth, prediction)).max() > 0.1


def test_all_clips_at_once_is_not_the_mean_over_batches():
    truth = np.linspace(0, 1, 96)[:, None]
    prediction = truth + 0.15 * np.random.default_rng(3).normal(size=truth.shape)
    batches = [pearson(t, p)[0] for t, p in zip(np.split(truth, 12), np.split(prediction, 12), strict=True)]
    assert pearson(truth, prediction)[0] > 0.8 > 0.5 > np.mean(batches)


def test_sparse_target_keeps_its_correlation():
    truth = np.zeros((4588, 1), np.float32)
    truth[:5] = 0.5
    prediction = (truth * 0.01 + 1e-4 * np.random.default_rng(4).normal(size=truth.shape)).astype(np.float32)
    expected = np.corrcoef(truth[:, 0].astype(float), prediction[:, 0].astype(float))[0, 1]
    assert pearson(truth, prediction)[0] == pytest.approx(expected, abs=1e-9)
    assert expected > 0.8


@pytest.mark.parametrize("constant", [0.1, 0.0, np.float32(0.1)])
@pytest.mark.parametrize("side", ["truth", "prediction"])
def test_constant_is_nan_with_a_warning_that_names_the_emotion(constant, side):
    truth, prediction = made(5, emotions=2)
    (truth if side == "truth" else prediction)[:, 1] = constant
    with pytest.warns(RuntimeWarning, match=f"Joy has no correlation: the {side} is constant"):
        rho = pearson(truth, prediction, names=("Amusement", "Joy"))
    assert np.isnan(rho[1]) and np.isfinite(rho[0])
    with pytest.warns(RuntimeWarning, match="emotion 1"):
        assert np.isnan(mean_pearson(truth, prediction))


def test_rounding_noise_around_a_constant_is_no_variance():
    truth, _ = made(6, emotions=1)
    wobble = np.full_like(truth, 0.3, dtype=np.float32)
    wobble[::2] = np.nextafter(np.float32(0.3), np.float32(1))
    with pytest.warns(RuntimeWarning, match="constant"):
        assert np.isnan(pearson(truth, wobble)[0])


def test_not_finite_and_one_clip_are_nan_with_a_warning():
    truth, prediction = made(7, emotions=2)
    prediction[3, 0] = np.nan
    with pytest.warns(RuntimeWarning, match="emotion 0 .* 1 values that are not finite"):
        rho = pearson(truth, prediction)
    assert np.isnan(rho[0]) and np.isfinite(rho[1])
    with pytest.warns(RuntimeWarning, match="1 clips"):
        assert np.isnan(pearson(truth[:1], prediction[1:2])).all()


def test_good_input_gives_no_warning_and_other_shapes_are_refused():
    truth, prediction = made(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pearson(truth, prediction)
    with pytest.raises(InputError, match="one shape"):
        pearson(truth, prediction[:-1])
    with pytest.raises(InputError, match="one shape"):
        pearson(truth[:, 0], prediction[:, 0])
