"""An engine that is quick and whose answers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from diffsal.config import Finish, ModelConfig
from diffsal.media.threads import worker_threads


@dataclass
class Call:
    """What one call saw: a brightness (0 to 255) per frame of each window, and the sound's loudness."""

    windows: np.ndarray
    loudness: np.ndarray | None


class StandIn:
    """Maps are the target frame's brightness in [0, 1], plus a little noise, plus 0.25 where the sound is loud."""

    def __init__(self, by_frame: bool = True, sound: bool = True, noise: float = 0.1, frame_step: int = 1) -> None:
        self.config = ModelConfig(video_encoder="mobilenet_v2", audio_encoder="yamnet" if sound else None, height=32,
                                  width=32, map_stride=1)
        self.finish, self.encodes_frames, self.frame_step = Finish(), by_frame, frame_step
        self.num_workers, self.batch_size, self.spacing = 1, 2, "linspace"
        self.noise = noise
        self.calls: list[Call] = []
        self.num_encoded = 0

    @contextmanager
    def workers(self, count: int) -> Iterator[Executor]:
        with worker_threads(count) as pool:
            yield pool

    def encode_frames(self, images: np.ndarray) -> list[np.ndarray]:
        self.num_encoded += len(images)
        return list(images.mean(3))

    def encode_sound(self, mel: np.ndarray) -> np.ndarray:
        return mel.max((1, 2, 3, 4))

    def encode_windows(self, frames: Sequence, brightness: np.ndarray | None, audio: np.ndarray | None):
        windows = np.array([[frame.mean() for frame in window] for window in frames])
        self.calls.append(Call(windows, audio))
        return np.stack([window[len(window) // 2] for window in frames]) / 255, audio

    def denoise(self, x_t: np.ndarray, t: np.ndarray, conditions) -> np.ndarray:
        bright, audio = conditions
        loud = 0 if audio is None else 0.25 * (audio > 0)[:, None, None]
        return np.float32((bright + loud)[:, None] + self.noise * x_t)


class Oracle:
    """A source of maps for evaluations that knows the ground truth."""

    name = "oracle"

    def maps(self, clip, wanted, problems):
        for index in wanted:
            yield index, clip.saliency_map(index)

    def size(self):
        return None

    def fingerprint(self, clips):
        return []
