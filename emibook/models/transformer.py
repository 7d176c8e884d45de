"""Transformer encoder: every step of a clip looks at every other step of the same clip.

Source: Vaswani et al. (2017), arXiv 1706.03762, sections 3.1 to 3.5 (normalised after each sum, sinusoidal positions).
The paper cascades it behind the visual TCN (section 3.3) with two blocks and four heads (section 4.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LEFT_OUT, HIGHEST = -1e4, 60.0  # scores: of a step that is not attended; up to which e to their power is a number


class TransformerEncoder(nn.Module):
    """Sinusoidal positions, then blocks of self-attention and a feedforward network, each with a residual path.

    ``attention``: the width of all heads together, ``channels`` unless given. ``positions``: without them the encoder
    knows no order. ``dropout``: the share of each sublayer's results left out in training (Vaswani et al. have 0.1).
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

        Steps outside the mask are attended by none; what stands in them afterwards means nothing.
        """
        if self.positions:
            values = values + positions(values.shape[1], values.shape[2], values.device).to(values)
        hidden = self.dropout(values)
        for block in self.blocks:
            hidden = block(hidden, mask)
        return hidden


class Block(nn.Module):
    """Self-attention, then a feedforward network four times as wide; layer normalisation after each residual sum."""

    def __init__(self, channels: int, heads: int, attention: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(channels, heads, attention)
        self.attention_norm = nn.LayerNorm(channels)
        wide = 4 * channels
        self.feedforward = nn.Sequential(nn.Linear(channels, wide), nn.ReLU(), nn.Linear(wide, channels))
        self.feedforward_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
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
        batch, time, _ = values.shape
        projected = self.project_in(values).view(batch, time, 3, self.heads, self.width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (batch, head, time, width / heads)
        attend = _by_products if query.dtype == torch.bfloat16 and query.is_cpu else _fused
        attended = attend(query, key, value, _keys(mask))
        return self.project_out(attended.transpose(1, 2).reshape(batch, time, self.width))


def _fused(query: Tensor, key: Tensor, value: Tensor, keys: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=keys)


def _by_products(query: Tensor, key: Tensor, value: Tensor, keys: Tensor) -> Tensor:
    """As ``_fused``: on a processor, in bfloat16, the fused kernel's way back takes several times as long.

    Little is done to each pair of steps, of which there are far more than steps. A further column of the queries and
    keys takes away what is outside the mask, and one of the values sums up the weights, by which is divided last.
    """
    scaled = query * query.shape[-1] ** -0.5
    if not _can_be_raised(scaled, key):
        return _fused(query, key, value, keys)
    one = query.new_ones(()).expand(*query.shape[:-1], 1)
    left_out = torch.where(keys, 0.0, LEFT_OUT).to(key).transpose(-1, -2).expand(*key.shape[:-1], 1)
    scores = torch.cat([scaled, one], dim=-1) @ torch.cat([key, left_out], dim=-1).transpose(-1, -2)
    summed = scores.exp_() @ torch.cat([value, one], dim=-1)  # (batch, head, time, width / heads + 1)
    return summed[..., :-1] / summed[..., -1:]


def _can_be_raised(query: Tensor, key: Tensor) -> bool:
    """Whether e to the power of any score, and their sum, are numbers; softmax would first take away the largest."""
    return bool(query.detach().norm(dim=-1).amax() * key.detach().norm(dim=-1).amax() < HIGHEST)


def _keys(mask: Tensor) -> Tensor:
    """(batch, 1, 1, time): the steps that may be attended; all of them in a clip that has none, against 0/0."""
    return (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]


def positions(time: int, channels: int, device: torch.device | str = "cpu") -> Tensor:
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
