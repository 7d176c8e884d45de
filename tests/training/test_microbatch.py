"""Batches in microbatches: the same gradient and the same predictions as whole batches or single clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_loop import AUDIO, QUICK, VIDEO, run

from emibook.models import rebuild
from emibook.sequences.packed import Feed
from emibook.training import load_model, microbatch, predict
from emibook.training.losses import LOSSES


def test_every_validation_clip_counts_once_in_any_order(sequences, tmp_path, monkeypatch):
    run(sequences, tmp_path)
    model, valid = load_model(tmp_path), sequences[1]
    whole = predict(model, valid)
    assert len(whole) == 18
    np.testing.assert_array_equal(predict(model, valid), whole)
    monkeypatch.setitem(microbatch.PREDICTION_STEPS, "cpu", 40)  # a few clips at a time
    np.testing.assert_allclose(predict(model, valid), whole, atol=1e-5)
    order = np.random.default_rng(0).permutation(18)
    rows = [valid.values[valid.offsets[clip] : valid.offsets[clip + 1]] for clip in order]
    shuffled = replace(
        valid,
        values=np.concatenate(rows),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        targets=valid.targets[order],
        clips=tuple(valid.clips[clip] for clip in order),
    )
    np.testing.assert_allclose(predict(model, shuffled), whole[order], atol=1e-5)


def test_microbatches_have_few_lengths(sequences, monkeypatch):
    """Lengths above a multiple are rounded up to one: a CPU's kernels are compiled for each new shape."""
    lengths, batch = [], Feed.batch

    def noted(feed, clips, *given, **options):
        values, mask = batch(feed, clips, *given, **options)
        lengths.append(mask.shape[1])
        return values, mask

    monkeypatch.setattr(Feed, "batch", noted)
    monkeypatch.setattr(microbatch, "PAD_MULTIPLE", 5)
    network = rebuild({**VIDEO, "in_features": 4, "targets": 2})
    longest = sequences[0].lengths.max()
    microbatch.gradient(network, Feed(sequences[0], "cpu"), np.arange(30), QUICK)
    assert longest > 5 and set(lengths) and all(length % 5 == 0 or length < 5 for length in lengths)
    assert (sequences[0].lengths % 5).any()


@pytest.mark.parametrize("loss", ["mse", "mae", "pearson", "ccc"])
@pytest.mark.parametrize("model", [AUDIO, VIDEO, {"kind": "recurrent", "channels": 8}])
def test_microbatches_add_up_to_the_gradient_of_the_batch(sequences, monkeypatch, model, loss):
    """Each loss written out over the whole padded batch at once."""
    recipe, clips = replace(QUICK, loss=loss), np.array([7, 0, 12, 29, 5, 18, 21, 4, 3])
    torch.manual_seed(0)
    network = rebuild({**model, "in_features": 4, "targets": 2})
    feed = Feed(sequences[0], "cpu")
    network.zero_grad()
    total = microbatch.gradient(network, feed, clips, recipe)
    ours = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    p, y = network(*feed.batch(clips)), torch.from_numpy(sequences[0].targets[clips])
    deviations = p.std(0, correction=0), y.std(0, correction=0)
    covariance = ((p - p.mean(0)) * (y - y.mean(0))).mean(0)
    expected = {
        "mse": ((p - y) ** 2).mean(),
        "mae": (p - y).abs().mean(),
        "pearson": 1 - (covariance / (deviations[0] * deviations[1])).mean(),
        "ccc": 1 - (2 * covariance / (deviations[0] ** 2 + deviations[1] ** 2 + (p.mean(0) - y.mean(0)) ** 2)).mean(),
    }[loss]
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)
    for mine, whole in zip(ours, (p.grad for p in network.parameters() if p.grad is not None), strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-3, atol=1e-4)


def test_the_loss_of_a_perfect_prediction_is_zero_and_of_a_constant_one_no_nan():
    target = torch.rand(5, 3)
    for loss in ("pearson", "ccc"):
        assert LOSSES[loss](target, target).item() == pytest.approx(0, abs=1e-5)  # no (n - 1) / n
        constant = torch.full((5, 3), 0.2, requires_grad=True)
        LOSSES[loss](constant, target).backward()
        assert torch.isfinite(constant.grad).all()
    assert LOSSES["pearson"](3 * target + 1, target).item() == pytest.approx(0, abs=1e-5)
    assert LOSSES["ccc"](3 * target + 1, target).item() > 0.1


@pytest.mark.parametrize("loss", ["mse", "pearson"])
def test_threads_share_a_batchs_microbatches_and_change_no_number(sequences, loss):
    recipe, clips = replace(QUICK, loss=loss), np.array([7, 0, 12, 29, 5, 18, 21, 4, 3])
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            network = rebuild({**VIDEO, "in_features": 4, "targets": 2})
            total = microbatch.gradient(network, Feed(sequences[0], "cpu"), clips, recipe)
            assert torch.get_num_threads() == threads
            predicted = predict(network, sequences[1])
            results.append((total, predicted, [p.grad for p in network.parameters() if p.grad is not None]))
            # The fused optimizer walks through both in one order.
            assert all(p.grad.stride() == p.stride() for p in network.parameters() if p.grad is not None)
    finally:
        torch.set_num_threads(before)
    assert results[0][0].item() == pytest.approx(results[1][0].item(), rel=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-5)
    for one, other in zip(results[0][2], results[1][2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
