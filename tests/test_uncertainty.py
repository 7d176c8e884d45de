"""Uncertainty: chance drawn anew against bootstraps, and choosing the epoch against no choice."""

import numpy as np
import pytest

from emibook.agreement import papers
from emibook.corpus.simulated import LEGIBLE
from emibook.rows import TABLE2, TABLE3
from emibook.uncertainty import differences, drawn_again, optimism, widths


def made(clips=3000, people=60, epochs=12, seed=0):
    """Labels, predictions of every epoch that are all equally good, and who is seen."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((clips, 6))
    predictions = 0.3 * truth + rng.standard_normal((epochs, clips, 6))
    return truth, predictions, [f"p{number % people}" for number in range(clips)]


def test_choosing_among_equals_is_optimistic_and_the_more_so_the_fewer_people():
    truth, predictions, participants = made()
    found = optimism(truth, predictions, participants, people=(3, 30), draws=100)
    assert found.loc[3, "optimism"] > found.loc[30, "optimism"] > 3 * found.loc[30, "error"] > 0
    # The greatest of twelve equals lies 1.63 standard deviations above them; of six emotions' mean, 1 / sqrt(6 n).
    expected = 1.63 * (1 - 0.09 / 1.09) / np.sqrt(6 * found.loc[30, "clips"])
    assert found.loc[30, "optimism"] == pytest.approx(expected, rel=0.35)


def test_where_there_is_nothing_to_choose_there_is_no_optimism():
    truth, predictions, participants = made(epochs=1)
    found = optimism(truth, predictions, participants, people=(10,), draws=60)
    assert found.loc[10, "optimism"] == pytest.approx(0, abs=1e-12)


def test_legible_people_make_chance_wider_and_only_their_bootstrap_sees_it():
    rows, clips = [("wav2vec2",)], (3, 1500, 0)
    alike, differing = (widths(papers(0.0, clips, legible=legible), rows, 40, samples=3).iloc[0]
                        for legible in (0.0, 6 * LEGIBLE))  # fmt: skip
    assert alike["clips"] == pytest.approx(differing["clips"], rel=0.3)
    assert differing["participants"] > 1.25 * differing["clips"]
    assert differing["anew"] > 1.2 * alike["anew"]
    assert alike["mean"] == pytest.approx(0.2808, abs=0.02)


def test_rows_drawn_again_share_their_clips():
    scores = drawn_again(papers(0.0, (3, 800, 0)), [("aus",), ("resnet18+aus",), ("wav2vec2",)], 30)
    assert np.corrcoef(scores[:, 0], scores[:, 1])[0, 1] > np.corrcoef(scores[:, 0], scores[:, 2])[0, 1] + 0.2


def test_every_row_stands_beside_those_that_it_is_compared_with(monkeypatch):
    monkeypatch.setattr("emibook.uncertainty.PAPERS_CLIPS", (3, 600, 0))
    found = differences(0.0, 0.0, 6)
    pairs = set(zip(found["features"], found["beside"], strict=True))
    assert {(row.features, row.against) for row in (*TABLE2, *TABLE3) if row.against} <= pairs
    assert ("resnet18+aus & wav2vec2", "aus & wav2vec2") in pairs and ("aus & wav2vec2", "wav2vec2") in pairs
    gain = found.set_index(["features", "beside"]).loc[("resnet18+aus", "aus")]
    assert gain["difference"] == pytest.approx(0.0127, abs=1e-9) and gain["larger"] == (0.0127 > gain["anew"])
