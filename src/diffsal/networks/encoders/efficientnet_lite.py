"""EfficientNet-lite0 (Tan & Le 2019; TensorFlow's "lite": no squeeze-and-excitation, ReLU6) frame by frame.

The temporal mixing over the window, and what a stream keeps of each frame, are MobileNetV2's.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.blocks import pad_same
from diffsal.networks.encoders.mobilenet import MobileNetV2, conv_frozen_norm
from diffsal.networks.encoders.temporal_mix import TemporalMix

# expansion, kernel, channels, blocks, stride of the first (EfficientNet, table 1)
BLOCKS = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1),
)
STEM_WIDTH = 32
TAPS = (5, 11, 16)  # of ``features``, the stem first: the ends of strides 8, 16, 32
TAP_CHANNELS = (40, 112, 320)
NORM_EPS = 1e-3


class ConvNorm(nn.Sequential):
    """Convolution with TensorFlow's "same" padding and batch norm with fixed statistics."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, out_channels, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels, NORM_EPS),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        conv, norm = self
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        return conv_frozen_norm(pad_same(x, conv.kernel_size, conv.stride), conv, norm)


class Block(nn.Module):
    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = ConvNorm(channels, hidden, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvNorm(hidden, out_channels, 1)
        self.residual = stride == 1 and channels == out_channels

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class Stem(ConvNorm):
    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h2 w2"]:
        return F.relu6(super().forward(x))


class EfficientNetLite0(MobileNetV2):
    """(b, 3, t, h, w) → scales at strides 8, 16, 32, one slot each, fine to coarse."""

    taps = TAPS

    def __init__(self, num_frames: int = 16, height: int = 224, width: int = 384, drop_path: float = 0.0) -> None:
        if drop_path:
            raise ValueError("efficientnet_lite0 has no stochastic depth: leave drop_path at 0")
        super().__init__(num_frames, height, width)
        layers: list[nn.Module] = [Stem(3, STEM_WIDTH, 3, 2)]
        channels = STEM_WIDTH
        for expansion, kernel, out_channels, count, stride in BLOCKS:
            for i in range(count):
                layers.append(Block(channels, out_channels, kernel, stride if i == 0 else 1, expansion))
                channels = out_channels
        self.features = nn.Sequential(*layers)
        self.mixes = nn.ModuleList(
            TemporalMix(c, w, self.slots_in, num_frames // 2 // self.frame_step)
            for c, w in zip(TAP_CHANNELS, self.channels, strict=True)
        )


def from_lukemelas(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of lukemelas's EfficientNet, without its head, as ours."""
    layers = {"_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0",
              "_bn1": "depthwise.1", "_project_conv": "project.0", "_bn2": "project.1"}
    renamed = {}
    for key, value in state.items():
        block = re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", key)
        if block and block[2] in layers:
            key = f"features.{int(block[1]) + 1}.{layers[block[2]]}.{block[3]}"
        else:
            key = re.sub(r"^_bn0\.", "features.0.1.", re.sub(r"^_conv_stem\.", "features.0.0.", key))
        renamed[key] = value
    return renamed
