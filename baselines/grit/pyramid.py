"""The feature pyramid: five levels p3 ... p7 from one feature map.

Shape legend: B images, C channels, H and W rows and columns of a level (of stride 8, 16, ...).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of every position of (B, C, H, W)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Level(nn.Module):
    """1 x 1 convolution, norm, 3 x 3 convolution, norm; no activation, no lateral sums."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, channels, 1, bias=False)
        self.norm1 = ChannelNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = ChannelNorm(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, channels, H, W)."""
        out: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x_BCHW))))
        return out


class Pyramid(nn.Module):
    """GRiT's own pyramid (not the one of ViTDet).

    Args:
        width: Channels of the image encoder.
        channels: Channels of every level.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(width, width, 2, 2, bias=False)
        self.p3 = Level(width, channels)
        self.p4 = Level(width, channels)
        self.p5 = Level(width, channels)
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def pooled(self, features_BCHW: Tensor) -> list[Tensor]:
        """Return the three levels that regions are pooled from, strides 8, 16 and 32.

        Args:
            features_BCHW: The encoder's map, stride 16, with an even number of rows and columns.
        """
        return [
            self.p3(self.upsample(features_BCHW)),
            self.p4(features_BCHW),
            self.p5(F.max_pool2d(features_BCHW, 2, 2)),
        ]

    def coarse(self, p5_BCHW: Tensor) -> list[Tensor]:
        """Return the two levels that only proposals are read from, strides 64 and 128."""
        p6_BCHW = self.p6(p5_BCHW)
        return [p6_BCHW, self.p7(F.relu(p6_BCHW))]
