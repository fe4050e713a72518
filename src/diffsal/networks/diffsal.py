"""DiffSal: encoders and Saliency-UNet together. ``encode`` once per window, ``denoise`` once per step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diffsal.config import Finish, ModelConfig, Spacing
from diffsal.diffusion.samplers import ddim
from diffsal.diffusion.schedule import NoiseSchedule
from diffsal.networks.encoders import AUDIO_ENCODERS, VIDEO_ENCODERS
from diffsal.networks.encoders.base import FrameEncoder
from diffsal.networks.saliency_unet import SaliencyUNet


@dataclass(frozen=True)
class Features:
    """What conditions the denoising of a window: computed once, used at every step.

    ``video``: (b, width, slots, h, w) at strides 32, 16 and 8. ``audio``: (b, a, slots, h, w), or None without sound.
    ``heard``: the samples whose sound counts; None: all.
    ``stages``: the UNet's stages of the video's slots, where no noise reaches them; None: not computed.
    """

    video: list[Float[Tensor, "b _ s _ _"]]
    audio: Float[Tensor, "b a s2 h2 w2"] | None
    stages: list[Float[Tensor, "b _ _ _ _"]] | None = None
    heard: Bool[Tensor, " b"] | None = None


class Adapter(nn.Module):
    """Brings an encoder's scale to a stage's width and slots; nothing to learn where they already agree."""

    def __init__(self, channels: int, width: int, slots: int, num_slots: int) -> None:
        super().__init__()
        self.project = nn.Conv3d(channels, width, 1) if channels != width else nn.Identity()
        self.repeats = None if slots == num_slots else num_slots

    def forward(self, x: Float[Tensor, "b c s h w"]) -> Float[Tensor, "b c2 s2 h w"]:
        x = self.project(x)
        return x if self.repeats is None else F.interpolate(x, size=(self.repeats, *x.shape[-2:]), mode="nearest")


class DiffSal(nn.Module):
    """The whole network of ``config``. Inputs are already normalised (``config.preprocessing``).

    ``finish`` is a record of what prediction does to these weights' maps (:mod:`diffsal.prediction.finish`) and
    ``spacing`` how their timesteps are spaced: both are loaded and saved with them, and nothing here applies them.
    """

    def __init__(self, config: ModelConfig, finish: Finish | None = None) -> None:
        super().__init__()
        self.config = config
        self.finish = finish or Finish()
        self.spacing: Spacing = "linspace"
        self.schedule = NoiseSchedule.named(config.noise_schedule)
        apart = config.video_encoder == "mvit_v2_s" and config.encoder_stream == "plain"
        self.video_encoder = VIDEO_ENCODERS[config.video_encoder](
            num_frames=config.num_frames, height=config.height, width=config.width, drop_path=config.drop_path,
            **({"normalised_stream": False} if apart else {}),
        )
        self.audio_encoder = AUDIO_ENCODERS[config.audio_encoder]() if config.audio_encoder else None
        # Coarse to fine: strides 32, 16, 8. A finer scale is not looked at: the last of four stages adds no features
        channels, slots = self.video_encoder.channels[:-4:-1], self.video_encoder.slots[:-4:-1]
        num_slots = max(slots)
        used = min(config.modulation_stages, len(channels))
        self.adapters = nn.ModuleList(
            Adapter(channels[i], config.widths[i], slots[i], num_slots) for i in range(used)
        )
        audio_channels = self.audio_encoder.channels if self.audio_encoder is not None else None
        self.unet = SaliencyUNet(config, num_slots, audio_channels)

    @property
    def encodes_frames(self) -> bool:
        """Whether frames are encoded one by one, so that a stream encodes each of them once."""
        return isinstance(self.video_encoder, FrameEncoder)

    @property
    def frame_step(self) -> int:
        """Of how many frames of a window one is encoded."""
        return self.video_encoder.frame_step if isinstance(self.video_encoder, FrameEncoder) else 1

    def encode(self, video: Float[Tensor, "b 3 f h w"], mel: Float[Tensor, "b 1 n m k"] | None) -> Features:
        """f_v and f_a of Algorithm 2. ``mel`` None: without sound."""
        self._check_size(video, "video", (self.config.height, self.config.width))
        return self.condition(self.video_encoder(video), mel)

    def encode_frames(
        self, images: Float[Tensor, "f 3 h w"], deep: list[int] | None = None
    ) -> list[Float[Tensor, "f _ _ _"]]:
        """What :meth:`encode_window` needs of each frame; only where :attr:`encodes_frames`.

        With ``deep``, of the other frames only what windows need whose own frame is ``deep``.
        """
        return self.video_encoder.frames(images, deep)

    def encode_window(
        self, frames: list[Float[Tensor, "b _ _ _ _"]], mel: Float[Tensor, "b 1 n m k"] | None
    ) -> Features:
        """The window's features from those of its frames: the same as :meth:`encode` of the frames."""
        return self.condition(self.video_encoder.mix(frames), mel)

    def condition(self, scales: list[Tensor], mel: Float[Tensor, "b 1 n m k"] | None) -> Features:
        """f_v and f_a from the video encoder's scales, fine to coarse, and the sound."""
        video = [adapt(x) for adapt, x in zip(self.adapters, reversed(scales), strict=False)]
        if mel is None:
            return Features(video, self.silence(video[0].shape[0]))
        if self.audio_encoder is None:
            raise ValueError("this network was built without sound (audio_encoder=None): pass mel=None")
        return Features(video, self.audio_encoder(mel))

    def silence(self, b: int) -> Float[Tensor, "b a 1 1 1"] | None:
        """f_a without sound: zeros where sound is added to K's input, nothing where it would replace it."""
        if self.audio_encoder is None or self.config.audio_key == "replace":
            return None
        return torch.zeros(b, self.audio_encoder.channels, 1, 1, 1, device=next(self.parameters()).device)

    def denoise(
        self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " b"], features: Features, enlarged: bool = True
    ) -> Float[Tensor, "b 1 h2 w2"]:
        """One network call: the prediction of x_0, in [0, 1]. Raw: nothing is finished here.

        It is of the size of ``x_t``, or with ``enlarged`` False at the map's own stride (``config.map_stride``), where
        maps are finished. A network that predicts noise has a map at the full size only.
        """
        prediction = self._call(x_t, t, features)
        if self.config.predicts == "noise":
            return self.schedule.remove_noise(x_t, self.enlarge(prediction), t)
        return self.enlarge(prediction) if enlarged else prediction

    def predict(
        self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " b"], features: Features
    ) -> Float[Tensor, "b 1 h w"]:
        """What the last layer gives, as ``config.predicts`` says: x_0, the noise, or the map from zeros at t = 0."""
        return self.enlarge(self._call(x_t, t, features))

    def sample(
        self, features: Features, noise: Float[Tensor, "b 1 h w"], steps: int = 1, spacing: Spacing = "linspace",
        enlarged: bool = True,
    ) -> Float[Tensor, "b 1 h2 w2"]:
        """Algorithm 2 from ``noise``: DDIM over :meth:`denoise`, in ``steps`` calls; ``enlarged`` as there."""
        features = replace(features, stages=self.unet.video_stages(features.video, features.audio))
        x_0 = ddim(
            lambda x_t, t: self.denoise(x_t, t, features, enlarged=False), noise, self.schedule, steps, spacing,
            self.enlarge,
        )
        return self.enlarge(x_0) if enlarged else x_0

    def enlarge(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h2 w2"]:
        """From the map's own stride to the input's size, bilinearly."""
        size = (self.config.height, self.config.width)
        return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size=size, mode="bilinear")

    def _call(self, x_t: Tensor, t: Tensor, features: Features) -> Float[Tensor, "b 1 h w"]:
        """The UNet, at the map's own stride."""
        self._check_size(x_t, "x_t", (self.config.height, self.config.width))
        if self.config.predicts == "map":
            x_t, t = torch.zeros_like(x_t), torch.zeros_like(t)
        return self.unet(x_t, t, features.video, features.audio, features.stages, features.heard)

    @staticmethod
    def _check_size(x: Tensor, name: str, size: tuple[int, int]) -> None:
        if tuple(x.shape[-2:]) != size:
            raise ValueError(f"{name} is {x.shape[-2]}x{x.shape[-1]}, this network expects {size[0]}x{size[1]}")
