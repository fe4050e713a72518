"""What a stream hears: the sound around each frame, and where the picture changes with it.

The latter is the sound prior, in which nothing is learned: over the last seconds, the change from frame to frame at
each place is correlated with the sound's loudness (Hershey & Movellan 1999, "Audio vision", with a finite memory). Its
positive part shows who speaks and what is struck.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy import ndarray

from diffsal.config import Finish, ModelConfig
from diffsal.media.mel import SAMPLE_RATE, MelTrack, Sound
from diffsal.media.source import Frame
from diffsal.prediction.finish import energy
from diffsal.prediction.speakers import Speakers, SpeakingFace, speaking_map
from diffsal.shapes import Float

HISTORY_SECONDS = 5.0
TRUSTED_SECONDS = 1.2  # of history from which on the correlation counts in full
LEAST_SPREAD = 0.4  # added to the standard deviation of a place's change (a logarithm): what hardly changes says little
LEAST_LOUDNESS_SPREAD = 0.1  # likewise, of the loudness (the logarithm of mel magnitudes)


def history_frames(frame_rate: float) -> int:
    """How many frames :class:`Synchrony` looks back."""
    return max(2, round(HISTORY_SECONDS * frame_rate))


class Synchrony:
    """Where the picture changes with the sound's loudness, over the seconds before a frame, as a stream.

    Over ``HISTORY_SECONDS`` the change from frame to frame at each place is correlated with the loudness (Hershey &
    Movellan 1999, "Audio vision", with a finite memory). The positive part shows who speaks and what is struck.
    Frames are numbered from 0 in the order in which they are added; ``kept_frames`` of them can be asked for.
    """

    def __init__(self, frame_rate: float, kept_frames: int) -> None:
        self.history = history_frames(frame_rate)
        self.trusted = max(1, round(TRUSTED_SECONDS * frame_rate))
        self.kept = self.history + kept_frames
        self.count = 0
        self.changes: ndarray | None = None  # (2 · kept, h, w), the last frames' in rows [first, stop)
        self.loudness = np.zeros(2 * self.kept, np.float32)
        self.stop = 0
        self.before: ndarray | None = None  # the last frame's brightness

    def add(self, brightness: Float[ndarray, "h w"], loudness: float) -> None:
        """The next frame: its :func:`brightness`, and how loud it is around it."""
        height, width = brightness.shape[0] // 2, brightness.shape[1] // 2
        small = cv2.resize(brightness[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        if self.changes is None:
            self.changes = np.zeros((2 * self.kept, height, width), np.float32)
        if self.stop == len(self.changes):  # make room: the last frames move to the front
            self.changes[: self.kept] = self.changes[self.kept :]
            self.loudness[: self.kept] = self.loudness[self.kept :]
            self.stop = self.kept
        self.changes[self.stop] = 0 if self.before is None else energy(np.abs(small - self.before))
        self.loudness[self.stop] = loudness
        self.before, self.count, self.stop = small, self.count + 1, self.stop + 1

    def at(self, frame: int) -> Float[ndarray, "h2 w2"]:
        """The correlation's positive part over what came before the end of frame ``frame``."""
        assert self.changes is not None, "no frame was added"
        stop = min(frame + 1, self.count)
        start = max(1, stop - self.history)  # the first frame has none before it
        if stop - start < 2:
            return np.zeros(self.changes.shape[1:], np.float32)
        rows = slice(start - self.count + self.stop, stop - self.count + self.stop)
        changes, loudness = self.changes[rows], self.loudness[rows]
        loudness = loudness - loudness.mean()
        loudness = loudness / (loudness.std() + np.float32(LEAST_LOUDNESS_SPREAD))
        flat = changes.reshape(len(changes), -1)
        together = loudness @ flat / np.float32(len(flat))  # the loudness has no mean
        centred = flat - flat.mean(axis=0)
        spread = np.sqrt(np.einsum("fp,fp->p", centred, centred) / np.float32(len(flat)))
        together = together / (spread + np.float32(LEAST_SPREAD))
        return together.clip(min=0).reshape(changes.shape[1:]) * np.float32(min(1.0, len(flat) / self.trusted))


class Heard(NamedTuple):
    """What goes with one window: its log-mel, what the sound prior weighs, and where somebody speaks.

    None without sound, or where the finish does not weigh it. ``faces`` are those at the window's own frame.
    """

    mel: Float[ndarray, "1 n m k"] | None = None
    synchrony: Float[ndarray, "h w"] | None = None
    speaker: Float[ndarray, "h w"] | None = None
    faces: tuple[SpeakingFace, ...] = ()


class Hearing:
    """One sound along a stream: frames are added in order, then windows are asked for, in order.

    ``kept_frames`` is how many frames behind the last one added a window may end.
    """

    def __init__(
        self, config: ModelConfig, finish: Finish, sound: Sound | None, frame_rate: float, kept_frames: int
    ) -> None:
        hears_speech = finish.speaker_gain > 0 and sound is not None and sound.rate == SAMPLE_RATE
        self.speakers = Speakers(frame_rate, sound) if hears_speech and sound is not None else None
        self.mels, self.frame_rate = MelTrack(config, sound), frame_rate
        weighed = finish.sound_gain > 0 and sound is not None and config.audio_encoder is not None
        self.synchrony = Synchrony(frame_rate, kept_frames) if weighed else None

    @property
    def num_before(self) -> int:
        """How many frames before the first window's are to be read."""
        return max(self.synchrony.history if self.synchrony is not None else 0,
                   self.speakers.num_before if self.speakers is not None else 0)

    def look(self, frame: Frame) -> None:
        """See who speaks in the next frame. It may come long before :meth:`add`, and from another thread."""
        if self.speakers is not None:
            self.speakers.read(frame)

    def add(self, frame: Frame, brightness: Float[ndarray, "h w"] | None) -> None:
        """The next frame, and its :func:`diffsal.prediction.finish.brightness`."""
        if self.synchrony is not None:
            assert brightness is not None, "the sound prior looks at the frames' brightness"
            self.synchrony.add(brightness, self.mels.loudness(frame.seconds))

    def of(self, frame: Frame, last: int) -> Heard:
        """What goes with the window of ``frame``, whose last frame was the ``last``-th added."""
        synchrony = None if self.synchrony is None else self.synchrony.at(last)
        mel = self.mels.window(frame.seconds, self.frame_rate, frame.index)
        faces = () if self.speakers is None else self.speakers.faces(frame)
        scored = [face for face in faces if face.speaking is not None]
        speaker = speaking_map(scored, *frame.size) if scored else None
        return Heard(mel, synchrony, speaker, faces)
