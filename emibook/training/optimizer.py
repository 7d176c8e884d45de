"""What an optimizer step changes: the weights, Adam's moments, and the running average of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim.swa_utils import AveragedModel

from emibook.models import Branch
from emibook.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Learner:
    """A model, its optimizer, and the running average of its weights where the recipe keeps one."""

    model: Branch
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None = None

    @classmethod
    def of(cls, model: Branch, recipe: Recipe) -> Learner:
        """With the recipe's optimizer and average."""
        optimizer = adam(model, recipe.learning_rate, recipe.decay)
        return cls(model, optimizer, running_average(model, recipe.average))

    def step(self) -> None:
        """One optimizer step, by the gradients that the model's parameters hold."""
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    @property
    def scored(self) -> Branch:
        """The model that predicts and is kept: with the average of its weights, where there is one."""
        return self.model if self.average is None else self.average.module


def adam(model: Module, learning_rate: float, decay: float = 0.0) -> torch.optim.Optimizer:
    """Adam as in the paper (section 4.2); with ``decay``, AdamW on the weights of the matrix products.

    These have two axes or more. In each step they lose ``learning_rate * decay`` of themselves; biases do not.
    Source: Kingma and Ba (2015), arXiv 1412.6980; Loshchilov and Hutter (2019), arXiv 1711.05101.
    """
    if not decay:
        return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def running_average(model: Module, kept: float) -> AveragedModel | None:
    """The running average of the model's weights, of which each step keeps the share ``kept``; None where that is 0.

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
