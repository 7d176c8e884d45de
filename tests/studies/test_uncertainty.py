"""Uncertainty: replications against bootstraps, and choosing the epoch against no choice."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from emibook import InputError
from emibook.experiments.paper_rows import TABLE2, TABLE3
from emibook.studies import uncertainty
from emibook.studies.simulation.features import BETWEEN_PERSON_SD
from emibook.studies.simulation.sizes import Size
from emibook.studies.table3_from_table2 import table2_simulation
from emibook.studies.uncertainty import (
    RECIPE,
    OptimismStudy,
    differences,
    epoch_optimism,
    optimism,
    replicated_scores,
    widths,
)

CLIPS = 500
QUICK = replace(RECIPE, epochs=2, batch=32)
SMALL = Size("small", (120, 150, 150), 8, 2.0, 8)


def made(clips=3000, people=60, epochs=12, seed=0):
    """Labels, predictions of every epoch that are all equally good, and who is seen."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((clips, 6))
    predictions = 0.3 * truth + rng.standard_normal((epochs, clips, 6))
    return truth, predictions, [f"p{number % people}" for number in range(clips)]


def test_choosing_among_equals_is_optimistic_and_the_more_so_the_fewer_people():
    truth, predictions, participants = made()
    found = optimism(truth, predictions, participants, counts=(3, 30), draws=100)
    assert found.loc[3, "optimism"] > found.loc[30, "optimism"] > 3 * found.loc[30, "standard_error"] > 0
    # The greatest of twelve equals lies 1.63 standard deviations above them; of six emotions' mean, 1 / sqrt(6 n).
    expected = 1.63 * (1 - 0.09 / 1.09) / np.sqrt(6 * found.loc[30, "clips"])
    assert found.loc[30, "optimism"] == pytest.approx(expected, rel=0.35)


def test_where_there_is_nothing_to_choose_there_is_no_optimism():
    truth, predictions, participants = made(epochs=1)
    found = optimism(truth, predictions, participants, counts=(10,), draws=60)
    assert found.loc[10, "optimism"] == pytest.approx(0, abs=1e-12)


def test_so_few_people_that_no_draw_can_be_scored_are_refused():
    truth, predictions, participants = made(clips=40, people=4)
    with pytest.raises(InputError, match=r"with 1 people a side, 0 of 500 draws .* take more clips"):
        optimism(np.where(np.arange(40)[:, None] < 1, truth, 0.0), predictions, participants, counts=(1,), draws=10)


@pytest.mark.parametrize(("size", "people"), [(SMALL, [5]), (replace(SMALL, clips=(120, 90, 90)), [3])])
def test_as_many_people_choose_as_there_are(size, people, tmp_path):
    found = epoch_optimism(tmp_path, OptimismStudy(size, 60, QUICK), progress=False)
    assert list(found["participants"]) == people and np.isfinite(found).all(axis=None)


def test_people_of_whom_nobody_is_left_to_ask_are_refused(tmp_path):
    with pytest.raises(InputError, match="1 people on 30 validation and test clips; two are the least"):
        epoch_optimism(tmp_path, OptimismStudy(replace(SMALL, clips=(120, 30, 0)), recipe=QUICK), progress=False)


def test_predictions_are_kept_by_all_that_decides_them(tmp_path, monkeypatch):
    study = OptimismStudy(SMALL, 60, QUICK, seeds=(0,))
    found = epoch_optimism(tmp_path, study, progress=False)
    others = [{"train_clips": 50}, {"recipe": replace(QUICK, learning_rate=3e-3)}, {"recipe": replace(QUICK, epochs=3)},
              {"seeds": (1,)}, {"size": replace(SMALL, width=7)}]  # fmt: skip
    for other in others:
        assert not epoch_optimism(tmp_path, replace(study, **other), progress=False).equals(found), other
    monkeypatch.setattr(uncertainty, "_epochs", None)
    assert epoch_optimism(tmp_path, study, progress=False).equals(found)


def test_the_error_is_that_among_trainings_and_not_among_draws_of_one(tmp_path):
    study = OptimismStudy(SMALL, 60, QUICK, seeds=(0, 1, 2))
    each = [epoch_optimism(tmp_path, replace(study, seeds=(seed,)), progress=False) for seed in (0, 1, 2)]
    found = epoch_optimism(tmp_path, study, progress=False)
    by_seed = np.array([one["optimism"] for one in each])
    assert list(found["optimism"]) == pytest.approx(list(by_seed.mean(axis=0)))
    assert list(found["standard_error"]) == pytest.approx(list(by_seed.std(axis=0, ddof=1) / np.sqrt(3)))
    assert list(found["reported"]) == pytest.approx(list(np.mean([one["reported"] for one in each], axis=0)))
    assert each[0]["standard_error"].isna().all(), "of one training it is not known"


def test_the_training_is_where_the_gpu_is(tmp_path, monkeypatch):
    devices = []
    monkeypatch.setattr(uncertainty, "on_device", lambda: "cpu:0")
    feed = uncertainty.Feed
    monkeypatch.setattr(uncertainty, "Feed", lambda part, device: devices.append(device) or feed(part, device))
    epoch_optimism(tmp_path, OptimismStudy(SMALL, 60, QUICK, seeds=(0,)), progress=False)
    assert devices == ["cpu:0"] * 3


def independent(simulation, name, clips=CLIPS):
    """(clip, emotion) independent normal numbers, the same for one sample and name."""
    return np.random.default_rng([simulation.seed, zlib.crc32(name.encode())]).standard_normal((clips, 6))


@pytest.fixture
def known(monkeypatch):
    """Predictions of which nothing is right: six correlations, independent, of standard deviation 1 / sqrt(n - 1)."""
    monkeypatch.setattr(uncertainty.simulated_features, "labels", lambda plan, _: independent(plan, "labels"))
    monkeypatch.setattr(uncertainty, "predict_from_scores", lambda plan, _, name: independent(plan, name))
    return 1 / np.sqrt(6 * (CLIPS - 1))


def test_a_width_that_is_known_is_found_anew_and_by_either_bootstrap(known):
    found = widths(table2_simulation(0.0, (3, CLIPS, 0)), [("aus",), ("aus", "wav2vec2")], 500, samples=40)
    for column, tolerance in (("replications", 0.1), ("clips", 0.05), ("participants", 0.15)):
        assert list(found[column]) == pytest.approx([2 * 1.96 * known] * 2, rel=tolerance), column
    assert list(found["mean"]) == pytest.approx([0, 0], abs=4 * known / np.sqrt(500))


def test_what_chance_does_to_a_difference_is_found_where_it_is_known(known):
    found = differences(0.0, 0.0, 500, (3, CLIPS, 0)).set_index(["features", "compared_with"])["margin"]
    # Of independent rows variances add up; half of an average of two is the sound itself.
    assert found["resnet18", "vit"] == pytest.approx(1.96 * np.sqrt(2) * known, rel=0.1)
    shared = np.sqrt(1 / 2 + (1 - 1 / np.sqrt(2)) ** 2)
    assert found["aus & wav2vec2", "wav2vec2"] == pytest.approx(1.96 * shared * known, rel=0.1)


def test_legible_people_make_chance_wider_and_only_their_bootstrap_sees_it():
    rows, clips = [("wav2vec2",)], (3, 1500, 0)
    alike, differing = (widths(table2_simulation(0.0, clips, between_person_sd=sd), rows, 40, samples=3).iloc[0]
                        for sd in (0.0, 6 * BETWEEN_PERSON_SD))  # fmt: skip
    assert alike["clips"] == pytest.approx(differing["clips"], rel=0.3)
    assert differing["participants"] > 1.25 * differing["clips"]
    assert differing["replications"] > 1.2 * alike["replications"]
    assert alike["mean"] == pytest.approx(0.2808, abs=0.02)


def test_rows_drawn_again_share_their_clips():
    scores = replicated_scores(table2_simulation(0.0, (3, 800, 0)), [("aus",), ("resnet18+aus",), ("wav2vec2",)], 30)
    assert np.corrcoef(scores[:, 0], scores[:, 1])[0, 1] > np.corrcoef(scores[:, 0], scores[:, 2])[0, 1] + 0.2


def test_every_row_stands_beside_those_that_it_is_compared_with():
    found = differences(0.0, 0.0, 6, (3, 600, 0))
    pairs = set(zip(found["features"], found["compared_with"], strict=True))
    assert {(row.features, row.against) for row in (*TABLE2, *TABLE3) if row.against} <= pairs
    assert ("resnet18+aus & wav2vec2", "aus & wav2vec2") in pairs and ("aus & wav2vec2", "wav2vec2") in pairs
    gain = found.set_index(["features", "compared_with"]).loc[("resnet18+aus", "aus")]
    assert gain["difference"] == pytest.approx(0.0127, abs=1e-9) and gain["larger"] == (0.0127 > gain["margin"])
