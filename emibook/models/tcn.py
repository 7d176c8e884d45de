"""Temporal convolutional network: local temporal context, from the past only.

Source: paper section 3.3, equation (2); kernel 3 and five layers from section 4.2. The paper states no dilations: here
they double, 1 2 4 8 16. Layers are plain: convolution and ReLU, no residual path, no normalisation. As an option, two
convolutions a layer and a residual path around them, as the work that the paper cites has it:
Bai et al. (2018), arXiv 1803.01271, section 3.3 (here without weight normalisation and dropout).
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

    With ``residual``, a layer is two such convolutions of one dilation, and its input is added to what they make
    (through a convolution of one tap where the widths differ) before the last ReLU.

    Source: paper, equation (2): y_t = ReLU(W * x_{t-d} + b).
    """

    def __init__(
        self, in_features: int, channels: int = 128, kernel_size: int = 3, layers: int = 5, residual: bool = False
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.each = 2 if residual else 1  # convolutions of a layer
        widths = [in_features] + [channels] * layers * self.each
        self.convolutions = nn.ModuleList(
            nn.Conv1d(widths[n], widths[n + 1], kernel_size, dilation=2 ** (n // self.each))
            for n in range(layers * self.each)
        )
        self.around = nn.Linear(in_features, channels) if residual and in_features != channels else nn.Identity()
        for layer in self.convolutions:
            # PyTorch's default takes most of the signal's power away at each ReLU layer; after five, biases are left.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    @property
    def receptive_field(self) -> int:
        """Steps of the input that one output step depends on, itself included: 1 + (kernel - 1) * sum of dilations.

        Example:
            >>> TCN(in_features=6, kernel_size=3, layers=5).receptive_field
            63
        """
        return 1 + sum((self.kernel_size - 1) * layer.dilation[0] for layer in self.convolutions)

    def forward(self, values: Tensor) -> Tensor:
        """(batch, time, feature) -> (batch, time, channels); output t depends on inputs t - receptive_field + 1..t."""
        hidden = values
        for first in range(0, len(self.convolutions), self.each):
            made = hidden
            for layer in self.convolutions[first : first + self.each - 1]:
                made = torch.relu(causal(layer, made))
            made = causal(self.convolutions[first + self.each - 1], made)
            if self.each > 1:
                made = made + (self.around(hidden) if first == 0 else hidden).float()  # in half precision too
            hidden = torch.relu(made)
        return hidden


def causal(layer: nn.Conv1d, values: Tensor) -> Tensor:
    """What ``layer`` makes of (batch, time, feature), zeros before the start: (batch, time, channels).

    All taps are one matrix product, because the features of a step lie together; each tap's result is then moved to
    the step that it belongs to. Tap k of a kernel of K is the input (K - 1 - k) dilations ago.
    """
    channels, features, taps = layer.weight.shape
    time, dilation = values.shape[1], layer.dilation[0]
    by_tap = functional.linear(values, layer.weight.permute(2, 0, 1).reshape(taps * channels, features))
    *earlier, now = by_tap.split(channels, dim=-1)
    total = now + layer.bias.to(now)  # float32 would make the sums float32, twice as many bytes to move
    for tap, made in enumerate(earlier):
        back = (taps - 1 - tap) * dilation
        if back < time:
            total = total + functional.pad(made, (0, 0, back, -back))  # later by so many steps, the last ones cut off
    return total
