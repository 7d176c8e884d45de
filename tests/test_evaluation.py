from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas
import pytest

from emibook import InputError
from emibook.evaluation import (
    CLIPS,
    Bootstrap,
    bootstrap_interval,
    clusters,
    halves,
    paired_difference,
    resampled,
    weighted_pearson,
)
from emibook.metrics import pearson

RNG = np.random.default_rng(0)


def people(count: int, clips: int, seed: int, within: float = 0.0, emotions: int = 2, rho: float = 0.5):
    """Labels and predictions that correlate by ``rho``; a share ``within`` of their variance is the person's own."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(count), clips)

    def drawn():
        shape = (len(who), emotions)
        person = rng.normal(size=(count, emotions))[who]
        return np.sqrt(within) * person + np.sqrt(1 - within) * rng.normal(size=shape)

    truth, other = drawn(), drawn()
    return truth, rho * truth + np.sqrt(1 - rho**2) * other, [f"p{number}" for number in who]


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_weighted_correlation_equals_the_plain_one_on_the_resampled_rows(offset):
    truth, first, who = people(9, 4, seed=1, emotions=3)
    predictions = np.stack([first, first + RNG.normal(size=first.shape)]) + offset
    groups, _ = clusters(who)
    weights = np.random.default_rng(2).multinomial(9, np.full(9, 1 / 9), size=25)
    fast = weighted_pearson(truth, predictions, weights, groups)
    for draw in range(25):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in range(9) for _ in range(weights[draw, g])])
        for seed in range(2):
            np.testing.assert_allclose(fast[draw, seed], pearson(truth[rows], predictions[seed, rows]), atol=1e-8)


def test_interval_holds_its_mean_and_is_the_same_for_the_same_seed_and_any_order_of_clips():
    truth, prediction, who = people(20, 3, seed=3)
    interval = bootstrap_interval(truth, [prediction], who)
    assert interval.low < interval.mean < interval.high and interval.over == "participants" and interval.dropped == 0
    assert interval.mean == pytest.approx(pearson(truth, prediction).mean())
    assert bootstrap_interval(truth, [prediction], who) == interval
    order = RNG.permutation(60)
    moved = bootstrap_interval(truth[order], [prediction[order]], [who[clip] for clip in order])
    assert (moved.low, moved.high) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_seeds_are_averaged_and_drawn():
    truth, first, who = people(20, 3, seed=4)
    second = first + RNG.normal(size=first.shape)
    both = bootstrap_interval(truth, [first, second], who)
    alone = [bootstrap_interval(truth, [prediction], who).mean for prediction in (first, second)]
    assert both.mean == pytest.approx(np.mean(alone))
    groups, _ = clusters(who)
    scores = [resampled(truth, np.stack([p]), groups, 50, np.random.default_rng(5)) for p in (first, second)]
    together = resampled(truth, np.stack([first, second]), groups, 50, np.random.default_rng(5))
    # In a draw of two seeds either comes twice or both once.
    options = np.stack([scores[0], scores[1], np.mean(scores, axis=0)])
    apart = np.abs(options - together)
    assert (apart.min(axis=0) < 1e-12).all() and len(set(apart.argmin(axis=0))) == 3


def test_seeds_that_differ_widen_the_interval():
    truth, first, who = people(60, 3, seed=14)
    seeds = [first + noise * RNG.normal(size=first.shape) for noise in (0.0, 0.3, 1.5)]
    together = bootstrap_interval(truth, seeds, who)
    widths = [bootstrap_interval(truth, [each], who) for each in seeds]
    assert together.high - together.low > 1.3 * np.mean([each.high - each.low for each in widths])


def test_a_difference_is_paired():
    """What is hard for both cancels: the interval of the difference is narrower than the two apart would make it."""
    truth, first, who = people(40, 4, seed=15)
    worse = first + 0.7 * np.random.default_rng(16).normal(size=first.shape)
    gain = paired_difference(truth, [first], [worse], who)
    each = [bootstrap_interval(truth, [prediction], who) for prediction in (first, worse)]
    assert gain.mean == pytest.approx(each[0].mean - each[1].mean) and gain.low <= gain.mean <= gain.high
    apart = np.hypot(*(interval.high - interval.low for interval in each))
    assert gain.low > 0 and gain.high - gain.low < 0.8 * apart
    back = paired_difference(truth, [worse], [first], who)
    assert (back.low, back.high) == pytest.approx((-gain.high, -gain.low))
    same = paired_difference(truth, [first], [first], who)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    with pytest.raises(InputError, match="1 seeds against 2"):
        paired_difference(truth, [first], [first, worse], who)


def test_a_difference_within_halves_is_the_mean_of_both_never_pooled():
    """One side lies at another level in either half, which a correlation over both would mistake for error."""
    truth, first, who = people(40, 4, seed=21)
    half = halves(who)
    moved = first + 50 * half[:, None]
    gain = paired_difference(truth, [moved], [first], who, half=half)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0, 0, 0), abs=1e-9) and gain.over == "participants"
    assert paired_difference(truth, [moved], [first], who).high < -0.1
    worse = first + 0.7 * np.random.default_rng(16).normal(size=first.shape)
    gain = paired_difference(truth, [first], [worse], who, half=half)
    expected = [pearson(truth[half == n], first[half == n]).mean() - pearson(truth[half == n], worse[half == n]).mean()
                for n in (0, 1)]
    assert gain.mean == pytest.approx(np.mean(expected)) and 0 < gain.low < gain.mean < gain.high
    assert paired_difference(truth, [first], [worse], [""] * len(who), half=half).over == CLIPS


def test_where_there_is_no_difference_the_interval_misses_zero_as_rarely_as_it_says():
    misses = 0
    for seed in range(200):
        truth, first, who = people(24, 6, seed=300 + seed, within=0.5, emotions=1)
        noise = np.random.default_rng(seed).normal(size=(2, *first.shape))
        gain = paired_difference(truth, [first + noise[0]], [first + noise[1]], who,
                                 bootstrap=Bootstrap(draws=300, seed=seed))
        misses += not gain.low <= 0 <= gain.high
    assert 0.01 <= misses / 200 <= 0.11


def test_halves_hold_whole_participants_about_as_many_clips_and_never_change():
    who = [f"p{n}" for n in np.random.default_rng(17).integers(0, 31, 400)]
    half = halves(who)
    assert all(len({h for h, w in zip(half, who, strict=True) if w == person}) == 1 for person in who)
    assert abs(half.mean() - 0.5) < 0.05
    np.testing.assert_array_equal(halves(who), half)
    unknown = halves([""] * 9)
    assert sorted(np.bincount(unknown)) == [4, 5]


def test_width_shrinks_with_people_and_grows_with_the_level():
    widths = []
    for count in (10, 160):
        truth, prediction, who = people(count, 3, seed=6)
        wide = bootstrap_interval(truth, [prediction], who, bootstrap=Bootstrap(level=0.99))
        narrow = bootstrap_interval(truth, [prediction], who, bootstrap=Bootstrap(level=0.8))
        assert wide.high - wide.low > narrow.high - narrow.low
        widths.append(wide.high - wide.low)
    assert 2 < widths[0] / widths[1] < 8  # the root of 16 is 4


def coverage(within: float, as_clips: bool) -> float:
    hits = 0
    for seed in range(200):
        truth, prediction, who = people(24, 6, seed=100 + seed, within=within, emotions=1, rho=0.4)
        known = [""] * len(who) if as_clips else who
        interval = bootstrap_interval(truth, [prediction], known, bootstrap=Bootstrap(draws=300, seed=seed))
        hits += interval.low <= 0.4 <= interval.high
    return hits / 200


def test_covers_the_truth_as_often_as_it_says_where_people_resemble_themselves_and_clips_do_not():
    """At 200 simulations a coverage of .95 is seen between .91 and .98; drawing few people errs a little low.

    With half of the variance a person's own, an interval over clips is too narrow, which is what its label says.
    """
    assert 0.88 <= coverage(0.5, as_clips=False) <= 0.985
    assert coverage(0.5, as_clips=True) < 0.85
    assert 0.88 <= coverage(0.0, as_clips=False) <= 0.985


def test_unknown_people_are_drawn_as_clips_and_labelled():
    truth, prediction, who = people(10, 4, seed=7, within=0.7)
    known = bootstrap_interval(truth, [prediction], who)
    for unknown in ([""] * 40, [*who[:-1], ""], ["one"] * 40):
        interval = bootstrap_interval(truth, [prediction], unknown)
        assert interval.over == CLIPS and interval.high - interval.low < known.high - known.low


def test_the_label_says_how_much_too_narrow_as_the_kept_results_do():
    kept = Path(__file__).parents[1] / "book" / "results" / "people_correlations.csv"
    table = pandas.read_csv(kept).dropna()
    wider = ((table["high"] - table["low"]) / (table["high_by_clip"] - table["low_by_clip"])).mean()
    assert f"by participants {wider:.1f} times as wide on CREMA-D" in CLIPS


def test_draws_without_variation_are_dropped_and_counted():
    truth, prediction, who = people(8, 2, seed=8)
    truth[:, 1] = 0
    truth[0, 1] = 1  # one clip of one person: drawn with a chance of 1 - (7/8)^8 = .66
    interval = bootstrap_interval(truth, [prediction], who, bootstrap=Bootstrap(draws=1000))
    assert 0.25 < interval.dropped / 1000 < 0.45 and np.isfinite([interval.low, interval.high]).all()
    prediction[:, 0] = 0.1
    with pytest.warns(RuntimeWarning, match="Joy has no correlation"):
        nothing = bootstrap_interval(truth, [prediction], who, bootstrap=Bootstrap(draws=50),
                                     names=("Joy", "Amusement"))
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all() and nothing.dropped == 50


def test_no_warning_on_good_input_and_refusal_of_what_does_not_fit():
    truth, prediction, who = people(6, 3, seed=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bootstrap_interval(truth, [prediction], who, bootstrap=Bootstrap(draws=50))
    for wrong in (([], who), ([prediction[:-1]], who), ([prediction], who[:-1])):
        with pytest.raises(InputError, match="do not fit"):
            bootstrap_interval(truth, *wrong)


def test_the_challenge_at_full_size_takes_seconds():
    truth, prediction, _ = people(4588, 1, seed=10, emotions=6)
    interval = bootstrap_interval(truth, [prediction] * 2, [f"p{n % 150}" for n in range(4588)])
    assert interval.draws == 2000 and interval.dropped == 0
