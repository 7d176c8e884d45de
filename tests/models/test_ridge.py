"""Ridge regression: equal to the same computed another way."""

import numpy as np
import pytest

from emibook import InputError
from emibook.models.ridge import RidgeOnAverages, fit_ridge, time_averages
from emibook.sequences.packed import Sequences


def sequences(seed, clips=40, features=5, empty=()):
    rng = np.random.default_rng(seed)
    lengths = np.where(np.isin(np.arange(clips), empty), 0, rng.integers(1, 9, clips))
    values = rng.normal(size=(lengths.sum(), features)).astype(np.float16)
    targets = rng.random((clips, 2)).astype(np.float32)
    offsets, people = np.concatenate([[0], np.cumsum(lengths)]), tuple(f"p{clip % 8}" for clip in range(clips))
    return Sequences("aus", tuple("abcde"[:features]), values, offsets, targets, ("Joy", "Amusement"),
                     tuple(map(str, range(clips))), people, ("builtin",))


def closed_form(inputs, targets, share):
    """(predict) ridge regression by the normal equations, as predictions for other inputs."""
    mean, centre = inputs.mean(0), targets.mean(0)
    centred = inputs - mean
    penalty = share * (centred**2).sum() / len(inputs)
    slopes = np.linalg.solve(centred.T @ centred + penalty * np.eye(inputs.shape[1]), centred.T @ (targets - centre))
    return lambda others: (others - mean) @ slopes + centre


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_ridge_equals_least_squares_with_the_penalty_as_extra_rows(shape, penalty):
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(3, 1, shape), rng.normal(1, 2, (shape[0], 2))
    slopes, intercepts = fit_ridge(inputs, targets, np.arange(len(inputs)), [penalty])
    centred = inputs - inputs.mean(0)
    scale = (centred**2).sum() / shape[0]  # the mean squared length of an input
    rows = np.vstack([centred, np.sqrt(penalty * scale) * np.eye(shape[1])])
    wanted = np.concatenate([targets - targets.mean(0), np.zeros((shape[1], 2))])
    np.testing.assert_allclose(slopes, np.linalg.lstsq(rows, wanted, rcond=None)[0], atol=1e-10)
    predicted = inputs @ slopes + intercepts
    np.testing.assert_allclose(predicted.mean(0), targets.mean(0))  # the intercept is not penalised
    np.testing.assert_allclose(predicted, closed_form(inputs, targets, penalty)(inputs))


@pytest.mark.parametrize("shape", [(60, 200), (60, 30)])
def test_each_target_gets_the_penalty_that_predicts_left_out_groups_best(shape):
    rng = np.random.default_rng(1)
    inputs, groups = rng.normal(0, 1, shape), np.repeat([f"p{person}" for person in range(6)], 10)
    noise = rng.normal(0, 1, (60, 2))
    targets = np.stack([inputs @ rng.normal(0, 1, shape[1]), noise[:, 0], inputs[:, 0] + noise[:, 1]], 1)
    penalties = [1e-4, 1e-2, 1.0, 1e4]
    errors = np.zeros((len(penalties), 3))
    scale = ((inputs - inputs.mean(0)) ** 2).sum() / len(inputs)
    for person in np.unique(groups):  # with as many folds as groups each is left out once
        out = groups == person
        kept = inputs[~out]
        unit = ((kept - kept.mean(0)) ** 2).sum() / len(kept)
        for row, penalty in zip(errors, penalties, strict=True):
            predict = closed_form(kept, targets[~out], penalty * scale / unit)
            row += ((predict(inputs[out]) - targets[out]) ** 2).sum(0)
    slopes, intercepts = fit_ridge(inputs, targets, groups, penalties, folds=6)
    best = errors.argmin(0)
    assert len(set(best)) > 1
    for column, row in enumerate(best):
        expected = closed_form(inputs, targets, penalties[row])(inputs)[:, column]
        np.testing.assert_allclose(inputs @ slopes[:, column] + intercepts[column], expected)


def test_samples_of_one_group_allow_no_choice_of_a_penalty():
    inputs, targets = np.eye(4), np.ones((4, 1))
    with pytest.raises(InputError, match="only one"):
        fit_ridge(inputs, targets, np.zeros(4))
    assert fit_ridge(inputs, targets, np.zeros(4), [1.0])[1] == pytest.approx(1)


def test_averages_are_the_clips_own():
    clips = sequences(0, empty=(3,))
    averages = time_averages(clips)
    for clip, (first, end) in enumerate(zip(clips.offsets, clips.offsets[1:], strict=False)):
        rows = clips.values[first:end].astype(float)
        assert np.isnan(averages[clip]).all() if clip == 3 else np.allclose(averages[clip], rows.mean(axis=0))


def test_ridge_is_the_closed_form_and_an_empty_clip_gets_the_mean():
    train, valid = sequences(1, empty=(0,)), sequences(2, empty=(5,))
    share = 0.1
    model = RidgeOnAverages.fit(train, penalties=(share,))
    inputs, targets = time_averages(train)[1:], train.targets[1:].astype(float)
    X = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    penalty = share * np.trace(X @ X.T) / len(X)
    slopes = np.linalg.solve(X.T @ X + penalty * np.eye(5), X.T @ (targets - targets.mean(axis=0)))
    fresh = (time_averages(valid) - inputs.mean(axis=0)) / inputs.std(axis=0)
    expected = np.nan_to_num(fresh) @ slopes + targets.mean(axis=0)
    assert np.allclose(model.predict(valid), expected, atol=1e-8)
    assert np.allclose(model.predict(valid)[5], targets.mean(axis=0))
