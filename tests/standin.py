"""A network that is quick and whose answers can be worked out by hand, with DiffSal's interface."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from diffsal.config import Finish, ModelConfig
from diffsal.networks.diffsal import DiffSal, Features


@dataclass
class Call:
    """What one call of ``sample`` saw: a brightness (0 to 255) per frame of each window, and the sound's loudness."""

    windows: torch.Tensor
    loudness: torch.Tensor | None


class StandIn(DiffSal):
    """Maps are the target frame's brightness in [0, 1], plus a little noise, plus 0.25 where the sound is loud."""

    def __init__(self, by_frame: bool = True, sound: bool = True, noise: float = 0.1) -> None:
        nn.Module.__init__(self)
        self.config = ModelConfig(video_encoder="mobilenet_v2", audio_encoder="yamnet", height=32, width=32)
        self.finish = Finish()
        self.audio_encoder = nn.Identity() if sound else None
        self.by_frame, self.noise = by_frame, noise
        self.calls: list[Call] = []
        self.num_encoded = 0

    @property
    def encodes_frames(self) -> bool:
        return self.by_frame

    @property
    def frame_step(self) -> int:
        return 2

    def brightness(self, images: torch.Tensor, dim: int) -> torch.Tensor:
        mean, std = (torch.tensor(v) for v in (self.config.preprocessing.mean, self.config.preprocessing.std))
        shape = [1] * images.dim()
        shape[dim] = 3
        return ((images * std.view(shape) + mean.view(shape)) * 255).mean(dim, keepdim=True)

    def encode_frames(self, images, deep=None):
        self.num_encoded += len(images if deep is None else deep)
        return [self.brightness(images, 1)]

    def encode_window(self, frames, mel):
        loud = None if mel is None else mel.amax((1, 2, 3, 4))
        self.calls.append(Call(frames[0].mean((1, 3, 4)), loud))
        return Features([frames[0]], None if loud is None else loud.view(-1, 1, 1, 1, 1))

    def encode(self, video, mel):
        self.num_encoded += video.shape[0] * video.shape[2]
        return self.encode_window([self.brightness(video, 1)], mel)

    def sample(self, features, noise, steps=1, spacing="linspace", enlarged=True):
        bright = features.video[0][:, :, self.config.num_frames // 2] / 255
        if features.audio is not None:
            bright = bright + 0.25 * (features.audio[:, :, 0] > 0).float()
        return bright + self.noise * noise * steps
