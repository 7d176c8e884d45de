"""The optimizer of a training, and the running average of the weights that it makes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim.swa_utils import AveragedModel


def adam(model: Module, rate: float, decay: float = 0.0) -> torch.optim.Optimizer:
    """Adam as the paper has it (section 4.2); with ``decay`` the weights of the matrix products shrink beside it.

    These have two axes or more. In each step they lose ``rate * decay`` of themselves; biases do not.
    Source: Kingma and Ba (2015), arXiv 1412.6980; Loshchilov and Hutter (2019), arXiv 1711.05101.
    """
    if not decay:
        return torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    matrices = [each for each in model.parameters() if each.dim() > 1]
    others = [each for each in model.parameters() if each.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def running_average(model: Module, kept: float) -> AveragedModel | None:
    """The running average of the model's weights, of which each step keeps ``kept``; None where that is nothing.

    Step n keeps no more than (1 + n) / (10 + n), so that the average soon leaves the weights it started from.
    """
    if not kept:
        return None

    @torch.no_grad()
    def update(averages: list[Tensor], weights: list[Tensor], steps: Tensor) -> None:
        share = ((1 + steps) / (10 + steps)).clamp(max=kept)
        torch._foreach_mul_(averages, share)
        torch._foreach_add_(averages, torch._foreach_mul(weights, 1 - share))

    return AveragedModel(model, multi_avg_fn=update)
