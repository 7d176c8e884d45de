"""Temporal convolutional network: local temporal context, from the past only.

Source: paper section 3.3, equation (2); kernel 3 and five layers from section 4.2. The paper states no dilations: here
they double, 1 2 4 8 16. Layers are plain: convolution and ReLU, no residual connection, no normalisation. As an option,
a layer is a residual block of two convolutions, as in the work that the paper cites: Bai et al. (2018),
arXiv 1803.01271, section 3.3 (here without weight normalisation and dropout).
Weights are initialised as in He et al. (2015), arXiv 1502.01852, which keeps the signal's variance through the layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TCN(nn.Module):
    """Causal dilated convolutions over time, each followed by ReLU.

    With kernel 3, layer ``n`` reads its input at t, t - d and t - 2d, d = 2^n, with zero padding before the clip:

        t-62 ............................................ t     input
             layer 5: t, t-16, t-32 of layer 4's output   t     output

    Args:
        in_features: features per step.
        channels: width of every layer.
        kernel_size: taps of a convolution.
        layers: with dilations 1, 2, 4, ...
        residual: a layer is two convolutions of one dilation, and its input is added to their output before the last
            ReLU (through a convolution of one tap where the widths differ).

    Source: paper, equation (2): y_t = ReLU(W * x_{t-d} + b).
    """

    def __init__(
        self, in_features: int, channels: int = 128, kernel_size: int = 3, layers: int = 5, residual: bool = False
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.convs_per_block = 2 if residual else 1
        widths = [in_features] + [channels] * layers * self.convs_per_block
        self.convolutions = nn.ModuleList(
            nn.Conv1d(widths[n], widths[n + 1], kernel_size, dilation=2 ** (n // self.convs_per_block))
            for n in range(layers * self.convs_per_block)
        )
        self.shortcut = nn.Linear(in_features, channels) if residual and in_features != channels else nn.Identity()
        for layer in self.convolutions:
            # With PyTorch's default each ReLU layer loses most of the variance; after five, biases are left.
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
        for first in range(0, len(self.convolutions), self.convs_per_block):
            *inner, last = self.convolutions[first : first + self.convs_per_block]
            output = hidden
            for layer in inner:
                output = torch.relu(causal(layer, output))
            output = causal(last, output)
            if self.convs_per_block > 1:
                shortcut = self.shortcut(hidden) if first == 0 else hidden
                output = output + shortcut.float()  # residuals sum in float32, in half precision too
            hidden = torch.relu(output)  # (batch, time, channels)
        return hidden


def causal(layer: nn.Conv1d, values: Tensor) -> Tensor:
    """The causal convolution of (batch, time, feature) by ``layer``, with zero padding: (batch, time, channels).

    All taps are one matrix product, because the features of a step are adjacent in memory; each tap's result is then
    shifted to the step that it belongs to. Tap k of a kernel of K reads the input (K - 1 - k) dilations ago.
    """
    channels, features, taps = layer.weight.shape
    time, dilation = values.shape[1], layer.dilation[0]
    by_tap = functional.linear(values, layer.weight.permute(2, 0, 1).reshape(taps * channels, features))
    *earlier, now = by_tap.split(channels, dim=-1)
    total = now + layer.bias.to(now)  # a float32 bias would make bfloat16 sums float32, twice the bytes to move
    for tap, product in enumerate(earlier):
        delay = (taps - 1 - tap) * dilation
        if delay < time:
            total = total + functional.pad(product, (0, 0, delay, -delay))  # later by so many steps, the end cut off
    return total
