"""Transformer encoder: every step of a clip attends to every step of the same clip.

Source: Vaswani et al. (2017), arXiv 1706.03762, sections 3.1 to 3.5 (layer normalisation after each residual sum,
sinusoidal positional encoding). The paper places it behind the visual TCN (section 3.3), with two blocks and four heads
(section 4.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED_LOGIT = -1e4  # the attention score of a step outside the mask
MAX_LOGIT = 60.0  # e to the power of larger attention scores, summed up, may overflow


class TransformerEncoder(nn.Module):
    """Positional encoding, then blocks of self-attention and a position-wise feed-forward network.

    Args:
        channels: width of the encoder.
        layers: blocks.
        heads: attention heads per block.
        attention: width of a block's heads together, ``channels`` unless given.
        positions: whether the positional encoding is added; without it the encoder is permutation equivariant.
        dropout: the dropout rate of each sublayer's output in training (0.1 in Vaswani et al.).
    """

    def __init__(
        self,
        channels: int = 128,
        layers: int = 2,
        heads: int = 4,
        *,
        attention: int | None = None,
        positions: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.positions = positions
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(channels, heads, attention or channels, dropout) for _ in range(layers))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, channels) and (batch, time) true where there is data -> (batch, time, channels).

        No step attends to a step outside the mask; the outputs of those steps have no meaning.
        """
        if self.positions:
            values = values + positional_encoding(values.shape[1], values.shape[2], values.device).to(values)
        hidden = self.dropout(values)
        for block in self.blocks:
            hidden = block(hidden, mask)
        return hidden


class Block(nn.Module):
    """Self-attention, then a feed-forward network four times as wide; layer normalisation after each residual sum."""

    def __init__(self, channels: int, heads: int, attention: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(channels, heads, attention)
        self.attention_norm = nn.LayerNorm(channels)
        wide = 4 * channels
        self.feedforward = nn.Sequential(nn.Linear(channels, wide), nn.ReLU(), nn.Linear(wide, channels))
        self.feedforward_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, channels), (batch, time) -> (batch, time, channels)."""
        hidden = self.attention_norm(values + self.dropout(self.attention(values, mask)))
        return self.feedforward_norm(hidden + self.dropout(self.feedforward(hidden)))


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(width of a head)) V in several heads, over the steps in the mask.

    ``width``: of all heads together, ``channels`` unless given; queries, keys and values are projected to it.
    Source: Vaswani et al., equation (1) and section 3.2.2.
    """

    def __init__(self, channels: int, heads: int, width: int | None = None) -> None:
        super().__init__()
        width = width or channels
        if width % heads:
            raise ValueError(f"{width} channels do not divide into {heads} heads")
        self.heads, self.width = heads, width
        self.project_in = nn.Linear(channels, 3 * width)
        self.project_out = nn.Linear(width, channels)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, channels), (batch, time) -> (batch, time, channels)."""
        query, key, value = self.project(values)  # each (batch, head, time, width of a head)
        # (batch, 1, 1, time): the steps that are attended to; all of them in an empty clip, against 0/0.
        attended = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
        if query.is_cpu and query.dtype == torch.bfloat16:
            output = cpu_bfloat16_attention(query, key, value, attended)
        else:
            output = functional.scaled_dot_product_attention(query, key, value, attn_mask=attended)
        return self.project_out(output.transpose(1, 2).flatten(2))  # the heads side by side again

    def project(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, time, channels) -> queries, keys and values, each (batch, head, time, width of a head)."""
        query, key, value = self.project_in(values).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value


def cpu_bfloat16_attention(query: Tensor, key: Tensor, value: Tensor, attended: Tensor) -> Tensor:
    """As ``scaled_dot_product_attention``, for bfloat16 on a CPU, where that one's backward pass is slow.

    It does little for each pair of steps, of which there are far more than steps: there is no softmax over the scores.
    One more column of queries and keys adds ``MASKED_LOGIT`` outside the mask, and one more column of the values sums
    up the weights, by which the output is divided at the end. Scores whose exponential could overflow go through
    PyTorch's.

    Args:
        query: (batch, head, time, width of a head), as are ``key`` and ``value``.
        attended: (batch, 1, 1, time), true for steps that are attended to.
    """
    scaled = query * query.shape[-1] ** -0.5
    # By Cauchy-Schwarz no score exceeds the product of the two largest norms.
    if not scaled.detach().norm(dim=-1).amax() * key.detach().norm(dim=-1).amax() < MAX_LOGIT:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=attended)
    one = query.new_ones(()).expand(*query.shape[:-1], 1)
    masked = torch.where(attended, 0.0, MASKED_LOGIT).to(key).transpose(-1, -2).expand(*key.shape[:-1], 1)
    scores = torch.cat([scaled, one], dim=-1) @ torch.cat([key, masked], dim=-1).transpose(-1, -2)
    summed = scores.exp_() @ torch.cat([value, one], dim=-1)  # (batch, head, time, width of a head + 1)
    return summed[..., :-1] / summed[..., -1:]


@torch.no_grad()
def attention_weights(encoder: TransformerEncoder, values: Tensor, mask: Tensor) -> Tensor:
    """The weights by which each step (axis before the last) averages the values of all steps (last axis), for figures.

    Args:
        values: (batch, time, channels), the encoder's input.
        mask: (batch, time), true where there is data.

    Returns:
        (batch, block, head, time, time). Each row sums to one; steps outside the mask have weight zero.
    """
    inputs: list[Tensor] = []
    hooks = [block.attention.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
             for block in encoder.blocks]  # fmt: skip
    try:
        encoder(values, mask)
    finally:
        for hook in hooks:
            hook.remove()
    weights = []
    for block, block_input in zip(encoder.blocks, inputs, strict=True):
        query, key, _ = block.attention.project(block_input)
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (batch, head, time, time)
        weights.append(scores.masked_fill(~mask[:, None, None, :], -math.inf).softmax(dim=-1))
    return torch.stack(weights, dim=1)


def positional_encoding(time: int, channels: int, device: torch.device | str = "cpu") -> Tensor:
    """(time, channels): sines in the even columns, cosines in the odd ones, periods from 2 pi to 10000 * 2 pi steps.

    Source: Vaswani et al., section 3.5.
    """
    step = torch.arange(time, dtype=torch.float32, device=device)[:, None]
    column = torch.arange(0, channels, 2, dtype=torch.float32, device=device)
    frequency = torch.exp(column * (-math.log(10000.0) / channels))
    table = torch.empty(time, channels, device=device)
    table[:, 0::2] = torch.sin(step * frequency)
    table[:, 1::2] = torch.cos(step * frequency[: channels // 2])
    return table
