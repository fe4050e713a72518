"""Files, folders, pictures, URLs and cameras → frames and sound on one clock, in seconds. The only reader of media.

Time 0 is the start of whichever of the picture and the sound starts first. Frames come upright (rotation metadata is
applied), at the size in which they are coded, one at a time: memory does not grow with a video's length.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from diffsal.errors import InputError
from diffsal.files import check_plain
from diffsal.folders import list_names
from diffsal.media.container import SEEKABLE_CODECS, Decoding, FrameTimes, has_own_times, one_line, open_media
from diffsal.media.losses import Losses
from diffsal.media.mel import SAMPLE_RATE, Sound
from diffsal.media.orientation import display_matrix, is_across, upright, upright_size
from diffsal.media.pictures import ANIMATED, PICTURE_SUFFIXES, check_size, read_animation, read_header, read_picture
from diffsal.media.probe import (
    FEWEST_BYTES,
    frame_seconds,
    measured_rate,
    picture_stream,
    plausible_frames,
    sound_stream,
    stamps_until,
    start_seconds,
    stated_end,
)
from diffsal.media.soundtrack import read_sound

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp",
    ".gif", ".y4m", ".apng", ".asf", ".divx", ".f4v", ".m2ts", ".m2v", ".mxf", ".nut", ".ogg", ".3g2", ".vob",
)
FOLDER_FRAME_RATE = 25.0  # of a folder of numbered pictures, which carries no times
SHORTEST_FRAME_SECONDS = 1e-3
HIGHEST_FRAME_RATE = 1000.0  # a header that says more says nothing
LARGE_PIXELS = 2560 * 1440  # a picture of 4K takes 12 MB as it is decoded, 25 MB as RGB
LARGE_THREADS = 2  # that decode large pictures; each holds one more, and there would be one per core
SLICED_CODECS = ("ffv1",)  # damaged frames of which make FFmpeg 8.1 write past its memory, several at once


@dataclass(frozen=True, eq=False)
class Frame:
    """One upright picture: its 0-based index, its time in seconds, and uint8 RGB (height, width, 3).

    ``picture`` is that, or the decoder's own frame in half the memory, of which RGB is made when it is first asked for.
    """

    index: int
    seconds: float
    picture: np.ndarray | av.VideoFrame

    @cached_property
    def image(self) -> np.ndarray:
        """uint8 RGB (height, width, 3)."""
        return upright(self.picture) if isinstance(self.picture, av.VideoFrame) else self.picture

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return upright_size(self.picture) if isinstance(self.picture, av.VideoFrame) else self.picture.shape[:2]

    def packed(self) -> Frame:
        """The same frame without the RGB that was made."""
        return Frame(self.index, self.seconds, self.picture)


@dataclass(eq=False)
class Source:
    """One clip, as :func:`open_source` finds it.

    ``width`` and ``height`` are those of the upright picture in coded pixels, whose shape is ``sample_aspect_ratio``
    (width over height). ``num_frames`` and ``duration_seconds`` are what the container says, or None. ``problems``
    fills while frames and sound are read: one line for each thing that could not be decoded.
    """

    name: str
    path: str | None = None  # a file or URL that PyAV opens; None for pictures and cameras
    pictures: list[Path] = field(default_factory=list)
    camera: int | None = None
    problems: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0
    frame_rate: float = FOLDER_FRAME_RATE
    num_frames: int | None = None
    duration_seconds: float | None = None
    origin_seconds: float = 0.0  # where the container's own clock stands at our time 0
    sample_aspect_ratio: Fraction = Fraction(1)
    has_sound: bool = False
    sound_path: str | None = None  # a file of its own for the sound, which starts with the picture
    is_animation: bool = False  # of WebP or AVIF
    end_seconds: float | None = None  # when the last frame that was read ends; a picture may be held for long

    @property
    def is_picture(self) -> bool:
        return len(self.pictures) == 1

    @property
    def is_large(self) -> bool:
        """Whether each picture that is held counts."""
        return self.width * self.height > LARGE_PIXELS

    def frames(self, start: float | None = None, before: int = 0) -> Iterator[Frame]:
        """Every frame that can be decoded, in order, from ``before`` frames ahead of the first at or after ``start``.

        Indices are those in the whole clip. Raises :class:`InputError` where no frame at all can be decoded.
        """
        size, found = None, False
        for frame in self._from(start, before):
            found, shape = True, frame.size
            size = size or shape
            if shape != size:
                self._note(f"the picture changes its size to {shape[1]}x{shape[0]}, enlarged or reduced to the first")
                frame = Frame(frame.index, frame.seconds, cv2.resize(frame.image, size[::-1]))
            yield frame
        if not found and start is None:
            raise InputError(f"{self.name}: no frame could be decoded; is it a video? Try to play or re-encode it")

    def sound(self, rate: int | None = SAMPLE_RATE) -> Sound | None:
        """The clip's sound, mono, on the clock of its frames (:func:`diffsal.media.soundtrack.read_sound`)."""
        if self.sound_path is not None:
            return read_sound(self.sound_path, rate, None, self.problems)
        if self.path is None or not self.has_sound:
            return None
        return read_sound(self.path, rate, self.origin_seconds, self.problems)

    def _note(self, problem: str) -> None:
        line = f"{self.name}: {problem}"
        if line not in self.problems:
            self.problems.append(line)

    def _from(self, start: float | None, before: int) -> Iterator[Frame]:
        """:meth:`frames` without its checks."""
        raw: Iterator[tuple[int, float, Any]]
        if self.pictures:
            raw = self._pictures()
        elif self.camera is not None:
            raw = self._shots()
        else:
            raw = self._animated() if self.is_animation else self._decoded(start, before)
        waiting: deque = deque(maxlen=before)
        for index, seconds, picture in raw:
            if start is not None and seconds < start:
                waiting.append((index, seconds, picture))
                continue
            for number, shown, found in (*waiting, (index, seconds, picture)):
                yield Frame(number, shown, found)
            waiting.clear()

    def _pictures(self) -> Iterator[tuple[int, float, np.ndarray]]:
        for index, path in enumerate(self.pictures):
            try:
                yield index, index / self.frame_rate, read_picture(path)
            except InputError as error:
                if self.is_picture:
                    raise
                self.problems.append(f"{error} (frame {index} is left out)")

    def _shots(self) -> Iterator[tuple[int, float, np.ndarray]]:
        assert self.camera is not None
        camera, index = cv2.VideoCapture(self.camera), 0
        try:
            began = time.monotonic()
            while True:
                ok, image = camera.read()
                if not ok:
                    return
                yield index, time.monotonic() - began, image[..., ::-1]
                index += 1
        finally:
            camera.release()

    def _animated(self) -> Iterator[tuple[int, float, np.ndarray]]:
        assert self.path is not None
        index = 0
        try:
            for index, (seconds, duration, image) in enumerate(read_animation(Path(self.path))):
                self.end_seconds = seconds + duration
                yield index, seconds, image
        except InputError as error:
            if self.end_seconds is None:
                raise
            self._note(f"{error} ({index + 1} of {self.num_frames} frames are done)".removeprefix(f"{self.name}: "))

    def _decoded(self, start: float | None, before: int) -> Iterator[tuple[int, float, av.VideoFrame]]:
        assert self.path is not None
        with open_media(self.name, self.path) as container, one_line(self.name):
            stream, sound = picture_stream(container), sound_stream(container)
            stream.thread_type = "SLICE" if stream.codec_context.name in SLICED_CODECS else "AUTO"
            if self.is_large:
                stream.thread_count = LARGE_THREADS
            index, first_pts = self._jump(container, stream, start, before)
            seconds: float | None = None
            losses = Losses(self.path, container, stream, 1 / self.frame_rate, self.duration_seconds)
            times = FrameTimes(container, stream, 1 / self.frame_rate)
            decoding = Decoding(container, stream, self.origin_seconds, (sound,))
            for decoded in decoding.frames():
                own, duration = times.seconds(decoded)
                if first_pts is not None and decoded.pts is not None and decoded.pts < first_pts:
                    continue
                if own is not None:
                    own -= self.origin_seconds
                else:
                    own = index / self.frame_rate if seconds is None else seconds + 1 / self.frame_rate
                # Time goes forward whatever a broken file says
                seconds = own if seconds is None else max(own, seconds + SHORTEST_FRAME_SECONDS)
                losses.holes.add(seconds, duration)
                self.end_seconds = seconds + (duration or 1 / self.frame_rate)
                yield index, seconds, decoded
                index += 1
                if index > losses.most_frames:
                    self._note(f"gives more than {index:,} frames, more than its size can hold; it ends there")
                    return
            if seconds is not None:
                for problem in losses.found(decoding, index, self.end_seconds or seconds, first_pts is not None):
                    self._note(problem)

    def _jump(self, container: Any, stream: Any, start: float | None, before: int) -> tuple[int, int | None]:
        """Seek to a keyframe ahead of ``start``; the index and time stamp of the first frame wanted from there on."""
        assert self.path is not None
        seekable = stream.codec_context.name in SEEKABLE_CODECS and has_own_times(container)
        if start is None or not seekable or "://" in self.path:
            return 0, None
        stamp = round((start + self.origin_seconds) / stream.time_base)
        with contextlib.suppress(av.FFmpegError, StopIteration), open_media(self.name, self.path) as scout:
            scouted = picture_stream(scout)
            stamps, keys = stamps_until(Decoding(scout, scouted, 0.0, (sound_stream(scout),)), stamp)
            first = bisect_left(stamps, stamp) - before - 1
            first = bisect_left(stamps, stamps[first]) if first > 0 else 0  # of those that share its stamp
            for key_pts, key_dts in sorted(keys, reverse=True) if first > 0 else ():
                scout.seek(key_dts, stream=scouted)
                landed = next(p for p in scout.demux(scouted) if p.size)
                if key_pts <= stamps[first] and landed.pts is not None and landed.pts <= stamps[first]:
                    container.seek(key_dts, stream=stream)
                    return first, stamps[first]
        return 0, None


def open_source(source: str | Path | int) -> Source:
    """A video file, a picture, a folder of numbered pictures (one clip), an http(s) URL, or a camera by its index.

    Raises :class:`InputError`, one line, for what is missing, empty, unreadable, or holds no picture.
    """
    name = str(source)
    if name.isdigit() and not Path(name).exists():
        return _open_camera(int(name))
    if name.startswith(("http://", "https://")):
        return _probe(Source(name, name))
    path = Path(name)
    try:
        there = path.exists()
    except OSError as error:  # in a folder that is closed to us
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not there:
        raise InputError(f"{path}: no such file or folder; check the name")
    if path.is_dir():
        pictures = numbered_pictures(path)
        if not pictures:
            raise InputError(f"{path}: holds no videos and no numbered pictures; name another folder or the files")
        header = read_header(pictures[0])
        return Source(name, None, pictures, width=header.width, height=header.height, num_frames=len(pictures))
    check_plain(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; fetch or export it again")
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return _probe(Source(name, str(path)))
    header = read_header(path)
    if not header.is_animated:
        return Source(name, None, [path], width=header.width, height=header.height, num_frames=1)
    if header.format not in ANIMATED:
        return _probe(Source(name, str(path)))
    return Source(name, str(path), width=header.width, height=header.height, num_frames=header.num_frames,
                  is_animation=True)


def expand(source: str) -> list[str]:
    """A folder of videos becomes its videos, a folder of unnumbered pictures its pictures; all else stays what it is.

    In name order; what this program wrote (``*.saliency.*``) is left out. Raises :class:`InputError` for a folder that
    cannot be read or holds neither.
    """
    path = Path(source)
    if not source:
        raise InputError("'': an empty name is no input; name a file, a folder, an address or a camera")
    if not os.path.isdir(path):  # Path.is_dir raises where a folder is closed to us
        return [source]
    for suffixes in (VIDEO_SUFFIXES, PICTURE_SUFFIXES):
        if suffixes is PICTURE_SUFFIXES and numbered_pictures(path):
            return [source]
        found = _listed(path, suffixes)
        if found:
            return [str(p) for p in found]
    raise InputError(f"{path}: holds no videos and no pictures; name another folder or the files")


def numbered_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder by number, if they are numbered (``7.png``, ``img_07.jpg``) with one prefix; else []."""
    pictures = _listed(folder, PICTURE_SUFFIXES)
    matches = [m for p in pictures if (m := re.fullmatch(r"(.*?)(\d+)", p.stem))]
    numbers = [int(m[2]) for m in matches]
    if len(set(numbers)) < len(pictures) or len({m[1] for m in matches}) > 1:
        return []
    return [p for _, p in sorted(zip(numbers, pictures, strict=True))]


def _listed(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    paths = (folder / name for name in list_names(folder) if ".saliency." not in name)
    return [path for path in paths if path.suffix.lower() in suffixes and not os.path.isdir(path)]


def _open_camera(index: int) -> Source:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would speak before our one line does
    camera = cv2.VideoCapture(index)
    try:
        ok, image = camera.read()
        if not ok:
            raise InputError(f"camera {index}: no picture comes from it; check that it is connected and not in use")
        rate = camera.get(cv2.CAP_PROP_FPS) or FOLDER_FRAME_RATE
        return Source(f"camera {index}", camera=index, width=image.shape[1], height=image.shape[0], frame_rate=rate)
    finally:
        camera.release()


def _probe(source: Source) -> Source:
    """Fill in what the container and its first frame say."""
    assert source.path is not None
    with open_media(source.name, source.path) as container, one_line(source.name):
        stream = picture_stream(container)
        if stream is None:
            found = {"a cover" if s.type == "video" else s.type for s in container.streams if s.codec_context}
            what = f"no video, only {' and '.join(sorted(found))}; give a file with a picture" if found else (
                "nothing that can be decoded; convert a video to MP4, a picture to PNG")
            raise InputError(f"{source.name}: holds {what}")
        sound = sound_stream(container)
        source.has_sound = sound is not None
        rate = float(stream.average_rate or measured_rate(source.path) or stream.guessed_rate or FOLDER_FRAME_RATE)
        source.frame_rate = rate if 0 < rate < HIGHEST_FRAME_RATE else FOLDER_FRAME_RATE
        source.width, source.height = stream.codec_context.width, stream.codec_context.height
        source.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(1)
        if source.width and source.height:
            check_size(source.name, source.width, source.height)
        source.origin_seconds = start_seconds(stream, sound)
        first = next(Decoding(container, stream, source.origin_seconds).frames(), None)
        if first is not None:
            shown, _ = FrameTimes(container, stream, 1 / source.frame_rate).seconds(first)
            if shown is not None:  # FFmpeg takes the first stamp of ASF for the start; frames before may have none
                source.origin_seconds = min(source.origin_seconds, shown)
            source.width, source.height = first.width, first.height
            if is_across(display_matrix(first)):
                source.width, source.height = first.height, first.width
                source.sample_aspect_ratio = 1 / source.sample_aspect_ratio
        source.duration_seconds = stated_end(container, stream, source.origin_seconds)
        source.num_frames = plausible_frames(stream, source.path)
        if source.num_frames is None:
            source.num_frames = _count(source, stream.frames > 0)
    return source


def _count(source: Source, is_claimed: bool) -> int | None:
    """How many frames there are by the length that the container states, or, where it claims what cannot be, counted.
    """
    assert source.path is not None
    if is_claimed:
        return len(frame_seconds(source.path, source.origin_seconds)) or None
    if source.duration_seconds is None:
        return None
    expected = max(1, round(source.duration_seconds * source.frame_rate))
    if "://" not in source.path and expected * FEWEST_BYTES > max(os.path.getsize(source.path), FEWEST_BYTES):
        return None
    return expected
