"""Ridge on averages: equal to the same computed another way."""

import numpy as np

from emibook.models.ridge import RidgeOnAverages, time_averages
from emibook.sequences.packed import Sequences


def sequences(seed, clips=40, features=5, empty=()):
    rng = np.random.default_rng(seed)
    lengths = np.where(np.isin(np.arange(clips), empty), 0, rng.integers(1, 9, clips))
    values = rng.normal(size=(lengths.sum(), features)).astype(np.float16)
    targets = rng.random((clips, 2)).astype(np.float32)
    offsets, people = np.concatenate([[0], np.cumsum(lengths)]), tuple(f"p{clip % 8}" for clip in range(clips))
    return Sequences("aus", tuple("abcde"[:features]), values, offsets, targets, ("Joy", "Amusement"),
                     tuple(map(str, range(clips))), people, ("builtin",))


def test_averages_are_the_clips_own():
    made = sequences(0, empty=(3,))
    averages = time_averages(made)
    for clip, (first, end) in enumerate(zip(made.offsets, made.offsets[1:], strict=False)):
        rows = made.values[first:end].astype(float)
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
