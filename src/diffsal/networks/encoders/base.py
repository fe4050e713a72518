"""What each kind of encoder gives: video by windows, video frame by frame, sound."""

from __future__ import annotations

from abc import ABC, abstractmethod

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class VideoEncoder(nn.Module, ABC):
    """A window (b, 3, frames, h, w) → scales (b, channels, slots, h / stride, w / stride), fine to coarse.

    The last three scales have the strides 8, 16 and 32; a finer one before them is allowed and not looked at.
    ``channels`` and ``slots`` have one value for each scale. A constructor takes ``num_frames``, ``height``, ``width``
    and ``drop_path`` (the rate of stochastic depth) and raises ``ValueError`` for what it cannot do.
    """

    channels: tuple[int, ...]
    slots: tuple[int, ...]

    @abstractmethod
    def forward(self, video: Float[Tensor, "b 3 f h w"]) -> list[Float[Tensor, "b _ _ _ _"]]: ...


class FrameEncoder(VideoEncoder):
    """A video encoder that encodes single frames and mixes those of a window, so that a stream encodes a frame once.

    Every ``frame_step``-th frame of a window is encoded, its own among them; of each frame :meth:`brightness` is kept.
    ``features`` is the backbone, a sequence of blocks.
    """

    frame_step: int
    features: nn.Sequential
    projects_frames: bool  # whether frames() projects what mix() takes, once per frame

    @abstractmethod
    def frames(self, images: Float[Tensor, "f 3 h w"], deep: list[int] | None = None) -> list[Float[Tensor, "f _ _ _"]]:
        """Per frame: :meth:`brightness`, then the backbone's features at strides 8, 16, 32.

        With ``deep`` only these frames go through the backbone; the others' features are zeros.
        """

    @staticmethod
    @abstractmethod
    def brightness(images: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f 1 h2 w2"]:
        """What motion is read from, at stride 4."""

    @abstractmethod
    def mix(self, frames: list[Float[Tensor, "b _ _ _ _"]]) -> list[Float[Tensor, "b _ 1 _ _"]]:
        """The window's scales from what :meth:`frames` gives of its frames.

        Brightness is of all frames; features are of all, or of every ``frame_step``-th alone.
        """

    def forward(self, video: Float[Tensor, "b 3 f h w"]) -> list[Float[Tensor, "b _ 1 _ _"]]:
        b = video.shape[0]
        scales = self.frames(rearrange(video, "b c f h w -> (b f) c h w"))
        return self.mix([rearrange(x, "(b f) c h w -> b c f h w", b=b) for x in scales])


class AudioEncoder(nn.Module, ABC):
    """Log-mel examples (b, 1, n, m, k) → features (b, channels, slots, h, w), h and w 1 where they have no places."""

    channels: int

    @abstractmethod
    def forward(self, mel: Float[Tensor, "b 1 n m k"]) -> Float[Tensor, "b _ _ _ _"]: ...
