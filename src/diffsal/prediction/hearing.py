"""What a stream hears: the sound around each frame, and where the picture changes with it.

The latter is the sound prior, in which nothing is learned: over the last seconds, the change from frame to frame at
each place is correlated with the sound's loudness (Hershey & Movellan 1999, "Audio vision", with a finite memory). Its
positive part shows who speaks and what is struck.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffsal.config import Finish, ModelConfig
from diffsal.media.mel import MelTrack, Sound
from diffsal.media.source import Frame
from diffsal.prediction.finish import energy

HISTORY_SECONDS = 5.0
TRUSTED_SECONDS = 1.2  # of history from which on the correlation counts in full
LEAST_SPREAD = 0.4  # added to the standard deviation of a place's change (a logarithm): what hardly changes says little
LEAST_LOUDNESS_SPREAD = 0.1  # likewise, of the loudness (the logarithm of mel magnitudes)


class Synchrony:
    """The correlation over the ``HISTORY_SECONDS`` before any of the last few frames, as a stream.

    Frames are numbered from 0 in the order in which they are added; ``kept_frames`` of them can be asked for.
    """

    def __init__(self, frame_rate: float, kept_frames: int) -> None:
        self.history = max(2, round(HISTORY_SECONDS * frame_rate))
        self.trusted = max(1, round(TRUSTED_SECONDS * frame_rate))
        self.kept = self.history + kept_frames
        self.count = 0
        self.changes, self.loudness = torch.empty(0), torch.empty(0)  # of the last frames that were added
        self.before: Tensor | None = None  # the last frame's brightness

    def add(self, brightness: Float[Tensor, "n 1 h w"], loudness: list[float]) -> None:
        """The next frames: their brightness, as the encoder gives it, and how loud it is around each."""
        small = F.avg_pool2d(brightness.float(), 2)
        before = small[:1] if self.before is None else self.before
        change = energy((small - torch.cat([before, small[:-1]])).abs())[:, 0]
        self.changes = torch.cat([self.changes[-self.kept :], change]) if self.count else change
        self.loudness = torch.cat([self.loudness[-self.kept :], torch.tensor(loudness)])
        self.before, self.count = small[-1:], self.count + len(small)

    def at(self, frame: int) -> Float[Tensor, "1 h2 w2"]:
        """The correlation's positive part over what came before the end of frame ``frame``."""
        stop = min(frame + 1, self.count)
        start = max(1, stop - self.history)  # the first frame has none before it
        if stop - start < 2:
            return torch.zeros_like(self.before[0])
        rows = slice(start - self.count + len(self.changes), stop - self.count + len(self.changes))
        changes, loudness = self.changes[rows], self.loudness[rows].to(self.changes.device)
        loudness = loudness - loudness.mean()
        loudness = loudness / (loudness.std(correction=0) + LEAST_LOUDNESS_SPREAD)
        together = torch.tensordot(loudness, changes, dims=1) / len(changes)  # the loudness has no mean
        spread = (changes - changes.mean(dim=0)).square().mean(dim=0).sqrt()  # sooner than std()
        together = together / (spread + LEAST_SPREAD)
        return together.clamp(min=0)[None] * min(1.0, len(changes) / self.trusted)


class Heard(NamedTuple):
    """What goes with some windows: their log-mel, and what the sound prior weighs; None without sound, or a prior."""

    mel: Float[Tensor, "b 1 n m k"] | None = None
    synchrony: Float[Tensor, "b 1 h w"] | None = None


class Hearing:
    """One sound's way through a stream: frames are read, then encoded, then windows are asked for, each in order."""

    def __init__(
        self, config: ModelConfig, finish: Finish, sound: Sound | None, frame_rate: float, kept_frames: int
    ) -> None:
        self.mels, self.frame_rate = MelTrack(config, sound), frame_rate
        weighed = finish.sound_gain > 0 and config.preprocessing.sound == "timestamps" and sound is not None
        self.synchrony = Synchrony(frame_rate, kept_frames) if weighed else None
        self.loudness: deque[float] = deque()  # of frames read, not yet encoded

    @property
    def num_before(self) -> int:
        """How many frames before the first window's are to be read."""
        return self.synchrony.history if self.synchrony is not None else 0

    def read(self, frame: Frame) -> None:
        if self.synchrony is not None:
            self.loudness.append(self.mels.loudness(frame.seconds))

    def encoded(self, brightness: Float[Tensor, "n 1 h w"]) -> None:
        """The next frames' brightness, as the encoder gives it."""
        if self.synchrony is not None:
            self.synchrony.add(brightness, [self.loudness.popleft() for _ in brightness])

    def of(self, frames: list[Frame], last: list[int]) -> Heard:
        """What goes with the windows of ``frames``; ``last``: the number of each window's last frame."""
        mels = [self.mels.window(f.seconds, self.frame_rate, f.index) for f in frames]
        synchrony = None if self.synchrony is None else torch.stack([self.synchrony.at(i) for i in last])
        return Heard(None if mels[0] is None else torch.from_numpy(np.stack(mels)), synchrony)
