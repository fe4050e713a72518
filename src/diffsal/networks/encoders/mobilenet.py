"""MobileNetV2 frame by frame, with temporal mixing over the window: the compact model's video encoder.

The backbone is Sandler et al. (2018) with torchvision's parameter names, so that ``MobileNet_V2_Weights`` load as they
are. Frames are encoded one by one; what a window adds is cheap (:meth:`MobileNetV2.mix`), so a stream pays for each
frame once. Every second frame of a window enters the mixing, its own among them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.encoders.base import FrameEncoder
from diffsal.networks.encoders.temporal_mix import TemporalMix

FRAME_STEP = 2  # frames from one mixed slot to the next
MOTION_WIDTH = 24  # channels of what the learned filters find in the brightness
# expansion, channels, blocks, stride of the first (Sandler et al., table 2)
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
TAPS = (6, 13, 17)  # blocks whose outputs are the scales at strides 8, 16, 32
TAP_CHANNELS = (32, 96, 320)


def conv_frozen_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Convolution and batch norm in one: its statistics never move, so it is a factor and an offset of the kernel."""
    assert norm.running_var is not None and norm.running_mean is not None
    factor: Tensor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * factor
    return F.conv2d(x, conv.weight * factor.view(-1, 1, 1, 1), bias, conv.stride, conv.padding, groups=conv.groups)


class ConvNormReLU6(nn.Sequential):
    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        conv, norm = self
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        return F.relu6(conv_frozen_norm(x, conv, norm), inplace=True)


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        expand = [] if expansion == 1 else [ConvNormReLU6(channels, hidden, 1)]
        self.conv = nn.Sequential(
            *expand,
            ConvNormReLU6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.residual = stride == 1 and channels == out_channels

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        *layers, conv, norm = self.conv
        y = x
        for layer in layers:
            y = layer(y)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        y = conv_frozen_norm(y, conv, norm)
        return x + y if self.residual else y


def backbone() -> nn.Sequential:
    """The convolutions of MobileNetV2 up to its last inverted residual (torchvision's ``features.0`` … ``17``)."""
    layers: list[nn.Module] = [ConvNormReLU6(3, 32, 3, 2)]
    channels = 32
    for expansion, width, count, stride in BLOCKS:
        for i in range(count):
            layers.append(InvertedResidual(channels, width, stride if i == 0 else 1, expansion))
            channels = width
    return nn.Sequential(*layers)


class MobileNetV2(FrameEncoder):
    """(b, 3, t, h, w) → scales at strides 8, 16, 32, one slot each, fine to coarse.

    The backbone's batch statistics stay ImageNet's, in training too: batches are small here.
    """

    channels = (32, 64, 96)
    slots = (1, 1, 1)
    taps = TAPS
    frame_step = FRAME_STEP

    def __init__(self, num_frames: int = 16, height: int = 224, width: int = 384, drop_path: float = 0.0) -> None:
        super().__init__()
        if drop_path:
            raise ValueError("mobilenet_v2 has no stochastic depth: leave drop_path at 0")
        self.features = backbone()
        self.slots_in = slots = num_frames // FRAME_STEP
        target = num_frames // 2 // FRAME_STEP
        self.projects_frames = False  # whether frames() projects what mix() takes, once per frame
        self.mixes = nn.ModuleList(
            TemporalMix(c, w, slots, target) for c, w in zip(TAP_CHANNELS, self.channels, strict=True)
        )
        self.motion = nn.Conv2d(num_frames, MOTION_WIDTH, 3, padding=1)
        self.motion_down = nn.Conv2d(MOTION_WIDTH, self.channels[0], 3, stride=2, padding=1)
        for parameter in self.motion_down.parameters():
            nn.init.zeros_(parameter)

    def frames(self, images: Float[Tensor, "f 3 h w"], deep: list[int] | None = None) -> list[Float[Tensor, "f _ _ _"]]:
        x = images if deep is None else images[deep]
        x = x.contiguous(memory_format=torch.channels_last)
        scales = [self.brightness(images)]
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                mix = self.mixes[len(scales) - 1]
                assert isinstance(mix, TemporalMix)
                found = mix.project(x).contiguous() if self.projects_frames else x
                if deep is not None:
                    found = found.new_zeros(images.shape[0], *found.shape[1:]).index_copy_(
                        0, torch.tensor(deep, device=found.device), found)
                scales.append(found)
        return scales

    @staticmethod
    def brightness(images: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f 1 h2 w2"]:
        """What motion is read from: the mean of the channels, at stride 4."""
        return F.avg_pool2d(images.mean(dim=1, keepdim=True), 4)

    def mix(self, frames: list[Float[Tensor, "b _ _ _ _"]]) -> list[Float[Tensor, "b _ 1 _ _"]]:
        frames = [x if i == 0 or x.shape[2] == self.slots_in else x[:, :, ::FRAME_STEP] for i, x in enumerate(frames)]
        brightness = frames[0][:, 0]
        motion = F.relu(self.motion(brightness - brightness.mean(dim=1, keepdim=True)))
        done = self.projects_frames
        fine = self.mixes[0](frames[1], self.motion_down(motion), done)
        rest = [mix(x, None, done) for mix, x in zip(self.mixes[1:], frames[2:], strict=True)]
        return [x[:, :, None] for x in (fine, *rest)]
