"""One clip of any database: its frames, sound and ground truth, read when they are asked for.

Every reader (``DATASETS[name](root, split)``) returns these. Frames are counted from 0 here whatever their files are
called; the ground truth of a frame is the file that carries the same number (``img_00042.jpg``, ``eyeMap_00042.jpg``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from diffsal.errors import InputError
from diffsal.folders import trailing_number
from diffsal.media.mel import SAMPLE_RATE, Sound
from diffsal.media.pictures import read_picture
from diffsal.media.probe import frame_seconds, frames_in_header
from diffsal.media.source import Frame, Source, open_source


class Truth(Protocol):
    """Where people looked on each frame of one clip. :class:`Clip` says what the methods give."""

    def annotated(self, clip: Clip) -> list[int]: ...
    def inputs(self, clip: Clip) -> list[Path]: ...
    def map_path(self, clip: Clip, index: int) -> Path: ...
    def saliency_map(self, clip: Clip, index: int) -> np.ndarray: ...
    def fixations(self, clip: Clip, index: int) -> np.ndarray | None: ...
    def points(self, clip: Clip, index: int) -> np.ndarray | None: ...
    def observers(self, clip: Clip, index: int) -> np.ndarray | None: ...


@dataclass(frozen=True, eq=False)
class Clip:
    """A video (or a picture, a clip of one frame) with its ground truth. Making one reads nothing.

    ``video`` is a video file or a folder of numbered pictures, at ``folder_frame_rate`` frames per second.
    ``sound_path`` is a file with the sound, where it is not the video itself. ``truth`` is None where a database keeps
    its ground truth to itself. ``listed_frames`` is what the database's own list says, where it has one.

    Every property and method raises :class:`InputError`, naming the file, for what is missing or cannot be read.
    """

    name: str
    dataset: str
    split: str
    video: Path
    truth: Truth | None = None
    folder_frame_rate: float | None = None
    sound_path: Path | None = None
    fold: int | None = None
    listed_frames: int | None = None

    def fresh(self) -> Clip:
        """The same clip with nothing read: what a clip has listed of its files stays in memory as long as it does."""
        return replace(self, truth=replace(self.truth) if is_dataclass(self.truth) else self.truth)

    # --- picture and sound ----------------------------------------------------------------------------------------

    @cached_property
    def _opened(self) -> Source:
        source = open_source(self.video)
        if not (source.width and source.height and source.frame_rate > 0):
            raise InputError(f"{self.video}: its header is damaged, it says no size or rate; fetch it again")
        if source.pictures and self.folder_frame_rate is not None:
            source.frame_rate = self.folder_frame_rate
        if self.sound_path is not None:
            source.sound_path = str(self.sound_path)
        return source

    def source(self) -> Source:
        """The clip as :func:`diffsal.predict` takes it; each call gives a fresh one, without problems."""
        return replace(self._opened, problems=[])

    @cached_property
    def _times(self) -> list[float]:
        """Seconds of every frame of a video file, from its packets; empty where they carry none.

        Where nothing says how many frames there are either, they are decoded once.
        """
        opened = self._opened
        if opened.path is None:
            return []
        times = frame_seconds(opened.path, opened.origin_seconds)
        return times if times or self._counted else [frame.seconds for frame in self]

    @cached_property
    def _counted(self) -> int:
        """How many frames the header of a video file says there are, and its packets bear out."""
        path = self._opened.path
        return 0 if path is None else frames_in_header(path)

    @cached_property
    def _first_seconds(self) -> float:
        """When the first frame is shown: after 0, where the sound of a file starts before its picture."""
        return 0.0 if self._opened.pictures else next(iter(self)).seconds

    @cached_property
    def num_frames(self) -> int:
        """How many frames there are: of the folder, by the packets, by the container's header, or decoded."""
        if self._opened.path is None:
            return self._opened.num_frames or 0
        return len(self._times) or self._counted

    @property
    def frame_rate(self) -> float:
        """Frames per second, on average; not always a whole number."""
        return self._opened.frame_rate

    @property
    def height(self) -> int:
        return self._opened.height

    @property
    def width(self) -> int:
        return self._opened.width

    @property
    def is_picture(self) -> bool:
        return self._opened.is_picture

    @property
    def has_sound(self) -> bool:
        return self.sound_path is not None or self._opened.has_sound

    def seconds(self, index: int) -> float:
        """The time of frame ``index`` on the video's clock."""
        self._check(index)
        return self._times[index] if self._times else self._first_seconds + index / self.frame_rate

    def number(self, index: int) -> int:
        """The number that frame ``index`` carries in the names of its files; in a video file the first is 1."""
        self._check(index)
        pictures = self._opened.pictures
        return self._number_of(pictures[index]) if pictures and pictures[0] != self.video else index + 1

    @staticmethod
    def _number_of(picture: Path) -> int:
        number = trailing_number(picture.stem)
        if number is None:
            raise InputError(f"{picture}: its name ends in no number; rename it")
        return number

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames in the order asked for, repeats included: uint8 RGB (len(indices), height, width, 3).

        From a video file they are decoded from the keyframe before the first of them.
        """
        for index in indices:
            self._check(index)
        pictures = self._opened.pictures
        found = {i: read_picture(pictures[i]) for i in set(indices)} if pictures else self._decoded(set(indices))
        for i, image in found.items():
            if image.shape[:2] != (self.height, self.width):
                where = pictures[i] if pictures else self.video
                raise InputError(f"{where}: frame {i} is {image.shape[1]}x{image.shape[0]}, expected "
                                 f"{self.width}x{self.height} as the clip's first; replace it")
        return np.stack([found[i] for i in indices])

    def _decoded(self, wanted: set[int]) -> dict[int, np.ndarray]:
        first, last, found = min(wanted), max(wanted), {}
        start = self.seconds(first) - 0.5 / self.frame_rate if first else None
        for frame in self.source().frames(start):
            if frame.index in wanted:
                found[frame.index] = frame.image
            if frame.index >= last:
                break
        if len(found) < len(wanted):
            raise InputError(f"{self.video}: frame {min(wanted - set(found))} of {self.num_frames} cannot be decoded; "
                             "fetch the file again")
        return found

    def __iter__(self) -> Iterator[Frame]:
        """Every frame in order, one at a time: ``index``, ``seconds``, ``image`` uint8 RGB (height, width, 3)."""
        return self.source().frames()

    def sound(self, rate: int | None = SAMPLE_RATE) -> Sound | None:
        """The sound, mono, on the video's clock; None for a clip without any. ``rate`` None: the file's own."""
        return self.source().sound(rate)

    # --- ground truth ---------------------------------------------------------------------------------------------

    @property
    def annotated(self) -> list[int]:
        """Indices of the frames that have ground truth; empty for a clip without any."""
        return [] if self.truth is None else self.truth.annotated(self)

    @property
    def inputs(self) -> list[Path]:
        """Files and folders that the clip is read from: picture, sound, ground truth; there or not."""
        own = [self.video, *([self.sound_path] if self.sound_path else [])]
        return own + ([] if self.truth is None else self.truth.inputs(self))

    def map_path(self, index: int) -> Path | None:
        """The file that the ground truth of frame ``index`` comes from, there or not; to name it in a message."""
        self._check(index)
        return None if self.truth is None else self.truth.map_path(self, index)

    def saliency_map(self, index: int) -> np.ndarray | None:
        """float32 (h, w) in [0, 1], at the ground truth's own size, which need not be the video's."""
        self._check(index)
        return None if self.truth is None else self.truth.saliency_map(self, index)

    def fixations(self, index: int) -> np.ndarray | None:
        """bool (h, w): the pixels that somebody fixated; None where the database gives no fixations at all."""
        self._check(index)
        return None if self.truth is None else self.truth.fixations(self, index)

    def points(self, index: int) -> np.ndarray | None:
        """int64 (n, 2): column and row of every fixation, several on one pixel included where the database knows."""
        self._check(index)
        return None if self.truth is None else self.truth.points(self, index)

    def observers(self, index: int) -> np.ndarray | None:
        """int64 (n,): whose each of :meth:`points` is; None where the database does not say."""
        self._check(index)
        return None if self.truth is None else self.truth.observers(self, index)

    def _check(self, index: int) -> None:
        if not 0 <= index < self.num_frames:
            raise ValueError(f"frame {index} is not in {self.dataset} {self.name}, which has {self.num_frames} frames")

