"""MobileNetV2 frame by frame, with temporal mixing over the window: the compact model's video encoder.

The backbone is Sandler et al. (2018) with torchvision's parameter names, so that ``MobileNet_V2_Weights`` load as they
are. Frames are encoded one by one; what a window adds is cheap (:meth:`MobileNetV2.mix`), so a stream pays for each
frame once. Every second frame of a window enters the mixing, its own (``TARGET_FRAME``) among them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.config import TARGET_FRAME

FRAME_STEP = 2  # frames from one mixed slot to the next
MOTION_WIDTH = 24  # channels of what the learned filters find in the brightness
NOISE_CHANGE = 0.01  # of brightness from frame to frame, in the input's units: what noise alone makes
STILL_BELOW = 0.9  # mean energy of a picture's motion from which on everything moves, and nothing by itself
# expansion, channels, blocks, stride of the first (Sandler et al., table 2)
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
TAPS = (6, 13, 17)  # blocks whose outputs are the scales at strides 8, 16, 32
TAP_CHANNELS = (32, 96, 320)


def conv_frozen_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Convolution and batch norm in one: its statistics never move, so it is a factor and an offset of the kernel."""
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * factor
    return F.conv2d(x, conv.weight * factor.view(-1, 1, 1, 1), bias, conv.stride, conv.padding, groups=conv.groups)


class ConvNormReLU6(nn.Sequential):
    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        return F.relu6(conv_frozen_norm(x, self[0], self[1]), inplace=True)


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


class TemporalMix(nn.Module):
    """One scale's frames → one slot: the target frame's features plus what learned temporal filters find.

    Each projected channel meets ``num_filters`` filters over the slots (they start as the target frame, the mean and
    two differences); rectified, mixed in space and across channels, they are added to the target frame's features.
    """

    num_filters = 4

    def __init__(self, channels: int, width: int, slots: int, target: int) -> None:
        super().__init__()
        self.target = target
        self.project = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.filters = nn.Parameter(self._initial_filters(slots, target).repeat(width, 1, 1))
        hidden = width * self.num_filters
        self.spatial = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.combine = nn.Conv2d(hidden, width, 1)
        nn.init.zeros_(self.combine.weight)
        nn.init.zeros_(self.combine.bias)

    def _initial_filters(self, slots: int, target: int) -> Float[Tensor, "1 m s"]:
        here, mean = torch.zeros(slots), torch.full((slots,), 1 / slots)
        here[target] = 1.0
        before, after = torch.zeros(slots), torch.zeros(slots)
        before[: target + 1] = 1 / (target + 1)
        after[target:] = 1 / (slots - target)
        return torch.stack([mean, here - mean, after - before, before - after])[None]

    def forward(
        self, frames: Float[Tensor, "b c s h w"], motion: Tensor | None = None, projected: bool = False
    ) -> Float[Tensor, "b c2 h w"]:
        b, slots = len(frames), frames.shape[2]
        if projected:
            x = frames
        elif frames.stride(2) == 0:  # one frame, repeated by expand(): a picture is projected once
            x = self.project(frames[:, :, 0])[:, :, None].expand(-1, -1, slots, -1, -1)
        else:
            x = self.project(rearrange(frames, "b c s h w -> (b s) c h w"))
            x = rearrange(x, "(b s) c h w -> b c s h w", b=b)
        here = x[:, :, self.target]
        if motion is not None:
            here = here + motion
        if torch.is_grad_enabled():
            filtered = torch.einsum("bcshw,cms->bcmhw", x, self.filters)
        else:  # the same, and no frame is copied
            filtered = torch.stack([self.filters @ rearrange(w, "c s h w -> c s (h w)") for w in x])
            filtered = rearrange(filtered, "b c m (h w) -> b c m h w", h=x.shape[3])
        mixed = F.relu(self.spatial(F.relu(rearrange(filtered, "b c m h w -> b (c m) h w"))))
        return here + self.combine(mixed)


def energy(change: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Of brightness that changes: the logarithm of the change, smoothed, over what noise makes; 0 where none is."""
    for _ in range(2):
        change = F.avg_pool2d(change, 5, stride=1, padding=2, count_include_pad=False)
    return torch.log1p(change / NOISE_CHANGE)


def moving_alone(brightness: Float[Tensor, "b f h w"]) -> Float[Tensor, "b 1 h w"]:
    """What moves in a picture that is otherwise still: the motion's energy, times what the picture's mean leaves of 1.

    Energy is that of the window's mean change from frame to frame. Where the camera moves or much goes on, its mean is
    high and motion says little.
    """
    moving = energy((brightness[:, 1:] - brightness[:, :-1]).abs().mean(dim=1, keepdim=True))
    return moving * (1 - moving.mean(dim=(2, 3), keepdim=True) / STILL_BELOW).clamp(min=0)


class MobileNetV2(nn.Module):
    """(b, 3, t, h, w) → scales at strides 4 (what moves alone), 8, 16, 32, one slot each, fine to coarse.

    The backbone's batch statistics stay ImageNet's, in training too: batches are small here.
    """

    channels = (1, 32, 64, 96)
    slots = (1, 1, 1, 1)
    taps = TAPS

    def __init__(self, num_frames: int = 16, height: int = 224, width: int = 384, drop_path: float = 0.0) -> None:
        super().__init__()
        if drop_path:
            raise ValueError("mobilenet_v2 has no stochastic depth: leave drop_path at 0")
        self.features = backbone()
        self.slots_in = slots = num_frames // FRAME_STEP
        target = TARGET_FRAME * num_frames // 16 // FRAME_STEP
        self.projects_frames = False  # whether frames() projects what mix() takes, once per frame
        self.mixes = nn.ModuleList(
            TemporalMix(c, w, slots, target) for c, w in zip(TAP_CHANNELS, self.channels[1:], strict=True)
        )
        self.motion = nn.Conv2d(num_frames, MOTION_WIDTH, 3, padding=1)
        self.motion_down = nn.Conv2d(MOTION_WIDTH, self.channels[1], 3, stride=2, padding=1)
        nn.init.zeros_(self.motion_down.weight)
        nn.init.zeros_(self.motion_down.bias)

    def frames(self, images: Float[Tensor, "f 3 h w"], deep: list[int] | None = None) -> list[Float[Tensor, "f _ _ _"]]:
        """Per frame: brightness at stride 4, then the backbone's features at strides 8, 16, 32.

        With ``deep`` only these frames go through the backbone; the others' features are zeros.
        """
        x = images if deep is None else images[deep]
        x = x.contiguous(memory_format=torch.channels_last)
        scales = [self.brightness(images)]
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                project = self.mixes[len(scales) - 1].project
                found = project(x).contiguous() if self.projects_frames else x
                if deep is not None:
                    found = found.new_zeros(len(images), *found.shape[1:]).index_copy_(
                        0, torch.tensor(deep, device=found.device), found)
                scales.append(found)
        return scales

    @staticmethod
    def brightness(images: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f 1 h2 w2"]:
        """What motion is read from: the mean of the channels, at stride 4."""
        return F.avg_pool2d(images.mean(dim=1, keepdim=True), 4)

    def mix(self, frames: list[Float[Tensor, "b _ f _ _"]]) -> list[Float[Tensor, "b _ 1 _ _"]]:
        """The window's scales from its frames'; but for the brightness, every second frame alone will do."""
        frames = [x if i == 0 or x.shape[2] == self.slots_in else x[:, :, ::FRAME_STEP] for i, x in enumerate(frames)]
        brightness = frames[0][:, 0]
        motion = F.relu(self.motion(brightness - brightness.mean(dim=1, keepdim=True)))
        done = self.projects_frames
        fine = self.mixes[0](frames[1], self.motion_down(motion), done)
        rest = [mix(x, None, done) for mix, x in zip(self.mixes[1:], frames[2:], strict=True)]
        return [x[:, :, None] for x in (moving_alone(brightness), fine, *rest)]

    def forward(self, video: Float[Tensor, "b 3 f h w"]) -> list[Float[Tensor, "b _ 1 _ _"]]:
        b = len(video)
        scales = self.frames(rearrange(video, "b c f h w -> (b f) c h w"))
        return self.mix([rearrange(x, "(b f) c h w -> b c f h w", b=b) for x in scales])
