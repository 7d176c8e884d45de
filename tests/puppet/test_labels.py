from __future__ import annotations

import itertools

import numpy as np
import pytest

from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.puppet.labels import LATENT, PUBLISHED, compare_with_published, sample_labels, variance_shares

# Source: the data set's published label statistics, as pairs.
PAIRS = {
    ("Excitement", "Joy"): 0.229, ("Amusement", "Joy"): 0.067, ("Admiration", "Joy"): 0.037,
    ("Amusement", "Excitement"): 0.027, ("Admiration", "Amusement"): -0.073, ("Admiration", "Determination"): -0.121,
    ("Admiration", "Empathic Pain"): -0.012, ("Admiration", "Excitement"): -0.040,
    ("Amusement", "Determination"): -0.106, ("Amusement", "Empathic Pain"): -0.084,
    ("Determination", "Empathic Pain"): -0.039, ("Determination", "Excitement"): -0.132,
    ("Determination", "Joy"): -0.143, ("Empathic Pain", "Excitement"): -0.097, ("Empathic Pain", "Joy"): -0.088,
}  # fmt: skip


def drawn(clips: int, seed: int):
    rng = np.random.default_rng(seed)
    return sample_labels(rng.integers(0, clips // 25, clips), rng.integers(0, clips // 25, clips), rng)


def test_published_correlations_are_those_of_the_data_set():
    for (one, two), value in PAIRS.items():
        assert PUBLISHED[EMOTIONS.index(one), EMOTIONS.index(two)] == value
    for matrix in (LATENT, PUBLISHED):
        assert np.linalg.eigvalsh(matrix).min() > 0 and np.array_equal(matrix, matrix.T)
        assert np.array_equal(np.diag(matrix), np.ones(6))


def test_labels_are_fractions_of_a_few_raters():
    labels = drawn(20_000, 0)
    ticks = labels.values * labels.raters[:, None]
    assert np.allclose(ticks, ticks.round()) and labels.raters.min() == 1 and labels.raters.max() == 6
    assert labels.values.min() == 0 and labels.values.max() == 1
    assert 0.68 < (labels.values == 0).mean() < 0.78
    assert (np.diff([labels.values[labels.felt[:, 0] > least, 0].mean() for least in (0, 0.3, 0.6, 0.9)]) > 0.05).all()


def test_twenty_thousand_labels_are_correlated_as_published():
    table = compare_with_published(EMOTIONS)
    assert len(table) == 16 and np.isnan(table.loc["share of zeros", "published"])
    pairs = table.drop("share of zeros")
    for (one, two), value in PAIRS.items():
        assert pairs.loc[f"correlation {one}, {two}", "published"] == value
    assert (pairs["sampled"] - pairs["published"]).abs().max() < 0.03
    # What is left is chance: few seed videos and participants carry most of the variance.
    tables = [compare_with_published(EMOTIONS, seed=seed).drop("share of zeros") for seed in range(8)]
    again = np.mean([table["sampled"] for table in tables], 0)
    assert np.abs(again - pairs["published"]).max() < 0.02


def test_variance_shares_are_those_that_were_put_in():
    rng = np.random.default_rng(0)
    video, person = rng.integers(0, 400, 10_000), rng.integers(0, 400, 10_000)
    values = np.sqrt(0.5) * rng.standard_normal((400, 6))[video] + np.sqrt(0.2) * rng.standard_normal((400, 6))[person]
    values += np.sqrt(0.3) * rng.standard_normal((10_000, 6))
    shares = variance_shares(values * [1, 2, 3, 4, 5, 6] + 7, video, person)
    assert shares == pytest.approx({"seed_video": 0.5, "participant": 0.2, "clip": 0.3}, abs=0.03)
    names = variance_shares(values, [f"s{number}" for number in video], [f"p{number}" for number in person])
    assert names == pytest.approx(shares)


def test_variance_shares_are_means_over_pairs_of_clips():
    rng = np.random.default_rng(1)
    video, person, values = rng.integers(0, 5, 40), rng.integers(0, 6, 40), rng.standard_normal((40, 2))
    standard = (values - values.mean(0)) / values.std(0)
    pairs = list(itertools.combinations(range(40), 2))
    same = [standard[i] * standard[j] for i, j in pairs if video[i] == video[j] and person[i] != person[j]]
    other = [standard[i] * standard[j] for i, j in pairs if video[i] != video[j] and person[i] == person[j]]
    shares = variance_shares(values, video, person)
    assert shares["seed_video"] == pytest.approx(np.mean(same))
    assert shares["participant"] == pytest.approx(np.mean(other))
    assert sum(shares.values()) == pytest.approx(1)


def test_variance_shares_without_pairs_or_variance():
    with pytest.raises(ValueError, match="seed_video"):
        variance_shares(np.arange(8.0).reshape(4, 2), np.arange(4), np.zeros(4))
    with pytest.raises(ValueError, match="same in every clip"):
        variance_shares(np.ones((4, 2)), np.zeros(4), np.arange(4))


def test_labels_owe_most_to_the_seed_video_and_something_to_the_participant():
    rng = np.random.default_rng(0)
    video, person = rng.integers(0, 800, 20_000), rng.integers(0, 800, 20_000)
    labels = sample_labels(video, person, rng)
    shares = variance_shares(labels.values, video, person)
    assert 0.3 < shares["seed_video"] < 0.45 and 0.04 < shares["participant"] < 0.10
    # The few raters add noise of their own.
    assert variance_shares(labels.felt, video, person)["clip"] < shares["clip"] - 0.05
