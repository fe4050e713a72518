"""TemporalMix: what a window adds to its own frame's features, for encoders of single frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class TemporalMix(nn.Module):
    """One scale's frames → one slot: the target frame's features plus what learned temporal filters find.

    Each projected channel meets ``num_filters`` filters over the slots (they start as the target frame, the mean and
    two differences); rectified, mixed in space and across channels, they are added to the target frame's features.
    """

    num_filters = 4
    target: int
    project: nn.Sequential

    def __init__(self, channels: int, width: int, slots: int, target: int) -> None:
        super().__init__()
        self.target = target
        self.project = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.filters = nn.Parameter(self._initial_filters(slots, target).repeat(width, 1, 1))
        hidden = width * self.num_filters
        self.spatial = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.combine = nn.Conv2d(hidden, width, 1)
        for parameter in self.combine.parameters():
            nn.init.zeros_(parameter)

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
        b, slots = frames.shape[0], frames.shape[2]
        if projected:
            x = frames
        elif not torch.compiler.is_exporting() and frames.stride(2) == 0:
            # One frame, repeated by expand(): a picture is projected once
            x = self.project(frames[:, :, 0])[:, :, None].expand(-1, -1, slots, -1, -1)
        else:
            x = self.project(rearrange(frames, "b c s h w -> (b s) c h w"))
            x = rearrange(x, "(b s) c h w -> b c s h w", b=b)
        here = x[:, :, self.target]
        if motion is not None:
            here = here + motion
        if torch.compiler.is_exporting():  # whatever the batch
            filtered = rearrange(self.filters @ x.flatten(3), "b c m (h w) -> b c m h w", h=x.shape[3])
        elif torch.is_grad_enabled():
            filtered = torch.einsum("bcshw,cms->bcmhw", x, self.filters)
        else:  # the same, and no frame is copied
            filtered = torch.stack([self.filters @ rearrange(w, "c s h w -> c s (h w)") for w in x])
            filtered = rearrange(filtered, "b c m (h w) -> b c m h w", h=x.shape[3])
        mixed = F.relu(self.spatial(F.relu(rearrange(filtered, "b c m h w -> b (c m) h w"))))
        return here + self.combine(mixed)
