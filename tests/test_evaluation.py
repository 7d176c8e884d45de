from __future__ import annotations

import warnings

import numpy as np
import pytest

from emibook import InputError
from emibook.evaluation import CLIPS, bootstrap_interval, clusters, resampled, weighted_pearson
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


def test_seeds_are_averaged():
    truth, first, who = people(20, 3, seed=4)
    second = first + RNG.normal(size=first.shape)
    both = bootstrap_interval(truth, [first, second], who)
    alone = [bootstrap_interval(truth, [prediction], who).mean for prediction in (first, second)]
    assert both.mean == pytest.approx(np.mean(alone))
    groups, _ = clusters(who)
    scores = [resampled(truth, np.stack([p]), groups, 50, np.random.default_rng(5)) for p in (first, second)]
    together = resampled(truth, np.stack([first, second]), groups, 50, np.random.default_rng(5))
    np.testing.assert_allclose(together, np.mean(scores, axis=0))


def test_width_shrinks_with_people_and_grows_with_the_level():
    widths = []
    for count in (10, 160):
        truth, prediction, who = people(count, 3, seed=6)
        wide = bootstrap_interval(truth, [prediction], who, level=0.99)
        narrow = bootstrap_interval(truth, [prediction], who, level=0.8)
        assert wide.high - wide.low > narrow.high - narrow.low
        widths.append(wide.high - wide.low)
    assert 2 < widths[0] / widths[1] < 8  # the root of 16 is 4


def coverage(within: float, as_clips: bool) -> float:
    hits = 0
    for seed in range(200):
        truth, prediction, who = people(24, 6, seed=100 + seed, within=within, emotions=1, rho=0.4)
        interval = bootstrap_interval(truth, [prediction], [""] * len(who) if as_clips else who, draws=300, seed=seed)
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


def test_draws_without_variation_are_dropped_and_counted():
    truth, prediction, who = people(8, 2, seed=8)
    truth[:, 1] = 0
    truth[0, 1] = 1  # one clip of one person: drawn with a chance of 1 - (7/8)^8 = .66
    interval = bootstrap_interval(truth, [prediction], who, draws=1000)
    assert 0.25 < interval.dropped / 1000 < 0.45 and np.isfinite([interval.low, interval.high]).all()
    prediction[:, 0] = 0.1
    with pytest.warns(RuntimeWarning, match="Joy has no correlation"):
        nothing = bootstrap_interval(truth, [prediction], who, draws=50, names=("Joy", "Amusement"))
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all() and nothing.dropped == 50


def test_no_warning_on_good_input_and_refusal_of_what_does_not_fit():
    truth, prediction, who = people(6, 3, seed=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bootstrap_interval(truth, [prediction], who, draws=50)
    for wrong in (([], who), ([prediction[:-1]], who), ([prediction], who[:-1])):
        with pytest.raises(InputError, match="do not fit"):
            bootstrap_interval(truth, *wrong)


def test_the_challenge_at_full_size_takes_seconds():
    truth, prediction, _ = people(4588, 1, seed=10, emotions=6)
    interval = bootstrap_interval(truth, [prediction] * 2, [f"p{n % 150}" for n in range(4588)])
    assert interval.draws == 2000 and interval.dropped == 0
