"""Files, folders, pictures, URLs and cameras → frames and sound on one clock, in seconds. The only reader of media.

Time 0 is the start of whichever of the picture and the sound starts first. Frames come upright (rotation metadata is
applied), at the size in which they are coded, one at a time: memory does not grow with a video's length.
"""

from __future__ import annotations

import contextlib
import re
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from diffsal.errors import InputError
from diffsal.media.container import SEEKABLE_CODECS, Decoding, open_media, picture_stream, sound_stream, start_seconds
from diffsal.media.mel import SAMPLE_RATE, Sound
from diffsal.media.pictures import PICTURE_SUFFIXES, read_header, read_picture
from diffsal.media.soundtrack import read_sound, sound_end

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp",
    ".gif", ".y4m",
)
FOLDER_FRAME_RATE = 25.0  # of a folder of numbered pictures, which carries no times
MISSING_END_SECONDS = 0.5  # a video that ends this much before its container says is reported as cut short
SHORTEST_FRAME_SECONDS = 1e-3
LOSING_CONTAINERS = ("matroska,webm",)  # whose reader passes over damage without a word
HOLE_SECONDS = 0.25
MOST_HOLES = 3
UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED
HD_LINES = 720  # from here on, players take unspecified colours for BT.709


@dataclass(frozen=True, eq=False)
class Frame:
    """One upright picture: its 0-based index, its time in seconds, and uint8 RGB (height, width, 3)."""

    index: int
    seconds: float
    image: np.ndarray


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

    @property
    def is_picture(self) -> bool:
        return len(self.pictures) == 1

    def frames(self, start: float | None = None, before: int = 0) -> Iterator[Frame]:
        """Every frame that can be decoded, in order, from ``before`` frames ahead of the first at or after ``start``.

        Indices are those in the whole clip. Raises :class:`InputError` where no frame at all can be decoded.
        """
        size, found = None, False
        for frame in self._from(start, before):
            found, shape = True, frame.image.shape[:2]
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
        """:meth:`frames` without its checks; pictures become arrays only when they are wanted."""
        raw = self._pictures() if self.pictures else self._shots() if self.camera is not None else self._decoded(
            start, before)
        waiting: deque = deque(maxlen=before)
        for index, seconds, picture in raw:
            if start is not None and seconds < start:
                waiting.append((index, seconds, picture))
                continue
            for item in (*waiting, (index, seconds, picture)):
                yield Frame(*item[:2], _upright(item[2]) if isinstance(item[2], av.VideoFrame) else item[2])
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

    def _decoded(self, start: float | None, before: int) -> Iterator[tuple[int, float, av.VideoFrame]]:
        with open_media(self.name, self.path) as container:
            stream = picture_stream(container)
            stream.thread_type = "AUTO"
            index, first_pts = self._jump(container, stream, start, before)
            seconds, holes = None, Holes(1 / self.frame_rate)
            decoding = Decoding(container, stream, self.origin_seconds)
            for decoded in decoding.frames():
                if first_pts is not None and decoded.pts is not None and decoded.pts < first_pts:
                    continue
                own = None if decoded.time is None else decoded.time - self.origin_seconds
                if own is None:
                    own = index / self.frame_rate if seconds is None else seconds + 1 / self.frame_rate
                # Time goes forward whatever a broken file says
                seconds = own if seconds is None else max(own, seconds + SHORTEST_FRAME_SECONDS)
                holes.add(seconds)
                yield index, seconds, decoded
                index += 1
            damage = decoding.damage() or (holes.found() if container.format.name in LOSING_CONTAINERS else None)
        if damage:
            self._note(f"{damage}; what could be decoded is done, fetch it again or re-encode it for the rest")
        if seconds is not None:
            self._check_end(index, seconds)

    def _jump(self, container: Any, stream: Any, start: float | None, before: int) -> tuple[int, int | None]:
        """Seek to a keyframe ahead of ``start``; the index and time stamp of the first frame wanted from there on."""
        if start is None or stream.codec_context.name not in SEEKABLE_CODECS or "://" in self.path:
            return 0, None
        stamp = round((start + self.origin_seconds) / stream.time_base)
        with contextlib.suppress(av.FFmpegError, StopIteration), open_media(self.name, self.path) as scout:
            scouted = picture_stream(scout)
            stamps, keys = _stamps(scout, scouted, stamp)
            first = bisect_left(stamps, stamp) - before - 1
            for key_pts, key_dts in sorted(keys, reverse=True) if first > 0 else ():
                scout.seek(key_dts, stream=scouted)
                landed = next(p for p in scout.demux(scouted) if p.size)
                if key_pts <= stamps[first] and landed.pts is not None and landed.pts <= stamps[first]:
                    container.seek(key_dts, stream=stream)
                    return first, stamps[first]
        return 0, None

    def _check_end(self, num_frames: int, last_seconds: float) -> None:
        """Note where a file ends before its container says that it would."""
        expected = self.duration_seconds
        if expected is None or last_seconds + 1 / self.frame_rate > expected - MISSING_END_SECONDS:
            return
        if self.has_sound and sound_end(self.path, self.origin_seconds) > expected - MISSING_END_SECONDS:
            return  # only the picture ends: the container's time was the sound's
        self._note(f"ends at {last_seconds:.2f} s of {expected:.2f} s, the file is cut short; the {num_frames} frames "
                   "before are done, fetch the file again for the rest")


def open_source(source: str | Path | int) -> Source:
    """A video file, a picture, a folder of numbered pictures (one clip), an http(s) URL, or a camera by its index.

    Raises :class:`InputError`, one line, for what is missing, empty, unreadable, or holds no picture.
    """
    name = str(source)
    if name.isdigit() and not Path(name).exists():
        return _open_camera(int(name))
    if name.startswith(("http://", "https://")):
        return _probe(Source(name, name))
    path = Path(source)
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
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; fetch or export it again")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        header = read_header(path)
        return Source(name, None, [path], width=header.width, height=header.height, num_frames=1)
    return _probe(Source(name, str(path)))


def expand(source: str) -> list[str]:
    """A folder of videos becomes its videos, a folder of unnumbered pictures its pictures; all else stays what it is.

    In name order; what this program wrote (``*.saliency.*``) is left out. Raises :class:`InputError` for a folder that
    cannot be read or holds neither.
    """
    path = Path(source)
    if not source:
        raise InputError("'': an empty name is no input; name a file, a folder, an address or a camera")
    if not path.is_dir():
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
    matches = [re.fullmatch(r"(.*?)(\d+)", p.stem) for p in pictures]
    if not all(matches) or len({m[1] for m in matches}) > 1 or len({int(m[2]) for m in matches}) < len(pictures):
        return []
    return [p for _, p in sorted(zip((int(m[2]) for m in matches), pictures, strict=True))]


def _listed(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read ({error.strerror}); check its permissions") from None
    return [p for p in entries if p.suffix.lower() in suffixes and ".saliency." not in p.name and p.name[0] != "."]


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
    with open_media(source.name, source.path) as container:
        stream = picture_stream(container)
        if stream is None:
            kinds = " and ".join(sorted({s.type for s in container.streams if s.codec_context})) or "nothing known"
            raise InputError(f"{source.name}: holds no video, only {kinds}; give a file with a picture")
        sound = sound_stream(container)
        source.origin_seconds = start_seconds(stream, sound)
        source.has_sound = sound is not None
        source.frame_rate = float(stream.average_rate or stream.guessed_rate or FOLDER_FRAME_RATE)
        source.duration_seconds = _stated_duration(container, stream, source.origin_seconds)
        source.num_frames = stream.frames or None
        if source.num_frames is None and source.duration_seconds is not None:
            source.num_frames = max(1, round(source.duration_seconds * source.frame_rate))
        source.width, source.height = stream.codec_context.width, stream.codec_context.height
        source.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(1)
        first = next(Decoding(container, stream, source.origin_seconds).frames(), None)
        if first is not None and _quarter_turns(first) % 2:
            source.width, source.height = source.height, source.width
            source.sample_aspect_ratio = 1 / source.sample_aspect_ratio
    return source


class Holes:
    """Finds where frames are missing: a long wait in a clip whose frames otherwise come regularly.

    Matroska's reader passes over damage in silence; this is how it shows. Long waits that come often, or among frames
    that are not regular, are the clip's own.
    """

    def __init__(self, frame_seconds: float) -> None:
        self.frame_seconds = frame_seconds
        self.last: float | None = None
        self.waits: list[tuple[float, float]] = []
        self.regular = self.irregular = 0

    def add(self, seconds: float) -> None:
        wait = self.frame_seconds if self.last is None else seconds - self.last
        if wait > max(HOLE_SECONDS, 5 * self.frame_seconds):
            if len(self.waits) <= MOST_HOLES:
                self.waits.append((self.last, seconds))
        elif abs(wait - self.frame_seconds) < 0.5 * self.frame_seconds:
            self.regular += 1
        else:
            self.irregular += 1
        self.last = seconds

    def found(self) -> str | None:
        """The first hole in words, or None."""
        if not 0 < len(self.waits) <= MOST_HOLES or self.irregular * 50 > self.regular:
            return None
        return f"damaged from {self.waits[0][0]:.2f} s to {self.waits[0][1]:.2f} s (no frame there can be found)"


def _stamps(container: Any, stream: Any, until: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Time stamps of all frames up to a little beyond ``until``, in order; (pts, dts) of the keyframes among them."""
    stamps, keys = [], []
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            if packet.pts is None or packet.dts is None:
                return [], []
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append((packet.pts, packet.dts))
            if packet.dts > until:
                break
    return sorted(stamps), keys


def _stated_duration(container: Any, stream: Any, origin_seconds: float) -> float | None:
    """When the picture ends, on our clock, as the container says it: by stream, by tag, or for the whole."""
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # counted in the header; the duration is what is left
    if stream.duration is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - origin_seconds
    tag = re.match(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - origin_seconds
    return container.duration / av.time_base if container.duration else None


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise that bring the picture upright."""
    return round(frame.rotation / 90) % 4


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """RGB, turned as the rotation metadata says."""
    unspecified_hd = frame.colorspace == UNSPECIFIED_COLORSPACE and frame.height >= HD_LINES
    image = frame.to_ndarray(format="rgb24", src_colorspace="ITU709" if unspecified_hd else None)
    turns = _quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
