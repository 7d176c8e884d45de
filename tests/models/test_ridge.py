"""Ridge on averages and attention as a picture: equal to the same computed another way."""

import numpy as np
import pytest
import torch

from emibook.models import TransformerEncoder
from emibook.models.attending import attention_tables
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


@pytest.mark.parametrize("heads", (1, 4))
def test_attention_tables_give_what_the_encoder_computes(heads):
    torch.manual_seed(0)
    encoder = TransformerEncoder(16, layers=2, heads=heads).eval()
    values, mask = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    seen = []
    hook = encoder.blocks[1].attention.register_forward_hook(lambda _, inputs, output: seen.append((inputs, output)))
    tables = attention_tables(encoder, values, mask)
    hook.remove()
    assert tables.shape == (2, 2, heads, 7, 7)
    assert torch.allclose(tables.sum(dim=-1), torch.ones(()), atol=1e-6) and (tables[1, :, :, :, 4:] == 0).all()
    (inputs, output), attention = seen[0], encoder.blocks[1].attention
    value = attention.project_in(inputs[0]).view(2, 7, 3, heads, 16 // heads)[:, :, 2].transpose(1, 2)
    mixed = (tables[:, 1] @ value).transpose(1, 2).reshape(2, 7, 16)
    assert torch.allclose(attention.project_out(mixed), output, atol=1e-5)
