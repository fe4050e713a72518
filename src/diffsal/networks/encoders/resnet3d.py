"""3-D ResNet-50 (Hara et al. 2018), STAViS's video encoder, with their parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.encoders.base import VideoEncoder

STEM_WIDTH = 64
EXPANSION = 4
DEPTHS = (3, 4, 6, 3)  # bottlenecks in layer1 to layer4
WIDTHS = (64, 128, 256, 512)


class ResNet3D(VideoEncoder):
    """(b, 3, t, h, w) → four scales at strides 4, 8, 16, 32, fine to coarse; 16 frames leave 8, 4, 2, 1 slots.

    Time is halved by the stem's pool and by each layer but the first. ``drop_path``: stochastic depth over the
    bottlenecks, rising linearly to this rate at the last; Hara et al. train without.
    """

    channels = tuple(EXPANSION * w for w in WIDTHS)

    def __init__(self, num_frames: int = 16, height: int = 224, width: int = 384, drop_path: float = 0.0) -> None:
        super().__init__()
        self.slots = tuple(-(-num_frames // 2**i) for i in range(1, 5))
        self.conv1 = nn.Conv3d(3, STEM_WIDTH, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(STEM_WIDTH)
        self.maxpool = nn.MaxPool3d(3, 2, 1)
        channels, index = STEM_WIDTH, 0
        for layer, (depth, inner) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=1):
            blocks = []
            for i in range(depth):
                rate = drop_path * index / (sum(DEPTHS) - 1)
                blocks.append(Bottleneck(channels, inner, 2 if layer > 1 and i == 0 else 1, rate))
                channels, index = EXPANSION * inner, index + 1
            self.add_module(f"layer{layer}", nn.Sequential(*blocks))

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> list[Float[Tensor, "b _ _ _ _"]]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(video))))
        scales = []
        for number in range(1, len(DEPTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
            scales.append(x)
        return scales


class Bottleneck(nn.Module):
    def __init__(self, channels: int, inner: int, stride: int, drop_path: float) -> None:
        super().__init__()
        outer = EXPANSION * inner
        self.drop_path = drop_path
        self.conv1 = nn.Conv3d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3 = nn.Conv3d(inner, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(outer)
        self.downsample = None
        if stride != 1 or channels != outer:
            self.downsample = nn.Sequential(nn.Conv3d(channels, outer, 1, stride, bias=False), nn.BatchNorm3d(outer))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.training and self.drop_path:  # whole samples of the branch, the rest scaled to keep the mean
            kept = torch.rand(len(y), 1, 1, 1, 1, device=y.device) >= self.drop_path
            y = y * (kept.to(y.dtype) / (1.0 - self.drop_path))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))
