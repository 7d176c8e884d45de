"""``manet``: a network for expressions: the whole face at several scales, and its quarters with attention.

Our implementation of the published architecture, under the parameter names of its authors' checkpoints. It is not
verified against their weights, which are not available for download.
Source: Zhao, Liu, Wang, "Learning Deep Global Multi-Scale and Local Attention Features for Facial Expression
Recognition in the Wild" (2021), for the network; Woo et al., "CBAM" (2018), for the attention.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from emibook.features.image_encoder import (
    ImageEncoder,
    built,
    layout,
    matched,
    plain_state,
    resized,
    without_batch_norm,
)
from emibook.features.weights import Weights

PIXELS = 224  # so that the quarters of the map after layer2, 28 x 28, are 14 x 14
QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # row and column, in the order of the published names p1 to p4
SCALES = 4
REDUCTION = 16  # of the channels within the attention


def _shortcut(before: int, after: int, stride: int) -> nn.Module | None:
    if stride == 1 and before == after:
        return None
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class _Attention(nn.Module):
    """A weight for every channel, then one for every position: (face, channel, height, width) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate, self.SpatialGate = nn.Module(), nn.Module()  # the published names
        self.ChannelGate.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, channels // REDUCTION), nn.ReLU(),
            nn.Linear(channels // REDUCTION, channels))
        self.SpatialGate.spatial = nn.Sequential()
        self.SpatialGate.spatial.add_module("conv", nn.Conv2d(2, 1, 7, padding=3, bias=False))
        self.SpatialGate.spatial.add_module("bn", nn.BatchNorm2d(1))

    def forward(self, maps: Tensor) -> Tensor:
        gate = self.ChannelGate.mlp
        channels = gate(maps.mean((2, 3))) + gate(maps.amax((2, 3)))
        maps = maps * channels.sigmoid()[:, :, None, None]
        pooled = torch.cat([maps.amax(1, keepdim=True), maps.mean(1, keepdim=True)], 1)
        return maps * self.SpatialGate.spatial(pooled).sigmoid()


class _AttentionBlock(BasicBlock):
    """A residual block with attention before its sum."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__(before, after, stride, _shortcut(before, after, stride))
        self.cbam = _Attention(after)

    def forward(self, maps: Tensor) -> Tensor:
        convolved = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
        return self.relu(self.cbam(convolved) + (maps if self.downsample is None else self.downsample(maps)))


class _ScalesBlock(nn.Module):
    """A residual block whose second convolution is a chain over four groups of channels, once from either end.

    Each group is convolved with the output of the one before it in the chain, so its receptive field is larger.
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        for chain in (1, 2):
            for group in range(1, SCALES + 1):
                width = after // SCALES
                self.add_module(f"conv{chain}_2_{group}", nn.Conv2d(width, width, 3, padding=1, bias=False))
                self.add_module(f"bn{chain}_2_{group}", nn.BatchNorm2d(width))
        self.downsample = _shortcut(before, after, stride)

    def forward(self, maps: Tensor) -> Tensor:
        groups = self.bn1(self.conv1(maps)).relu().chunk(SCALES, 1)
        both = self._chain(1, groups, range(SCALES)) + self._chain(2, groups, range(SCALES)[::-1])
        return (both + (maps if self.downsample is None else self.downsample(maps))).relu()

    def _chain(self, chain: int, groups: tuple[Tensor, ...], order: range) -> Tensor:
        outputs: dict[int, Tensor] = {}
        for before, group in zip([None, *order], order, strict=False):
            inputs = groups[group] if before is None else groups[group] + outputs[before].relu()
            convolved = getattr(self, f"conv{chain}_2_{group + 1}")(inputs)
            outputs[group] = getattr(self, f"bn{chain}_2_{group + 1}")(convolved)
        return torch.cat([outputs[group] for group in range(SCALES)], 1)


def _layer(block: type[nn.Module], before: int, after: int, stride: int) -> nn.Sequential:
    if block is BasicBlock:
        return nn.Sequential(BasicBlock(before, after, stride, _shortcut(before, after, stride)),
                             BasicBlock(after, after))
    return nn.Sequential(block(before, after, stride), block(after, after))


class Network(nn.Module):
    """(face, 3, 224, 224) to (face, 1024): the four quarters' global average, then the whole face's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2 = _layer(BasicBlock, 64, 64, 1), _layer(BasicBlock, 64, 128, 2)
        for part in range(1, len(QUARTERS) + 1):
            self.add_module(f"layer3_1_p{part}", _layer(_AttentionBlock, 128, 256, 2))
            self.add_module(f"layer4_1_p{part}", _layer(_AttentionBlock, 256, 512, 1))
        self.layer3_2, self.layer4_2 = _layer(_ScalesBlock, 128, 256, 2), _layer(_ScalesBlock, 256, 512, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer2(self.layer1(self.maxpool(self.bn1(self.conv1(images)).relu())))
        side = maps.shape[2] // 2
        local = []
        for part, (row, column) in enumerate(QUARTERS, start=1):
            quarter = maps[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
            quarter = getattr(self, f"layer3_1_p{part}")(quarter)
            local.append(getattr(self, f"layer4_1_p{part}")(quarter).mean((2, 3)))
        whole = self.layer4_2(self.layer3_2(maps)).mean((2, 3))
        return torch.cat([torch.stack(local).mean(0), whole], 1)  # quarters are of one size


class MANet(ImageEncoder):
    """Both branches' global averages, 1,024 features per face; not verified against its authors' weights.

    The crop is enlarged to 224 pixels and its bytes mapped to 0..1, without further standardisation, as its authors do.
    """

    name, width = "manet", 1024

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        model = built(Network, weights, self.convert(weights.path(folder)) if weights.file else None)
        super().__init__(without_batch_norm(model.eval()), self.scaled, weights, device)

    @staticmethod
    def scaled(images: Tensor) -> Tensor:
        """(face, height, width, 3) bytes as (face, 3, 224, 224) in 0..1."""
        return resized(images, PIXELS) / 255

    @staticmethod
    def convert(path: Path) -> dict[str, Tensor]:
        """The tensors to keep of a checkpoint of the authors' (``state_dict``): all but the two classifiers.

        Their script also saves an object that would need code to be run; such a file is refused, its state dict saved
        alone is not.
        """
        return matched(plain_state(path, "state_dict"), layout(Network), path, "MANet (in its authors' layout)")
