"""The benchmark of training: the plain loop is the same training, and what is said of a GPU is counted right."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_gpu import a_gpu  # noqa: F401 (the fixture gpu)
from torch.utils.flop_counter import FlopCounterMode

from emibook.experiments.paper_rows import chosen_rows
from emibook.models import IntensityRegressor, rebuild, transformer
from emibook.sequences.packed import Feed
from emibook.training.loop import Recipe, gradient

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gpu as bounds  # noqa: E402
import noise  # noqa: E402
import train as benchmark  # noqa: E402

WIDTH, CLIPS = 10, 12
RECIPE = Recipe("t", learning_rate=1e-3, batch=CLIPS, epochs=30)


@pytest.fixture(autouse=True)
def one_thread():
    """Counters see only the thread that they were started in."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def part(monkeypatch):
    """A set of clips of half a second."""
    monkeypatch.setattr(noise, "SECONDS", 0.5)
    return noise.noise(CLIPS, WIDTH)


def test_the_plain_loop_has_every_weight_of_ours_and_the_same_gradients():
    ours = IntensityRegressor(WIDTH)
    plain = benchmark.Plain(ours)
    pairs = list(plain.pairs(ours))
    assert {id(one) for one, _ in pairs} == {id(each) for each in plain.parameters()}
    assert {id(other) for _, other in pairs} == {id(each) for each in ours.parameters()}
    assert all(torch.equal(one, other) for one, other in pairs)
    assert benchmark.gradients_apart("float32") < 1e-5


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


def test_every_way_is_trained_with_every_seed(monkeypatch):
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


@pytest.mark.parametrize("options", [{}, {"transformer_layers": 0}, {"kind": "recurrent"}, {"kind": "linear"}], ids=str)
def test_operations_are_those_that_pytorch_counts(options, part, monkeypatch):
    model = rebuild({"kind": "regressor", "in_features": WIDTH, "targets": noise.TARGETS, **options})
    feed = bounds.Noted(part, "cpu")
    # Attention made of plain products, which the counter knows, without the columns that spare a softmax.
    monkeypatch.setattr(transformer, "_by_products", lambda query, key, value, keys: (
        query @ key.transpose(-1, -2)).masked_fill(~keys, -torch.inf).softmax(dim=-1) @ value)
    with FlopCounterMode(display=False) as counter:
        gradient(model, feed, np.arange(CLIPS), replace(RECIPE, precision="bfloat16"))
    # A recurrent network's state before the first step needs no gradient, which is one step less than counted.
    spared = 2 * CLIPS * 3 * 128 * 128 if options.get("kind") == "recurrent" else 0
    assert len(set(feed.shapes)) > 1
    assert sum(bounds.operations(model, *shape) for shape in feed.shapes) == counter.get_total_flops() + spared


def test_bytes_are_what_operators_read_and_write():
    one, other = torch.zeros(100, 8), torch.zeros(100, 8)
    size = one.numel() * 4
    cases = {
        lambda: one + other: 3 * size,
        lambda: one.add_(other): 3 * size,
        lambda: one.bfloat16(): 1.5 * size,
        lambda: one @ other.T: 2 * size + 100 * 100 * 4,
        lambda: one.view(8, 100).T.unsqueeze(0): 0,
        lambda: torch.empty(1000): 0,
        lambda: one[:, :1].expand(100, 8) + other: 100 * 4 + 2 * size,
        lambda: one.index_select(0, torch.tensor([3, 5])): 2 * 2 * 8 * 4,
    }
    for case, expected in cases.items():
        with bounds.Counted("cpu") as counted:
            case()
        assert counted.bytes == expected
    with bounds.Counted("cuda") as counted:  # what runs elsewhere is not counted
        one.add_(other)
    assert counted.bytes == counted.operators == 0


def test_an_optimizer_reads_and_writes_its_moments():
    weight = torch.nn.Parameter(torch.zeros(1000))
    weight.grad = torch.ones(1000)
    optimizer = torch.optim.Adam([weight], fused=True)
    optimizer.step()
    with bounds.Counted("cpu") as counted:
        optimizer.step()
    assert counted.bytes == pytest.approx(4000 * (4 + 3), rel=0.2)  # weight, gradient, two moments; not the gradient


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.7, 0.2, 0.1), bounds.MATRIX),
        ((0.1, 0.5, 0.4), bounds.MEMORY),
        ((0.1, 0.6, 0.9), bounds.HOST),
        ((0.3, 0.49, 0.1), "none"),
    ],
)
def test_what_bounds_an_epoch(shares, expected):
    said = bounds.bound(dict(zip((bounds.MATRIX, bounds.MEMORY, bounds.HOST), shares, strict=True)))
    assert said.startswith(expected)


def test_a_run_is_reckoned_from_two_short_ones():
    start, epoch = 3.0, 0.25
    few, more = (start + epochs * epoch for epochs in bounds.TIMED)
    assert bounds.run_seconds(few, more, 30) == pytest.approx(start + 30 * epoch)
    # A rate is halved after epoch 11 at the earliest, if the first was the best; two halves then have 19 of their own.
    assert bounds.longest(RECIPE) == pytest.approx((30 + 2 * 19) / 30)
    assert bounds.longest(replace(RECIPE, epochs=8)) == 1


def test_all_of_it_runs_where_there_is_a_gpu(gpu, part, monkeypatch):
    names = ["vit (baseline)", "resnet18+aus", "wav2vec2 (baseline)", "wav2vec2"]
    few = chosen_rows(names)
    small = {"SIDE": 16, "COPIED": 64, "STARTED": 5, "TIMED": (1, 2), "WIDTHS": dict.fromkeys(bounds.WIDTHS, 6),
             "chosen_rows": lambda: few}
    for name, value in small.items():
        monkeypatch.setattr(bounds, name, value)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    epoch = bounds.told_epoch(IntensityRegressor(WIDTH), part, RECIPE, 1.0)
    assert "bound by" in epoch[-1]
    lines = list(bounds.told_tables((CLIPS, CLIPS)))
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
