from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from emibook.models import KINDS, TCN, IntensityRegressor, describe, rebuild, transformer
from emibook.models.pooling import LEAST_VARIANCE, masked_mean
from emibook.models.transformer import SelfAttention, TransformerEncoder, attention_weights, positional_encoding

SMALL = {"regressor": {"channels": 16}, "recurrent": {"channels": 16}, "linear": {}}


OPTIONS = (
    {"transformer_layers": 0}, {"residual": True, "transformer_layers": 0}, {"pooling": "last"},
    {"pooling": "attention", "positions": False}, {"channels": None, "attention": 8, "dropout": 0.5},
    {"pooling": "statistics"},
)


def models() -> list[torch.nn.Module]:
    """One of each kind, the regressor as both branches and with its options, each with scales other than 0 and 1."""
    torch.manual_seed(0)
    models = [KINDS[kind](5, 3, **SMALL[kind]) for kind in KINDS]
    models += [IntensityRegressor(5, 3, **{"channels": 16, **options}) for options in OPTIONS]
    for model in models:
        model.standardise(torch.randn(5), torch.rand(5) + 0.5, torch.tensor([0.1, 0.2, 0.3]))
    return [model.eval() for model in models]


def ragged(lengths: list[int], seed: int = 0, filler: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.full((len(lengths), max(max(lengths), 1), 5), filler)
    mask = torch.zeros(values.shape[:2], dtype=torch.bool)
    for clip, length in enumerate(lengths):
        values[clip, :length] = torch.randn(length, 5, generator=generator)
        mask[clip, :length] = True
    return values, mask


@pytest.mark.parametrize(("kernel_size", "layers", "field"), [(3, 5, 63), (3, 1, 3), (2, 4, 16), (3, 3, 15)])
def test_output_depends_on_exactly_the_receptive_field(kernel_size, layers, field):
    torch.manual_seed(1)
    tcn = TCN(4, channels=32, kernel_size=kernel_size, layers=layers).double()
    assert tcn.receptive_field == field
    values = torch.randn(1, 110, 4, dtype=torch.float64, requires_grad=True)
    out = tcn(values)
    assert out.shape == (1, 110, 32)
    for step in (0, 20, 61, 62, 63, 109):
        (gradient,) = torch.autograd.grad(out[0, step].sum(), values, retain_graph=True)
        reached = torch.nonzero(gradient[0].abs().sum(dim=1)).flatten().tolist()
        assert reached == list(range(max(0, step - field + 1), step + 1))


def test_tcn_equals_a_convolution_written_out_in_numpy():
    torch.manual_seed(2)
    tcn = TCN(3, channels=6).double()
    values = np.random.default_rng(2).normal(size=(2, 40, 3))
    hidden = values
    for depth, layer in enumerate(tcn.convolutions):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        out = np.empty((2, 40, 6))
        for step in range(40):
            total = np.tile(bias, (2, 1))
            for tap in range(3):
                source = step - (2 - tap) * 2**depth
                if source >= 0:
                    total += hidden[:, source] @ weight[:, :, tap].T
            out[:, step] = np.maximum(total, 0)
        hidden = out
    np.testing.assert_allclose(tcn(torch.from_numpy(values)).detach().numpy(), hidden, atol=1e-12)
    assert (hidden > 0).any()


def test_the_signal_keeps_its_size_through_the_layers_at_the_start():
    torch.manual_seed(9)
    values = torch.randn(4, 200, 64)
    for layers in (1, 5):
        out = TCN(64, layers=layers)(values)[:, 63:]
        # Variation over clips and steps, which is what an input can change, in units of the input's.
        assert 0.1 < out.var(dim=(0, 1)).mean().item() < 3


def attention_in_numpy(module: SelfAttention, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    weight, bias = module.project_in.weight.detach().numpy(), module.project_in.bias.detach().numpy()
    channels = values.shape[-1]
    width = channels // module.heads
    out = np.zeros_like(values)
    for clip in range(len(values)):
        steps = np.flatnonzero(mask[clip])
        query, key, value = np.split(values[clip] @ weight.T + bias, 3, axis=1)
        for head in range(module.heads):
            columns = slice(head * width, (head + 1) * width)
            for step in range(values.shape[1]):
                scores = [query[step, columns] @ key[other, columns] / math.sqrt(width) for other in steps]
                weights = np.exp(scores) / np.exp(scores).sum()
                out[clip, step, columns] = weights @ value[steps, columns]
    return out @ module.project_out.weight.detach().numpy().T + module.project_out.bias.detach().numpy()


def test_attention_equals_one_written_out_in_numpy():
    torch.manual_seed(3)
    module = SelfAttention(12, heads=4).double()
    values = np.random.default_rng(3).normal(size=(2, 7, 12))
    mask = np.array([[True] * 7, [True] * 4 + [False] * 3])
    ours = module(torch.from_numpy(values), torch.from_numpy(mask)).detach().numpy()
    np.testing.assert_allclose(ours, attention_in_numpy(module, values, mask), atol=1e-12)


def test_attention_in_bfloat16_on_a_processor_is_the_fused_kernels(monkeypatch):
    """The path of its own that it has there gives the same up to rounding, forwards and backwards."""
    torch.manual_seed(5)
    module = SelfAttention(32, heads=4)
    values, mask = torch.randn(3, 20, 32), torch.arange(20) < torch.tensor([20, 13, 0])[:, None]

    def run(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = values.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = module(values, mask).float() * mask[..., None]
        (out * torch.linspace(0, 1, 32)).sum().backward()
        return out.detach(), values.grad

    out, gradient = run(values)
    assert torch.isfinite(out).all() and torch.isfinite(gradient).all()
    changed, _ = run(values.masked_fill(~mask[..., None], 3.0))
    torch.testing.assert_close(changed, out, atol=1e-6, rtol=0, msg="a step outside the mask is attended to")
    changed, _ = run(values.masked_fill(~mask[..., None], 1e3))  # which takes the fused path
    assert (out - changed).norm() < 0.02 * out.norm(), "a step outside the mask is attended to"
    large = 60 * values.sign()  # scores whose exponential overflows
    ours = run(values), run(large)
    monkeypatch.setattr(transformer, "cpu_bfloat16_attention", lambda query, key, value, attended:
                        torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attended))
    for one, other in zip(ours[0], run(values), strict=True):
        assert 0 < (one - other).norm() < 0.02 * other.norm(), "not the same up to rounding, or not another way"
    for one, other in zip(ours[1], run(large), strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other)


def test_attention_weights_are_those_of_the_forward_pass():
    """Each head's weights times its values, through the output projection, is what the attention itself returns."""
    torch.manual_seed(10)
    encoder, mask = TransformerEncoder(16, layers=2, heads=4).double(), torch.arange(7) < torch.tensor([[7], [4]])
    values = torch.randn(2, 7, 16, dtype=torch.float64)
    weights = attention_weights(encoder, values, mask)
    assert weights.shape == (2, 2, 4, 7, 7) and (weights[1, ..., 4:] == 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 4, 7, dtype=torch.float64))
    hidden = values + positional_encoding(7, 16)
    for number, block in enumerate(encoder.blocks):
        output = weights[:, number] @ block.attention.project(hidden)[2]
        expected = block.attention(hidden, mask)
        torch.testing.assert_close(block.attention.project_out(output.transpose(1, 2).flatten(2)), expected)
        hidden = block(hidden, mask)


def test_attention_is_permutation_equivariant_and_the_positional_encoding_ends_that():
    torch.manual_seed(4)
    encoder = TransformerEncoder(16, layers=2, heads=4).double()
    values, mask = torch.randn(1, 9, 16, dtype=torch.float64), torch.ones(1, 9, dtype=torch.bool)
    order = torch.randperm(9)
    module = encoder.blocks[0]
    torch.testing.assert_close(module(values[:, order], mask), module(values, mask)[:, order])
    assert (encoder(values[:, order], mask) - encoder(values, mask)[:, order]).abs().max() > 0.01


@pytest.mark.parametrize("channels", [8, 7])
def test_positions_are_the_cited_sines_and_cosines(channels):
    table = positional_encoding(50, channels)
    for step in (0, 1, 49):
        for column in range(channels):
            angle = step / 10000 ** (2 * (column // 2) / channels)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert table[step, column].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("filler", [0.0, 1e6, float("nan"), float("inf")])
def test_a_clip_alone_equals_the_clip_in_any_batch_whatever_the_padding_holds(filler):
    lengths = [70, 1, 33, 0, 70]
    values, mask = ragged(lengths, filler=filler)
    longer = torch.nn.functional.pad(values, (0, 0, 0, 90), value=filler)
    longer_mask = torch.nn.functional.pad(mask, (0, 90))
    for model in models():
        with torch.no_grad():
            together = model(values, mask)
            assert torch.isfinite(together).all()
            torch.testing.assert_close(model(longer, longer_mask), together, atol=1e-5, rtol=0)
            order = torch.tensor([3, 1, 4, 0, 2])
            torch.testing.assert_close(model(values[order], mask[order]), together[order], atol=1e-5, rtol=0)
            for clip, length in enumerate(lengths):
                alone = model(values[clip : clip + 1, : max(length, 1)], mask[clip : clip + 1, : max(length, 1)])
                torch.testing.assert_close(alone[0], together[clip], atol=1e-5, rtol=0)
        assert (together[0] - together[4]).abs().max() > 1e-4, "the model does not look at its input"


def test_an_empty_clip_is_predicted_as_the_training_mean():
    values, mask = ragged([0, 4, 0])
    for model in models():
        out = model(values, mask)
        torch.testing.assert_close(out[[0, 2]], model.target_mean.expand(2, 3))
        out.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_intensities_depend_on_every_step_in_the_mask_and_on_no_other():
    values, mask = ragged([90, 40])
    for model in models():
        values.requires_grad_(True)
        (gradient,) = torch.autograd.grad(model(values, mask).sum(), values)
        assert torch.equal(gradient.abs().sum(dim=2) > 0, mask)


def test_audio_branch_is_the_mean_of_the_tcn_through_equation_4():
    torch.manual_seed(5)
    model = IntensityRegressor(5, 6, transformer_layers=0, channels=8)
    values, mask = ragged([30, 12])
    first, last = model.ffn[0], model.ffn[2]
    for clip, length in enumerate((30, 12)):
        pooled = model.tcn(values[clip : clip + 1, :length])[0].mean(dim=0)
        by_hand = torch.relu(pooled @ first.weight.T + first.bias) @ last.weight.T + last.bias
        torch.testing.assert_close(model(values, mask)[clip], by_hand, atol=1e-5, rtol=0)


def test_masked_mean_is_the_mean_over_the_mask():
    values, mask = ragged([5, 3, 0], filler=99.0)
    means = masked_mean(values, mask)
    torch.testing.assert_close(means[0], values[0].mean(dim=0))
    torch.testing.assert_close(means[1], values[1, :3].mean(dim=0))
    assert (means[2] == 0).all()


def test_the_unit_of_a_feature_does_not_matter_and_a_constant_one_does_no_harm():
    values, mask = ragged([20, 9])
    values[..., 2] = 4.0
    steps = values[mask]
    for model in models():
        model.standardise(steps.mean(0), steps.std(0, correction=0), torch.zeros(3))
        expected = model(values, mask)
        other = values * 100 - 7
        model.standardise(other[mask].mean(0), other[mask].std(0, correction=0), torch.zeros(3))
        torch.testing.assert_close(model(other, mask), expected, atol=1e-4, rtol=0)


def test_every_parameter_of_the_visual_branch_learns():
    torch.manual_seed(6)
    model = IntensityRegressor(5)
    values, mask = ragged([40, 20])
    assert model(values, mask).shape == (2, 6)
    model(values, mask).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []


def test_rebuilds_from_json_and_safetensors_with_its_scales(tmp_path):
    values, mask = ragged([12, 7])
    for model in models():
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        description = json.loads(json.dumps(describe(model)))
        again = rebuild(description, load_file(tmp_path / "weights.safetensors")).eval()
        torch.testing.assert_close(again(values, mask), model(values, mask), atol=1e-6, rtol=0)
        with pytest.raises(RuntimeError, match="Missing key"):
            rebuild(description, {})


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="130 channels"):
        IntensityRegressor(5, channels=130)


def test_residual_layers_equal_blocks_written_out_with_pytorchs_convolution():
    """Two causal convolutions of one dilation, the input added (through one tap where widths differ), then ReLU."""
    torch.manual_seed(7)
    tcn = TCN(3, channels=6, layers=3, residual=True)
    values = torch.randn(2, 40, 3)
    hidden = values.transpose(1, 2)

    def convolved(layer, x):
        return layer(torch.nn.functional.pad(x, (2 * layer.dilation[0], 0)))

    for block in range(3):
        first, second = tcn.convolutions[2 * block : 2 * block + 2]
        assert first.dilation == second.dilation == (2**block,)
        shortcut = tcn.shortcut(hidden.transpose(1, 2)).transpose(1, 2) if block == 0 else hidden
        hidden = torch.relu(convolved(second, torch.relu(convolved(first, hidden))) + shortcut)
    torch.testing.assert_close(tcn(values), hidden.transpose(1, 2), atol=1e-5, rtol=1e-5)
    assert tcn.receptive_field == 1 + 2 * 2 * (1 + 2 + 4)


def test_without_positional_encoding_the_encoder_is_permutation_equivariant():
    torch.manual_seed(8)
    values, mask, order = torch.randn(1, 9, 16), torch.ones(1, 9, dtype=torch.bool), torch.randperm(9)
    encoder = TransformerEncoder(16, positions=False).eval()
    torch.testing.assert_close(encoder(values[:, order], mask), encoder(values, mask)[:, order])


def test_poolings_are_the_last_step_and_a_weighted_mean():
    hidden, mask = ragged([6, 2])
    last = IntensityRegressor(5, pooling="last").pool(hidden, mask)
    torch.testing.assert_close(last, torch.stack([hidden[0, 5], hidden[1, 1]]))
    model = IntensityRegressor(5, channels=None, attention=8, pooling="attention")
    weights = (hidden[1, :2] @ model.score.weight[0] + model.score.bias).exp()
    torch.testing.assert_close(model.pool(hidden, mask)[1], (weights / weights.sum()) @ hidden[1, :2])
    torch.nn.init.zeros_(model.score.weight)
    torch.testing.assert_close(model.pool(hidden, mask), masked_mean(hidden, mask))
    with pytest.raises(ValueError, match="no pooling 'max'"):
        IntensityRegressor(5, pooling="max")


def test_statistics_are_mean_and_standard_deviation_of_each_clips_own_steps():
    hidden, mask = ragged([6, 2, 1], filler=7.0)
    model = IntensityRegressor(5, channels=8, pooling="statistics")
    assert model.ffn[0].in_features == 16 and model.ffn[0].out_features == 8
    pooled = model.pool(hidden, mask)
    for clip, length in enumerate((6, 2, 1)):
        steps = hidden[clip, :length].numpy()
        std = np.sqrt(steps.var(axis=0) + LEAST_VARIANCE)
        np.testing.assert_allclose(pooled[clip].numpy(), np.concatenate([steps.mean(axis=0), std]), atol=1e-5)
    constant = torch.ones(1, 4, 5, requires_grad=True)  # a variance of zero has a finite slope all the same
    model.pool(constant, torch.ones(1, 4, dtype=torch.bool)).sum().backward()
    assert constant.grad.isfinite().all()
    coarse = model.pool(hidden.bfloat16(), mask)
    assert coarse.dtype == torch.float32 and (coarse - pooled).abs().max() < 0.02


def test_as_wide_as_the_input_with_four_heads_of_32():
    model = IntensityRegressor(546, channels=None, attention=128)
    assert model.tcn.convolutions[-1].out_channels == 546 and model.ffn[0].in_features == 546
    projection = model.transformer.blocks[0].attention.project_in
    assert (projection.in_features, projection.out_features) == (546, 3 * 128)


def test_dropout_is_for_training_only():
    values, mask = ragged([9, 9])
    torch.manual_seed(9)
    model = IntensityRegressor(5, channels=16, dropout=0.5)
    assert (model.train()(values, mask) - model(values, mask)).abs().max() > 1e-4
    torch.testing.assert_close(model.eval()(values, mask), model(values, mask))


@pytest.mark.parametrize("pooling", ["mean", "statistics"])
def test_in_half_precision_what_follows_the_convolutions_is_summed_in_float32(monkeypatch, pooling):
    """Residuals and sums over steps in bfloat16 would move the gradient by several times its rounding."""
    model, dtypes = IntensityRegressor(5, pooling=pooling), []
    model.transformer.register_forward_pre_hook(lambda _, arguments: dtypes.append(arguments[0].dtype))
    pool = model.pool
    monkeypatch.setattr(model, "pool", lambda hidden, mask: (dtypes.append(hidden.dtype), pool(hidden, mask))[1])
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(3, 20, 5), torch.ones(3, 20, dtype=torch.bool))
        residual = TCN(5, residual=True)(torch.randn(3, 20, 5))
    assert [*dtypes, residual.dtype] == [torch.float32] * 3
