"""The paper's branch: sequence -> TCN -> Transformer encoder (visual branch only) -> masked mean -> FFN -> intensities.

Source: paper section 3.3 and 3.4, Figure 2. How the steps become one vector is not stated there: here their mean, as
options the clip's last step, a mean whose weights are learnt, and the mean with the spread around it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emibook.models.tcn import TCN
from emibook.models.transformer import TransformerEncoder

POOLINGS = ("mean", "last", "attention", "statistics")
LEAST_VARIANCE = 1e-5  # the root of a variance that is nought has no slope


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
        # In place: of a batch's steps, which are many, there is one copy.
        standardised = values.to(torch.float32, copy=True).sub_(self.feature_mean).div_(self.feature_scale)
        standardised = standardised.masked_fill_(~mask[..., None], 0.0)
        return torch.where(mask.any(dim=1, keepdim=True), self.predict(standardised, mask), self.target_mean)

    def predict(self, values: Tensor, mask: Tensor) -> Tensor:
        """As ``forward``, with standardised values that are zero outside the mask."""
        raise NotImplementedError


class IntensityRegressor(Branch):
    """One branch of the paper: two Transformer blocks for video, none for audio.

    Args:
        channels: width of TCN and encoder; None is as wide as the input.
        attention: width of the encoder's heads together, ``channels`` unless given.
        positions: whether the encoder is told the order of the steps.
        pooling: how the steps become one vector: their ``mean``, the clip's ``last``, by ``attention``, a mean
            weighted by softmax(H w), or by ``statistics``, the mean and the standard deviation beside each other
            (statistics pooling: Snyder et al. 2018, X-vectors, ICASSP).
        residual: whether the TCN's layers are residual blocks.
        dropout: the share of the encoder's sublayers left out in training.

    Source: paper section 3.3 and equations (3), (4): F = ReLU(X W1 + b1) W2 + b2.
    """

    def __init__(
        self,
        in_features: int,
        targets: int = 6,
        transformer_layers: int = 2,
        heads: int = 4,
        channels: int | None = 128,
        *,
        attention: int | None = None,
        positions: bool = True,
        pooling: str = "mean",
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, targets)
        if pooling not in POOLINGS:
            raise ValueError(f"no pooling {pooling!r}; there are {', '.join(POOLINGS)}")
        channels = channels or in_features
        self.config = {
            "in_features": in_features,
            "targets": targets,
            "transformer_layers": transformer_layers,
            "heads": heads,
            "channels": channels,
            "attention": attention,
            "positions": positions,
            "pooling": pooling,
            "residual": residual,
            "dropout": dropout,
        }
        self.pooling = pooling
        self.tcn = TCN(in_features, channels, residual=residual)
        self.transformer = (
            TransformerEncoder(
                channels, transformer_layers, heads, attention=attention, positions=positions, dropout=dropout
            )
            if transformer_layers
            else None
        )
        self.score = nn.Linear(channels, 1) if pooling == "attention" else None
        pooled = channels * (2 if pooling == "statistics" else 1)
        self.ffn = nn.Sequential(nn.Linear(pooled, channels), nn.ReLU(), nn.Linear(channels, targets))

    def predict(self, values: Tensor, mask: Tensor) -> Tensor:
        # (batch, time, channels); what is summed up from here on, over residual paths and steps, is float32.
        hidden = self.tcn(values).float()
        if self.transformer is not None:
            hidden = self.transformer(hidden, mask)
        return self.ffn(self.pool(hidden, mask))  # (batch, targets)

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, channels), (batch, time) -> (batch, channels), twice as wide for ``statistics``."""
        if self.pooling == "last":
            return at_last_step(hidden, mask)
        if self.pooling == "statistics":
            return mean_and_spread(hidden, mask)
        if self.score is None:
            return masked_mean(hidden, mask)
        scores = self.score(hidden)[..., 0].masked_fill(~mask, -torch.inf)  # (batch, time)
        scores = scores.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)  # no 0/0 in a clip with nothing in it
        return torch.einsum("bt,btc->bc", scores.softmax(dim=1), hidden)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, time, channels), (batch, time) -> (batch, channels): mean over the mask, zero where it is empty."""
    total = values.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def mean_and_spread(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, time, channels), (batch, time) -> (batch, 2 channels): mean and standard deviation over the mask."""
    if values.dtype in (torch.float16, torch.bfloat16):  # their squares would lose what the steps differ by
        values = values.float()
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean[:, None]).square(), mask)
    return torch.cat([mean, (variance + LEAST_VARIANCE).sqrt()], dim=-1)


def at_last_step(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, time, channels), (batch, time) -> (batch, channels): at each clip's own last step, not the batch's."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, steps, 0).amax(dim=1)
    return values[torch.arange(len(values), device=mask.device), last]
