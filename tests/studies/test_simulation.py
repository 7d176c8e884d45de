"""Simulated features: every formula for what can be reached at best, against an oracle or a brute-force count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from emibook import InputError
from emibook.corpus import crema_d_votes
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.features import EXTRACTORS
from emibook.puppet.labels import LATENT, PUBLISHED, RATERS, RATERS_PROBABILITIES, variance_shares
from emibook.studies.simulation import features as simulated_features
from emibook.studies.simulation.attainable import (
    attainable,
    best_linear,
    ceiling,
    chance,
    expected_label,
    label_variance,
    multiple_correlation,
    needed,
)
from emibook.studies.simulation.best_predictor import bounds, plan, predict
from emibook.studies.simulation.features import SimulatedSet, Simulation, clips, draw, scores
from emibook.studies.simulation.patterns import (
    OFFSET,
    PATTERNS,
    STRENGTH,
    Clock,
    lower_bound,
    plant,
    posterior,
    recoverable_share,
)

CLOCK = Clock(7.5)
WIDTHS = {name: 12 for name in simulated_features.WIDTHS}
SMALL = {"clips": (300, 150, 60), "steps": 40, "frame_rate": 7.5, "widths": WIDTHS}


def correlation(one, two):
    return float(np.corrcoef(one, two)[0, 1])


def ticked(latent, rng):
    raters = rng.choice(RATERS, len(latent), p=RATERS_PROBABILITIES)
    return rng.binomial(raters, chance(latent)) / raters


# What can be reached, by formula


@pytest.mark.parametrize("multiple", [0.2, 0.5, 0.8, 0.95])
def test_the_expected_label_reaches_the_formula_and_a_line_less(multiple):
    rng = np.random.default_rng(0)
    guess = multiple * rng.standard_normal(400_000)
    label = ticked(guess + np.sqrt(1 - multiple**2) * rng.standard_normal(len(guess)), rng)
    assert label.var() == pytest.approx(label_variance(), rel=0.02)
    reached = correlation(label, expected_label(guess, np.full(len(guess), multiple)))
    assert reached == pytest.approx(attainable(multiple), abs=0.005)
    assert correlation(label, guess) == pytest.approx(best_linear(multiple), abs=0.005)
    assert best_linear(multiple) < attainable(multiple) < ceiling()


def test_needed_is_the_inverse_and_ends_at_the_ceiling():
    wanted = np.linspace(0.01, 0.99 * ceiling(), 20)
    assert attainable(needed(wanted)) == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(ValueError, match="ceiling"):
        needed(ceiling() + 0.01)


def test_multiple_correlation_is_that_of_least_squares():
    rng = np.random.default_rng(1)
    everything = rng.standard_normal((5, 5))
    covariance = everything @ everything.T
    covariance /= np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    found = multiple_correlation(covariance[:4, :4], covariance[:4, 4:])
    drawn = rng.multivariate_normal(np.zeros(5), covariance, 200_000)
    fitted = drawn[:, :4] @ np.linalg.lstsq(drawn[:, :4], drawn[:, 4], rcond=None)[0]
    assert found[0] == pytest.approx(correlation(fitted, drawn[:, 4]), abs=0.005)


# Noise and patterns


def covariance(steps):
    lag = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    return CLOCK.memory**lag + OFFSET


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_weighing_is_the_inverse_of_the_noises_covariance(steps):
    series = np.random.default_rng(0).standard_normal((steps, 3))
    assert CLOCK.weigh(series) == pytest.approx(np.linalg.solve(covariance(steps), series))


def test_the_noise_has_this_covariance_but_for_the_offset():
    noise = CLOCK.noise(6, 200_000, np.random.default_rng(0))
    assert np.cov(noise) == pytest.approx(covariance(6) - OFFSET, abs=0.02)


@pytest.mark.parametrize("pattern", ["mean", "onset"])
def test_reading_is_what_counting_all_scores_and_places_gives(pattern):
    steps = 14
    rng = np.random.default_rng(2)
    grid = np.linspace(-6, 6, 1201)
    noise = multivariate_normal(np.zeros(steps), covariance(steps))
    shapes = [np.ones(steps)] if pattern == "mean" else [
        (np.arange(steps) >= first) & (np.arange(steps) < first + 8) for first in range(steps - 7)
    ]
    strength = np.abs(plant("mean", 1.0, 1, CLOCK, rng))[0] if pattern == "mean" else 3.0
    for score in (-1.5, 0.2, 1.0):
        channel = plant(pattern, score, steps, CLOCK, rng) + noise.rvs(random_state=3)
        likely = np.zeros(len(grid))
        for shape in shapes:
            likely += noise.pdf(channel - strength * grid[:, None] * shape)
        share = likely * np.exp(-(grid**2) / 2)
        share /= share.sum()
        mean = share @ grid
        assert posterior(pattern, channel, CLOCK) == pytest.approx((mean, share @ grid**2 - mean**2), abs=1e-6)


def channels(pattern, correlated, steps, count):
    """(clip, step) channels and (clip,) labels of ``count`` clips."""
    rng = np.random.default_rng(4)
    latent = rng.standard_normal(count)
    score = correlated * latent + np.sqrt(1 - correlated**2) * rng.standard_normal(count)
    noise = CLOCK.noise(steps, count, rng).T + np.sqrt(OFFSET) * rng.standard_normal((count, 1))
    planted = np.stack([plant(pattern, each, steps, CLOCK, rng) for each in score])
    return noise + planted, ticked(latent, rng), score


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("steps", [30, 52])
def test_what_an_oracle_reads_lies_between_the_bounds(pattern, steps):
    correlated = 0.8
    seen, label, score = channels(pattern, correlated, steps, 12_000)
    readings = np.array([posterior(pattern, each, CLOCK) for each in seen])
    guess = expected_label(correlated * readings[:, 0], correlated * np.sqrt(np.clip(1 - readings[:, 1], 0, 1)))
    reached, error = correlation(label, guess), 2.5 / np.sqrt(len(label))
    low = lower_bound(pattern, correlated, steps, CLOCK)
    high = attainable(correlated * np.sqrt(recoverable_share(pattern, steps, CLOCK)))
    assert low - error <= reached <= high + error
    assert high - low < (1e-9 if pattern == "mean" else 0.25)
    # The reading knows its own error.
    assert np.mean((readings[:, 0] - score) ** 2) == pytest.approx(readings[:, 1].mean(), rel=0.1)


@pytest.mark.parametrize("strength", [2.0, 0.7])
def test_the_stated_reader_of_a_rhythm_reaches_the_lower_bound(strength, monkeypatch):
    monkeypatch.setitem(STRENGTH, "rhythm", strength)
    seen, label, _ = channels("rhythm", 0.8, 30, 20_000)
    turns = 2 * np.pi * np.arange(30)[:, None] / 7.5 / [0.55, 0.55, 1.2, 1.2]
    swings = np.where([True, False, True, False], np.cos(turns), np.sin(turns))
    inverse = np.linalg.inv(covariance(30))
    fitted = seen @ inverse @ swings @ np.linalg.inv(swings.T @ inverse @ swings)
    power = (fitted**2) @ [1, 1, -1, -1]
    assert abs(correlation(label, power)) == pytest.approx(lower_bound("rhythm", 0.8, 30, CLOCK), abs=0.015)


def test_the_stated_reader_of_an_onset_reaches_the_lower_bound():
    seen, label, score = channels("onset", 0.8, 30, 20_000)
    weights = np.linalg.lstsq(seen, score, rcond=None)[0]
    assert abs(correlation(label, seen @ weights)) == pytest.approx(lower_bound("onset", 0.8, 30, CLOCK), abs=0.02)


def test_of_a_rhythm_averages_and_the_spread_of_steps_see_nothing():
    seen, _, score = channels("rhythm", 0.8, 60, 20_000)
    for blind in (seen.mean(axis=1), np.abs(seen).mean(axis=1)):
        assert abs(correlation(score, blind)) < 0.06
    readings = [posterior("rhythm", each, CLOCK)[0] for each in seen[:2000]]
    assert correlation(score[:2000], readings) > 0.9


def test_short_clips_tell_little():
    shares = [recoverable_share("mean", steps, CLOCK) for steps in (1, 10, 75)]
    assert shares[0] < shares[1] < shares[2] < 1
    assert lower_bound("rhythm", 0.8, 5, CLOCK) == 0 and posterior("rhythm", np.ones(5), CLOCK) == (0.0, 1.0)


# The whole model


def test_the_clips_are_like_the_real_sets():
    simulation = Simulation(())
    table = clips(simulation).table
    assert table["partition"].value_counts().to_dict() == {"train": 8072, "valid": 4588, "test": 4586}
    people = table.groupby("partition")["participant"].agg(set)
    assert not (people["train"] & people["valid"] | people["train"] & people["test"] | people["valid"] & people["test"])
    assert table["participant"].nunique() == 557
    assert table["seconds"].mean() == pytest.approx(6.92, abs=0.25)
    assert table["seconds"].quantile(0.95) == pytest.approx(11.5, abs=0.4)
    assert 0.064 <= table["seconds"].min() and 300 < table["seconds"].max() <= 1250
    assert table["steps"].max() == 300 and table["steps"].min() >= 1
    for modality in "VA":
        assert (~table[modality]).mean() == pytest.approx(simulated_features.ABSENT, abs=0.005)
    labels = table[list(EMOTIONS)].to_numpy()
    assert np.abs(np.corrcoef(labels.T) - PUBLISHED).max() < 0.06
    assert (labels == 0).mean() > 0.5 and labels.max() == 1
    assert np.corrcoef(clips(simulation).latent.T) == pytest.approx(LATENT, abs=0.12)


def test_a_participant_is_in_labels_and_scores():
    simulation = plan({"vit": 0.3}, patterns="mean", **(SMALL | {"clips": (6000, 3000, 3000)}))
    drawn = clips(simulation)
    shares = variance_shares(drawn.latent, drawn.table["seed_video"], drawn.table["participant"])
    assert shares["participant"] == pytest.approx(simulated_features.PARTICIPANT["latent"], abs=0.02)
    planted = simulation.sets[0]
    correlated = np.array(planted.correlations)
    noise = (scores(simulation, planted) - correlated * drawn.latent) / np.sqrt(1 - correlated**2)
    shares = variance_shares(noise, drawn.table["seed_video"], drawn.table["participant"])
    assert shares["participant"] == pytest.approx(simulated_features.PARTICIPANT["score"], abs=0.02)
    assert abs(shares["seed_video"]) < 0.01


def test_participants_who_differ_in_slopes_keep_the_scores_normal_and_the_mean_correlation():
    simulation = plan({"vit": 0.3}, patterns="mean", **(SMALL | {"clips": (30_000, 0, 0)}))
    differing = replace(simulation, between_person_sd=simulated_features.BETWEEN_PERSON_SD)
    latent, person = clips(simulation).latent, clips(simulation).table["participant"]
    slopes = {}
    for each in (simulation, differing):
        drawn = scores(each, each.sets[0])
        assert drawn.std(axis=0) == pytest.approx(np.ones(6), abs=0.03)
        slopes[each] = np.array([[correlation(drawn[rows, e], latent[rows, e]) for e in range(6)]
                                 for rows in person.groupby(person).indices.values()])
    same, other = slopes[simulation], slopes[differing]
    assert other.mean(axis=0) == pytest.approx(same.mean(axis=0), abs=0.02)
    spread = np.sqrt(other.var(axis=0) - same.var(axis=0)) / other.mean(axis=0)
    assert spread.mean() == pytest.approx(simulated_features.BETWEEN_PERSON_SD, abs=0.04)


def test_the_participants_effect_is_that_of_crema_d():
    root = Path(__file__).parents[3] / "shared" / "crema_d"
    if not (root / "tabulatedVotes.csv").is_file():
        pytest.skip("no CREMA-D votes here")
    found = crema_d_votes.read(root)
    acted = [clip.split("_", 1)[1] for clip in found.clips]
    voice, face, both = found.fractions
    luck = (both * (1 - both) / (found.raters[2] - 1)[:, None]).mean(axis=0) / both.var(axis=0)
    share = variance_shares(both, acted, found.actors)["participant"]
    assert share / (1 - luck.mean()) == pytest.approx(simulated_features.PARTICIPANT["latent"], abs=1e-3)
    y, voice, face = ((each - each.mean(axis=0)) / each.std(axis=0) for each in (both, voice, face))
    left = [rating - (y * rating).mean(axis=0) * y for rating in (voice, face)]
    shares = [variance_shares(each, acted, found.actors)["participant"] for each in left]
    assert np.mean(shares) == pytest.approx(simulated_features.PARTICIPANT["score"], abs=3e-3)
    differing = [between_person_sd(y, rating, found.actors) for rating in (voice, face)]
    assert np.mean(differing) == pytest.approx(simulated_features.BETWEEN_PERSON_SD, abs=0.01)


def between_person_sd(truth, rating, people):
    """Relative standard deviation of the slope of ``rating`` on ``truth`` between people, less its sampling error."""
    slopes, errors = [], []
    for person in np.unique(people):
        x, y = truth[people == person], rating[people == person]
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        power = (x**2).sum(axis=0)
        slopes.append((x * y).sum(axis=0) / power)
        errors.append(((y - slopes[-1] * x) ** 2).sum(axis=0) / (len(x) - 2) / power)
    between = np.var(slopes, axis=0, ddof=1) - np.mean(errors, axis=0)
    return (np.sqrt(np.clip(between, 0, None)) / np.mean(slopes, axis=0)).mean()


@pytest.mark.parametrize("patterns", ["mean", "mixed"])
def test_plans_meet_their_levels(patterns):
    levels = {"vit": 0.10, "resnet18": 0.1236, "aus": 0.1352, "wav2vec2": 0.2808, "resnet18+aus": 0.1479}
    simulation = plan(levels, patterns=patterns, **SMALL)
    for name, level in levels.items():
        assert bounds(simulation, name)[:, 1].mean() == pytest.approx(level, abs=1e-4)
    face, voice = bounds(simulation, "resnet18")[:, 1], bounds(simulation, "wav2vec2")[:, 1]
    by_face = simulated_features.BY_FACE > 0
    assert (face[by_face].mean() - face[~by_face].mean()) > 0.05
    assert (voice[by_face].mean() - voice[~by_face].mean()) < -0.05
    assert 0 < simulation.noise_correlation < 1
    assert (bounds(simulation, "resnet18+aus", "wav2vec2")[:, 1] > np.maximum(face, voice)).all()


@pytest.mark.parametrize("features", [("wav2vec2",), ("resnet18+aus", "wav2vec2")])
def test_where_there_is_a_formula_the_best_predictor_reaches_it(features):
    sizes = {**SMALL, "clips": (10, 4000, 0), "steps": 16}
    simulation = plan({"resnet18": 0.4, "aus": 0.35, "wav2vec2": 0.5, "resnet18+aus": 0.45}, patterns="mean", **sizes)
    found = bounds(simulation, *features)
    assert found[:, 0] == pytest.approx(found[:, 1])
    predicted = predict(simulation, "valid", *features)
    labels = clips(simulation).table.query("partition == 'valid'")[list(EMOTIONS)].to_numpy()
    reached = [correlation(*pair) for pair in zip(labels.T, predicted.T, strict=True)]
    assert reached == pytest.approx(list(found[:, 0]), abs=0.07)
    assert np.mean(reached) == pytest.approx(found[:, 0].mean(), abs=0.03)


def test_where_there_are_bounds_the_oracle_lies_between():
    simulation = plan({"wav2vec2": 0.5}, patterns="mixed", **(SMALL | {"clips": (10, 3000, 0)}))
    found = bounds(simulation, "wav2vec2")
    predicted = predict(simulation, "valid", "wav2vec2")
    labels = clips(simulation).table.query("partition == 'valid'")[list(EMOTIONS)].to_numpy()
    reached = np.array([correlation(*pair) for pair in zip(labels.T, predicted.T, strict=True)])
    assert (found[:, 0] < found[:, 1]).any() and (found[:, 0] <= found[:, 1] + 1e-12).all()
    assert (reached > found[:, 0] - 0.06).all() and (reached < found[:, 1] + 0.06).all()


@pytest.mark.parametrize("features", [("resnet18+aus",), ("resnet18+aus", "wav2vec2")])
def test_the_oracle_lies_between_the_bounds_of_joined_sets_and_of_both_modalities(features):
    levels = {"resnet18": 0.4, "aus": 0.35, "wav2vec2": 0.5, "resnet18+aus": 0.45}
    simulation = plan(levels, patterns="mixed", **(SMALL | {"clips": (10, 4000, 0)}))
    (low, high), predicted = bounds(simulation, *features).T, predict(simulation, "valid", *features)
    labels = clips(simulation).table.query("partition == 'valid'")[list(EMOTIONS)].to_numpy()
    reached = np.array([correlation(*pair) for pair in zip(labels.T, predicted.T, strict=True)])
    assert low.mean() - 0.01 < reached.mean() < high.mean() + 0.01
    assert (reached > low - 0.04).all() and (reached < high + 0.04).all()
    # A bracket that says something: the upper end not far above what is reached, the lower above any set alone.
    assert high.mean() - reached.mean() < 0.03
    alone = [bounds(simulation, name)[:, 0].mean() for each in features for name in each.split("+")]
    assert low.mean() > max(alone)


def test_the_widths_are_those_of_the_feature_sets_of_these_names():
    for name, width in simulated_features.WIDTHS.items():
        assert (width, simulated_features.MODALITY[name]) == (EXTRACTORS[name].width, EXTRACTORS[name].modality), name
    assert set(simulated_features.WIDTHS) == set(simulated_features.MODALITY)
    assert {34, 384, 512, 768, 1024} <= set(simulated_features.WIDTHS.values())


def test_drawn_features_hold_all_that_the_channels_hold():
    simulation = plan({"vit": 0.5}, patterns="mean", **SMALL)
    packed = draw(simulation, "vit", "valid")
    table = clips(simulation).table.query("partition == 'valid'")
    assert packed.values.dtype == np.float16 and len(packed.offsets) == len(table) + 1
    assert list(np.diff(packed.offsets)) == list(np.where(table["V"], table["steps"], 0))
    mixing, centre = simulated_features._mixing(simulation.seed, "vit", 12)
    unmixed = (packed.values.astype(np.float64) - centre) @ np.linalg.inv(mixing)
    places = np.flatnonzero(clips(simulation).table["partition"] == "valid")
    for number, channel in enumerate(simulated_features.channels(simulation, simulation.sets[0], places[:20])):
        if channel is not None:
            rows = slice(packed.offsets[number], packed.offsets[number + 1])
            assert unmixed[rows] == pytest.approx(channel, abs=0.02)


def test_the_seed_decides_and_nothing_else():
    simulation = plan({"vit": 0.3, "wav2vec2": 0.3}, **SMALL)
    one, again = draw(simulation, "vit", "train"), draw(simulation, "vit", "train")
    assert np.array_equal(one.values, again.values)
    clips.cache_clear(), simulated_features._mixing.cache_clear()
    alone = replace(simulation, sets=simulation.sets[:1])
    assert np.array_equal(one.values, draw(alone, "vit", "train").values), "another set's presence changes nothing"
    other = replace(simulation, seed=1)
    assert not np.array_equal(one.values[:100], draw(other, "vit", "train").values[:100])
    assert not np.array_equal(clips(simulation).latent, clips(other).latent)


def test_impossible_plans_are_refused_in_one_line():
    with pytest.raises(InputError, match="ceiling"):
        plan({"vit": 0.95}, **SMALL)
    with pytest.raises(InputError, match=r"resnet18\+aus: 0.05 is not between"):
        plan({"resnet18": 0.3, "aus": 0.3, "resnet18+aus": 0.05}, **SMALL)
    with pytest.raises(InputError, match="no pattern"):
        plan({"vit": 0.3}, patterns="wiggle", **SMALL)
    with pytest.raises(InputError, match="no simulated feature set 'smell'"):
        Simulation((SimulatedSet("smell", 10, (0.1,) * 6, ("mean",) * 6),))
    with pytest.raises(InputError, match="4 features cannot hold"):
        Simulation((SimulatedSet("vit", 4, (0.1,) * 6, ("mean",) * 6),))
    with pytest.raises(InputError, match="wav2vec2 was not simulated"):
        draw(plan({"vit": 0.3}, **SMALL), "wav2vec2", "train")
