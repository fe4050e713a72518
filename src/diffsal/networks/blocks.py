"""Blocks that several networks share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear, GELU, linear, over the last dimension."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        return self.fc2(F.gelu(self.fc1(x)))


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the timestep, then linear, SiLU, linear: (b,) → (b, width)."""

    def __init__(self, frequencies: int, width: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.fc1 = nn.Linear(2 * frequencies, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, t: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        rate = torch.arange(self.frequencies, device=t.device, dtype=torch.float32)
        rate = torch.exp(rate * (-math.log(10_000) / (self.frequencies - 1)))
        angle = t.float()[:, None] * rate
        x = torch.cat([angle.sin(), angle.cos()], dim=1).to(self.fc1.weight.dtype)
        return self.fc2(F.silu(self.fc1(x)))


def num_groups(channels: int) -> int:
    """GroupNorm's 32 groups (Ho et al. 2020), or the most that divide the channels and leave each group three.

    A group of one channel would take out again what the timestep added to that channel.
    """
    return max(n for n in range(1, 33) if channels % n == 0 and (n == 1 or channels // n >= 3))


class TimeResidual(nn.Module):
    """Time-conditioned residual block of the noise branch: (b, c, h, w), (b, d) → (b, c', h, w)."""

    def __init__(self, channels: int, out_channels: int, time_width: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(num_groups(channels), channels, eps=1e-6)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_width, out_channels)
        self.norm2 = nn.GroupNorm(num_groups(out_channels), out_channels, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b d"]) -> Float[Tensor, "b c2 h w"]:
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        return self.shortcut(x) + y


class Downsample(nn.Conv2d):
    """3×3 convolution with a stride, after one row of zeros below and one column right."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, 3, stride=stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class ScalelessBatchNorm(nn.Module):
    """Batch normalisation of the channels with an offset and no scale, as TensorFlow's ``scale=False``."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        return F.batch_norm(
            x, self.running_mean, self.running_var, None, self.bias, self.training, self.momentum, self.eps
        )


def pad_same(x: Float[Tensor, "b c *size"], kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """TensorFlow's "same" padding: the odd zero goes after, so strided windows see another grid than torch's."""
    padding: list[int] = []
    for n, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding) if any(padding) else x
