"""What a Transformer encoder attends to, for pictures: the shares that its own forward pass works with unseen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emibook.models.transformer import SelfAttention, TransformerEncoder


@torch.no_grad()
def attention_tables(encoder: TransformerEncoder, values: Tensor, mask: Tensor) -> Tensor:
    """(batch, block, head, step, step): of what each step (the axis before the last) takes, each other step's share.

    ``values`` (batch, time, channels) and ``mask`` (batch, time) are what the encoder is called with. Every row sums to
    one; steps outside the mask are given nothing.
    """
    seen: list[tuple[SelfAttention, Tensor]] = []
    hooks = [block.attention.register_forward_pre_hook(lambda module, inputs: seen.append((module, inputs[0])))
             for block in encoder.blocks]
    try:
        encoder(values, mask)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([_shares(attention, inputs, mask) for attention, inputs in seen], dim=1)


def _shares(attention: SelfAttention, values: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(width of a head)) over the steps in the mask."""
    batch, time, _ = values.shape
    projected = attention.project_in(values).view(batch, time, 3, attention.heads, -1)
    query, key, _ = projected.permute(2, 0, 3, 1, 4)  # each (batch, head, time, width of a head)
    fits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return fits.masked_fill(~mask[:, None, None, :], -math.inf).softmax(dim=-1)
