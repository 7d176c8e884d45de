"""What every model of a branch shares."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Branch(nn.Module):
    """A model of one branch: it standardises its features, and has a prediction for an empty clip.

    The buffers ``feature_mean``, ``feature_scale`` (feature,) and ``target_mean`` (target,) are measured on the
    training partition, set by ``standardise``, and saved with the weights. A clip without a single step is predicted
    as ``target_mean``.
    """

    config: dict
    """The arguments that build the model again, as JSON can hold them."""

    def __init__(self, in_features: int, targets: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(in_features))
        self.register_buffer("feature_scale", torch.ones(in_features))
        self.register_buffer("target_mean", torch.zeros(targets))

    def standardise(self, feature_mean: Tensor, feature_scale: Tensor, target_mean: Tensor) -> None:
        """Set the training partition's statistics; a feature that never varies keeps the scale 1."""
        self.feature_mean.copy_(feature_mean)
        self.feature_scale.copy_(torch.where(feature_scale > 0, feature_scale, torch.ones_like(feature_scale)))
        self.target_mean.copy_(target_mean)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Predict intensities. Values of steps outside the mask change nothing.

        Args:
            values: (batch, time, feature).
            mask: (batch, time), true where there is data.

        Returns:
            (batch, target).
        """
        mask = mask.bool()
        # In place: a batch's values are large, and this is their only copy.
        standardised = values.to(torch.float32, copy=True).sub_(self.feature_mean).div_(self.feature_scale)
        standardised = standardised.masked_fill_(~mask[..., None], 0.0)
        return torch.where(mask.any(dim=1, keepdim=True), self.predict(standardised, mask), self.target_mean)

    def predict(self, values: Tensor, mask: Tensor) -> Tensor:
        """As ``forward``, with standardised values that are zero outside the mask."""
        raise NotImplementedError
