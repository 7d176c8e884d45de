"""Temporal convolutional network: local temporal context, from the past only.

Source: paper section 3.3, equation (2); kernel 3 and five layers from section 4.2. The paper states no dilations: here
they double, 1 2 4 8 16. Layers are plain: convolution and ReLU, no residual path, no normalisation.
Weights start as in He et al. (2015), arXiv 1502.01852, so that the signal keeps its size through the layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TCN(nn.Module):
    """Causal dilated convolutions over time, each followed by ReLU.

    With kernel 3, layer ``n`` reads its input at t, t - d and t - 2d, d = 2^n; zeros stand before the clip's start:

        t-62 ............................................ t     in
             layer 5: t, t-16, t-32 of what layer 4 made  t     out

    Source: paper, equation (2): y_t = ReLU(W * x_{t-d} + b).
    """

    def __init__(self, in_features: int, channels: int = 128, kernel_size: int = 3, layers: int = 5) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        widths = [in_features] + [channels] * layers
        self.convolutions = nn.ModuleList(
            nn.Conv1d(widths[n], widths[n + 1], kernel_size, dilation=2**n) for n in range(layers)
        )
        for layer in self.convolutions:
            # PyTorch's default takes most of the signal's power away at each ReLU layer; after five, biases are left.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    @property
    def receptive_field(self) -> int:
        """Steps of the input that one output step depends on, itself included: 1 + (kernel - 1) * sum of dilations."""
        return 1 + sum((self.kernel_size - 1) * layer.dilation[0] for layer in self.convolutions)

    def forward(self, values: Tensor) -> Tensor:
        """(batch, time, feature) -> (batch, time, channels); output t depends on inputs t - receptive_field + 1..t."""
        hidden = values.transpose(1, 2)  # (batch, feature, time)
        for layer in self.convolutions:
            past = (self.kernel_size - 1) * layer.dilation[0]
            hidden = torch.relu(layer(functional.pad(hidden, (past, 0))))  # zeros on the left only: no future
        return hidden.transpose(1, 2)
