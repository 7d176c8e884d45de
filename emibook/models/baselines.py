"""The challenge organisers' kinds of model, for the tables' "(baseline)" rows.

Source: Kollias et al. (2024), arXiv 2402.19344: ViT features go through a recurrent network; wav2vec 2.0 features,
averaged over time, through a linear layer. The recurrent network here is one GRU layer of 128 units.
"""

from __future__ import annotations

from torch import Tensor, nn

from emibook.models.base import Branch
from emibook.models.pooling import last_step, masked_mean


class RecurrentBaseline(Branch):
    """A GRU over the clip; its state at the clip's own last step goes through a linear layer."""

    def __init__(self, in_features: int, targets: int = 6, channels: int = 128) -> None:
        super().__init__(in_features, targets)
        self.config = {"in_features": in_features, "targets": targets, "channels": channels}
        self.recurrent = nn.GRU(in_features, channels, batch_first=True)
        self.output = nn.Linear(channels, targets)

    def predict(self, values: Tensor, mask: Tensor) -> Tensor:
        states, _ = self.recurrent(values)  # (batch, time, channels)
        return self.output(last_step(states, mask))


class LinearBaseline(Branch):
    """The mean over the clip's steps, then a linear layer."""

    def __init__(self, in_features: int, targets: int = 6) -> None:
        super().__init__(in_features, targets)
        self.config = {"in_features": in_features, "targets": targets}
        self.output = nn.Linear(in_features, targets)

    def predict(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.output(masked_mean(values, mask))
