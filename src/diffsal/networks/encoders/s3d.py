"""S3D (Xie et al. 2018): Inception-v1 with each 3-D convolution split into space and time; torchvision's names."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.encoders.base import VideoEncoder
from diffsal.networks.encoders.inception import MIXED, STEM_WIDTHS, Mixed

TAPS = (3, 6, 12, 15)  # of ``features``: the ends of strides 4, 8, 16 and 32
NORM_EPS, NORM_MOMENTUM = 1e-3, 1e-3


class S3D(VideoEncoder):
    """(b, 3, t, h, w) → four scales at strides 4, 8, 16, 32, fine to coarse; 16 frames leave 8, 8, 4, 2 slots.

    Parameter names are those of torchvision's ``s3d``, whose ``classifier`` has no use here.
    """

    channels = (STEM_WIDTHS[-1], MIXED["3c"].channels, MIXED["4f"].channels, MIXED["5c"].channels)

    def __init__(self, num_frames: int = 16, height: int = 224, width: int = 384, drop_path: float = 0.0) -> None:
        super().__init__()
        if drop_path:
            raise ValueError("s3d has no stochastic depth: leave drop_path at 0")
        fine = -(-num_frames // 2)
        middle = -(-fine // 2)
        self.slots = (fine, fine, middle, middle // 2)
        first, second, third = STEM_WIDTHS
        layers: list[nn.Module] = [
            separable(3, first, 7, stride=2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            conv_norm(first, second, (1, 1, 1)),
            separable(second, third, 3),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ]
        channels = third
        for name, widths in MIXED.items():
            if name == "4b":
                layers.append(nn.MaxPool3d(3, 2, 1))
            elif name == "5b":
                layers.append(nn.MaxPool3d(2, 2))
            layers.append(MixedBlock(channels, widths))
            channels = widths.channels
        self.features = nn.Sequential(*layers)

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> list[Float[Tensor, "b _ _ _ _"]]:
        x, scales = video, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in TAPS:
                scales.append(x)
        return scales


class MixedBlock(nn.Module):
    def __init__(self, channels: int, widths: Mixed) -> None:
        super().__init__()
        point = (1, 1, 1)
        self.branch0 = conv_norm(channels, widths.point, point)
        self.branch1 = nn.Sequential(
            conv_norm(channels, widths.reduce_1, point), separable(widths.reduce_1, widths.conv_1, 3)
        )
        self.branch2 = nn.Sequential(
            conv_norm(channels, widths.reduce_2, point), separable(widths.reduce_2, widths.conv_2, 3)
        )
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), conv_norm(channels, widths.pooled, point))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t h w"]:
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


def conv_norm(
    channels: int, out_channels: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm3d(out_channels, NORM_EPS, NORM_MOMENTUM),
        nn.ReLU(inplace=True),
    )


def separable(channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution in space, then one in time, each normalised and rectified."""
    return nn.Sequential(
        conv_norm(channels, out_channels, (1, size, size), (1, stride, stride)),
        conv_norm(out_channels, out_channels, (size, 1, 1), (stride, 1, 1)),
    )


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ``s3d`` state dict without its classifier."""
    return {key: value for key, value in state.items() if not key.startswith("classifier.")}
