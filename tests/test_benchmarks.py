"""The benchmark of training: the plain loop is the same training, and the GPU's part of it runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended import a_gpu  # noqa: F401 (the fixture gpu)

from emibook.experiments.paper_rows import chosen_rows
from emibook.models import IntensityRegressor
from emibook.sequences.packed import Feed
from emibook.training import Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gpu as tables  # noqa: E402
import noise  # noqa: E402
import train as benchmark  # noqa: E402

WIDTH, CLIPS = 10, 12
RECIPE = Recipe("t", learning_rate=1e-3, batch=CLIPS, epochs=30)


@pytest.fixture
def part(monkeypatch):
    """A set of clips of half a second."""
    monkeypatch.setattr(noise, "SECONDS", 0.5)
    return noise.noise(CLIPS, WIDTH)


def test_the_plain_loop_has_every_weight_of_ours_and_the_same_gradients():
    ours = IntensityRegressor(WIDTH)
    plain = benchmark.Plain(ours)
    pairs = list(plain.pairs(ours))
    assert {id(one) for one, _ in pairs} == {id(weight) for weight in plain.parameters()}
    assert {id(other) for _, other in pairs} == {id(weight) for weight in ours.parameters()}
    assert all(torch.equal(one, other) for one, other in pairs)
    assert benchmark.gradient_difference("float32") < 1e-5


def test_both_loops_take_the_same_steps_in_float32(part):
    torch.manual_seed(0)
    ours = IntensityRegressor(WIDTH)
    plain = benchmark.Plain(ours)
    batches = np.split(np.arange(CLIPS), 3) * 2
    for epoch, model in ((benchmark.ours_epoch, ours), (benchmark.plain_epoch, plain)):
        for _ in epoch(model, part, RECIPE, batches, "cpu"):
            pass
    for one, other in plain.pairs(ours):
        # Adam's first steps are of the rate's size whatever the gradient's, so rounding turns some that are near zero.
        assert (one - other).norm() < 1e-3 * one.norm() + 1e-5


def test_every_loop_and_precision_is_trained_with_every_seed(monkeypatch):
    for name, small in {"SMALL": 32, "SMALL_VALID": 16, "SEEDS": 2, "EARLY": 1}.items():
        monkeypatch.setattr(benchmark, name, small)
    monkeypatch.setattr(benchmark, "native_precision", lambda device: "bfloat16")
    cosines, scores = benchmark.alike()
    assert len(cosines) == 2 and min(cosines) > 0.99
    assert list(scores) == ["plain", "ours", "ours in float32", "plain in bfloat16"]
    assert scores["plain"] != scores["plain in bfloat16"]
    # Three steps from the same weights: the loops are the same but for rounding.
    np.testing.assert_allclose(scores["ours in float32"], scores["plain"], atol=1e-3)


def test_the_paired_difference_has_students_interval():
    mean, low, high = benchmark.paired([0.3, 0.5, 0.4], [0.2, 0.5, 0.2])
    assert mean == pytest.approx(0.1)
    assert [high - mean, mean - low] == pytest.approx(2 * [4.3027 * 0.1 / np.sqrt(3)], rel=1e-4)


def test_a_runs_time_is_computed_from_two_short_ones():
    start, epoch = 3.0, 0.25
    few, more = (start + epochs * epoch for epochs in tables.TIMED)
    assert tables.run_seconds(few, more, 30) == pytest.approx(start + 30 * epoch)
    # A learning rate is halved after epoch 11 at the earliest, if the first was the best; two forks have 19 more each.
    assert tables.longest(RECIPE) == pytest.approx((30 + 2 * 19) / 30)
    assert tables.longest(replace(RECIPE, epochs=8)) == 1


def test_the_tables_are_timed_where_there_is_a_gpu(gpu, part, monkeypatch):
    names = ["vit (baseline)", "resnet18+aus", "wav2vec2 (baseline)", "wav2vec2"]
    few = chosen_rows(names)
    small = {"TIMED": (1, 2), "WIDTHS": dict.fromkeys(tables.WIDTHS, 6), "chosen_rows": lambda: few}
    for name, value in small.items():
        monkeypatch.setattr(tables, name, value)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    lines = list(tables.tables_report((CLIPS, CLIPS)))
    assert [line[5:25].strip() for line in lines[1:-1]] == names
    assert "every row of both tables" in lines[-1]


def test_without_a_gpu_the_table_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = list(benchmark.on_gpu(tmp_path, CLIPS))
    assert len(lines) == 2 and all("not measured yet" in line for line in lines)


def test_the_noise_is_as_long_as_the_data_set():
    lengths = noise.lengths_like_the_data(20_000, np.random.default_rng(0), noise.SECONDS * noise.RATE)
    assert lengths.mean() / noise.RATE == pytest.approx(6.9, abs=0.2)
    assert lengths.max() == noise.STEPS


def test_a_packed_set_is_the_one_in_memory(part, tmp_path):
    noise.packed(tmp_path / "train.safetensors", CLIPS, WIDTH)
    again = noise.opened(tmp_path / "train.safetensors")
    np.testing.assert_array_equal(again.values, part.values)
    np.testing.assert_array_equal(again.targets, part.targets)
    assert len(Feed(again, "cpu").batch(np.arange(2))) == 2
