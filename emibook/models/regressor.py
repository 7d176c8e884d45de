"""The paper's branch: sequence -> TCN -> Transformer encoder (visual branch only) -> masked mean -> FFN -> intensities.

Source: paper section 3.3 and 3.4, Figure 2. How the steps become one vector is not stated there: here by their mean, as
options by the clip's last step, a mean whose weights are learnt, or mean and standard deviation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emibook.models.base import Branch
from emibook.models.pooling import last_step, masked_mean, mean_and_std
from emibook.models.tcn import TCN
from emibook.models.transformer import TransformerEncoder

POOLINGS = ("mean", "last", "attention", "statistics")


class IntensityRegressor(Branch):
    """One branch of the paper: two Transformer blocks for video, none for audio.

    Called with ``values (batch, time, feature)`` and ``mask (batch, time)``, true where there is data; the output is
    ``(batch, target)``.

    Args:
        in_features: features per step.
        targets: outputs per clip.
        transformer_layers: blocks of the Transformer encoder; 0 leaves it out.
        heads: attention heads per block.
        channels: width of TCN and encoder; None is as wide as the input.
        attention: width of a block's heads together, ``channels`` unless given.
        positions: whether the encoder adds a positional encoding.
        pooling: how the steps become one vector: ``mean``; ``last``, the clip's last step; ``attention``, a mean
            weighted by softmax(H w); or ``statistics``, mean and standard deviation side by side.
        residual: whether the TCN's layers are residual blocks.
        dropout: the dropout rate of the encoder's sublayers in training.

    Raises:
        ValueError: an unknown pooling, or heads that do not divide the width.

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
        hidden = self.tcn(values).float()  # (batch, time, channels); from here residuals and steps sum in float32
        if self.transformer is not None:
            hidden = self.transformer(hidden, mask)
        return self.ffn(self.pool(hidden, mask))  # (batch, targets)

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, channels), (batch, time) -> (batch, channels), twice as wide for ``statistics``."""
        if self.pooling == "last":
            return last_step(hidden, mask)
        if self.pooling == "statistics":
            return mean_and_std(hidden, mask)
        if self.score is None:
            return masked_mean(hidden, mask)
        scores = self.score(hidden)[..., 0].masked_fill(~mask, -torch.inf)  # (batch, time)
        scores = scores.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)  # no 0/0 in an empty clip
        return torch.einsum("bt,btc->bc", scores.softmax(dim=1), hidden)
