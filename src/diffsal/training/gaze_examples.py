"""What the compact network learns from: frames of the gaze layout with their people, drawn, varied, and heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.config import ModelConfig, TrainConfig
from diffsal.data.databases.gaze import GazeClip, read_set, saliency_map
from diffsal.media.mel import MelTrack
from diffsal.media.source import read_sound
from diffsal.networks.encoders.mobilenet import FRAME_STEP
from diffsal.training.packed_frames import FrameStore

TARGET_STRIDE = 2  # ground-truth maps are drawn at half the network's size and enlarged
MIN_FIXATIONS = 5  # on a frame that is trained on
CENTRE_SAMPLES = 1000  # whose mean map is the centre prior


@dataclass(frozen=True)
class Sample:
    """One frame with its people: which clip, which frame of it, and how it is seen.

    ``crop`` is (left, top, size) as fractions of the picture; ``light`` is (contrast, brightness in pixel values).
    """

    clip: GazeClip
    index: int
    mirrored: bool = False
    crop: tuple[float, float, float] = (0.0, 0.0, 1.0)
    light: tuple[float, float] = (1.0, 0.0)

    def seen(self, fixations: np.ndarray) -> np.ndarray:
        """The fixations that fall on what is seen, as fractions of it; rows as :class:`GazeClip` has them."""
        left, top, size = self.crop
        moved = fixations.copy()
        moved[:, 3], moved[:, 4] = (moved[:, 3] - left) / size, (moved[:, 4] - top) / size
        moved = moved[((moved[:, 3:] >= 0) & (moved[:, 3:] <= 1)).all(1)] if size < 1 else moved
        if self.mirrored:
            moved[:, 3] = 1 - moved[:, 3]
        return moved


class GazeSamples:
    """The sets of ``config`` under ``data``; their frames are decoded once, into ``folder``."""

    def __init__(
        self, model: ModelConfig, config: TrainConfig, data: Path, folder: Path,
        on_clip: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.model, self.config = model, config
        clips = [clip for name in (*config.picture_sets, *config.video_sets) for clip in read_set(data, name)]
        self.store = FrameStore(clips, folder, model.height, model.width, on_clip)
        held_out = set(config.validation_scenes)
        self.validation = [c for c in clips if not c.is_picture and (c.name in held_out or c.scene in held_out)]
        self.videos = [c for c in clips if not c.is_picture and c not in self.validation]
        sizes = Counter(c.set_name for c in self.videos)
        shares = np.array([sizes[c.set_name] ** -0.5 for c in self.videos])
        self.video_shares = shares / shares.sum()
        self.pictures = [c for c in clips if c.is_picture]
        self.mels: dict[str, MelTrack | None] = {}

    def draw(self, phase: str, count: int, rng: np.random.Generator) -> list[Sample]:
        """A batch: pictures and frames of videos that somebody looks at. Stills come from all videos alike; for windows
        a set is as likely as the square root of the number of its clips, and its clips are equally likely."""
        share = self.config.picture_share * (1 if phase == "stills" else 0.5)
        odds = self.video_shares if phase == "windows" else None
        batch: list[Sample] = []
        while len(batch) < count:
            picture = self.pictures and (not self.videos or rng.random() < share)
            if picture:
                clip = self.pictures[rng.integers(len(self.pictures))]
            else:
                clip = self.videos[rng.choice(len(self.videos), p=odds)]
            index = int(rng.integers(len(self.store.ranges[key(clip)])))
            if phase == "windows":
                index -= index % FRAME_STEP  # the others' features are not cached
            sample = self.vary(Sample(clip, index), phase, rng)
            if len(self.fixations(sample)) >= MIN_FIXATIONS:
                batch.append(sample)
        return batch

    def centre(self, height: int, width: int) -> Float[Tensor, "1 1 {height} {width}"]:
        """The logarithm of where people look whatever they see: the mean of the maps of stills; its maximum is 0."""
        mean = nn.functional.adaptive_avg_pool2d(self.mean_map, (height, width))
        mean = mean + mean.flip(-1)
        return (mean / mean.max()).clamp(min=1e-6).log()

    @cached_property
    def mean_map(self) -> Float[Tensor, "1 1 h w"]:
        rng = np.random.default_rng(0)
        targets = torch.stack([self.target(s) for s in self.draw("stills", CENTRE_SAMPLES, rng)])
        return (targets / targets.sum(dim=(2, 3), keepdim=True)).mean(0, keepdim=True)

    def vary(self, sample: Sample, phase: str, rng: np.random.Generator) -> Sample:
        """Mirrored half of the time; stills are also cropped, and lit otherwise."""
        mirrored, crop, light = bool(rng.random() < 0.5), sample.crop, sample.light
        if phase == "stills":
            light = (float(rng.uniform(0.8, 1.2)), float(rng.uniform(-20, 20)))
            if rng.random() < self.config.crop_share:
                size = float(rng.uniform(0.7, 1.0))
                crop = (*(float(v) for v in rng.uniform(0, 1 - size, 2)), size)
        return Sample(sample.clip, sample.index, mirrored, crop, light)

    def seconds(self, sample: Sample) -> float:
        return float(self.store.seconds[key(sample.clip)][sample.index])

    def fixations(self, sample: Sample) -> np.ndarray:
        """Those on the sample's frame, as the sample sees it."""
        return sample.seen(sample.clip.on_frame(self.store.seconds[key(sample.clip)][sample.index]))

    def target(self, sample: Sample) -> Float[Tensor, "1 h w"]:
        """S_0 of the sample."""
        name, size = key(sample.clip), (self.model.height, self.model.width)
        height, width = size[0] // TARGET_STRIDE, size[1] // TARGET_STRIDE
        grid = torch.from_numpy(saliency_map(self.fixations(sample), height, width, self.store.aspects[name]))
        return nn.functional.interpolate(grid[None, None], size=size, mode="bilinear")[0]

    def picture(self, sample: Sample) -> Float[Tensor, "3 h w"]:
        """The sample's frame, normalised."""
        image = np.array(self.store.frames[self.store.ranges[key(sample.clip)][sample.index]])
        (left, top, part), (contrast, brightness) = sample.crop, sample.light
        if part < 1:
            height, width = image.shape[:2]
            y, x = round(top * height), round(left * width)
            cut = image[y : y + round(part * height), x : x + round(part * width)]
            image = cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR)
        if sample.light != (1.0, 0.0):
            image = cv2.convertScaleAbs(image, alpha=contrast, beta=brightness)
        return normalise(image[:, ::-1].copy() if sample.mirrored else image, self.model)

    def sound(self, clip: GazeClip) -> MelTrack | None:
        """The clip's log-mel windows, read when first needed; None for a picture or a clip without sound."""
        if key(clip) not in self.mels:
            sound = None if clip.is_picture or self.model.audio_encoder is None else read_sound(clip.path)
            self.mels[key(clip)] = MelTrack(self.model, sound) if sound is not None else None
        return self.mels[key(clip)]

    def heard(self, sample: Sample, rng: np.random.Generator | None) -> Float[Tensor, "1 n m k"] | None:
        """The log-mel that goes with the sample, or None: silence.

        With ``rng``, in training, some samples hear nothing and some another clip or moment, which must not mislead.
        """
        clip, seconds = sample.clip, self.seconds(sample)
        if self.sound(clip) is None:
            return None
        if rng is not None:
            chance = rng.random()
            if chance < self.config.mute_share:
                return None
            if chance < self.config.mute_share + self.config.other_sound_share:
                others = [c for c in self.videos if c.set_name == clip.set_name and self.sound(c) is not None]
                clip = others[rng.integers(len(others))]
                seconds = float(rng.choice(self.store.seconds[key(clip)]))
        return torch.from_numpy(self.sound(clip).window(seconds, 1.0, sample.index))


def key(clip: GazeClip) -> str:
    return f"{clip.set_name}/{clip.name}"


def normalise(image: np.ndarray, config: ModelConfig) -> Float[Tensor, "3 h w"]:
    """uint8 (h, w, 3) → the network's input."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.preprocessing.mean, config.preprocessing.std))
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - mean) / std
