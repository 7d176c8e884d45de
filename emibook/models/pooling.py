"""From the steps of a clip to one vector: masked mean, mean and standard deviation, last step."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_VARIANCE = 1e-5  # added to a variance: the square root has no finite slope at zero


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, time, channels), (batch, time) -> (batch, channels): mean over the mask, zero where it is empty."""
    total = values.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def mean_and_std(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, time, channels), (batch, time) -> (batch, 2 channels): mean and standard deviation over the mask.

    Source: statistics pooling, Snyder et al. (2018), X-vectors, ICASSP.
    """
    if values.dtype in (torch.float16, torch.bfloat16):  # their squares would lose the differences between steps
        values = values.float()
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean[:, None]).square(), mask)
    return torch.cat([mean, (variance + LEAST_VARIANCE).sqrt()], dim=-1)


def last_step(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, time, channels), (batch, time) -> (batch, channels): at each clip's own last step, not the batch's."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, steps, 0).amax(dim=1)
    return values[torch.arange(len(values), device=mask.device), last]
