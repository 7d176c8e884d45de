"""The paper's branch: sequence -> TCN -> Transformer encoder (visual branch only) -> masked mean -> FFN -> intensities.

Source: paper section 3.3 and 3.4, Figure 2. How the steps become one vector is not stated there: here their mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emibook.models.tcn import TCN
from emibook.models.transformer import TransformerEncoder


class Branch(nn.Module):
    """What every model of a branch shares: features on a common scale, and an answer for a clip with nothing in it.

    ``feature_mean``, ``feature_scale`` (feature,) and ``target_mean`` (target,) are measured on the training partition,
    set by ``standardise`` and travel with the weights. A clip without a single step is predicted as ``target_mean``.
    """

    def __init__(self, in_features: int, targets: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(in_features))
        self.register_buffer("feature_scale", torch.ones(in_features))
        self.register_buffer("target_mean", torch.zeros(targets))

    def standardise(self, feature_mean: Tensor, feature_scale: Tensor, target_mean: Tensor) -> None:
        """Take over the training partition's numbers; a feature that never varies keeps the scale 1."""
        self.feature_mean.copy_(feature_mean)
        self.feature_scale.copy_(torch.where(feature_scale > 0, feature_scale, torch.ones_like(feature_scale)))
        self.target_mean.copy_(target_mean)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, feature) and (batch, time) true where there is data -> (batch, target).

        Whatever stands in steps outside the mask changes nothing.
        """
        mask = mask.bool()
        standardised = (values - self.feature_mean) / self.feature_scale
        standardised = standardised.masked_fill(~mask[..., None], 0.0)
        return torch.where(mask.any(dim=1, keepdim=True), self.predict(standardised, mask), self.target_mean)

    def predict(self, values: Tensor, mask: Tensor) -> Tensor:
        """As ``forward``, with standardised values that are zero outside the mask."""
        raise NotImplementedError


class IntensityRegressor(Branch):
    """One branch of the paper: two Transformer blocks for video, none for audio.

    Source: paper section 3.3 and equations (3), (4): F = ReLU(X W1 + b1) W2 + b2.
    """

    def __init__(
        self, in_features: int, targets: int = 6, transformer_layers: int = 2, heads: int = 4, channels: int = 128
    ) -> None:
        super().__init__(in_features, targets)
        self.config = {
            "in_features": in_features,
            "targets": targets,
            "transformer_layers": transformer_layers,
            "heads": heads,
            "channels": channels,
        }
        self.tcn = TCN(in_features, channels)
        self.transformer = TransformerEncoder(channels, transformer_layers, heads) if transformer_layers else None
        self.ffn = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, targets))

    def predict(self, values: Tensor, mask: Tensor) -> Tensor:
        hidden = self.tcn(values)  # (batch, time, channels)
        if self.transformer is not None:
            hidden = self.transformer(hidden, mask)
        return self.ffn(masked_mean(hidden, mask))  # (batch, targets)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, time, channels), (batch, time) -> (batch, channels): mean over the mask, zero where it is empty."""
    total = values.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)
