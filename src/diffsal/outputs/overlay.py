"""Overlays: heat over the picture as H.264 video with the source's sound, or as a picture.

A writer takes predictions (``write``), finishes its file (``close``) and lets go of everything (``discard``: after
``close`` the file stays, without it nothing does).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from diffsal.errors import InputError
from diffsal.files import GrowingFile
from diffsal.media.container import reason_of
from diffsal.media.pictures import write_picture
from diffsal.media.source import Source
from diffsal.outputs.overlay_sound import OverlaySound

if TYPE_CHECKING:
    from diffsal.prediction.maps import Prediction

OVERLAY_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
COLORMAPS = ("inferno", "viridis", "cividis", "turbo", "jet", "hot")
PIXELS = "yuv420p"
CLOCK = 90_000  # ticks per second of the overlay's time stamps
MOVIE_CLOCK = "48000"  # ticks per second of an MP4's edit list: where the sound begins, to one of its samples
# Against veryfast at crf 20, on 640x360: 2.5 ms of processor time a frame instead of 6.3, PSNR 1 dB higher, files twice
# as large
ENCODER_OPTIONS = {"preset": "ultrafast", "crf": "24"}
ENCODER_THREADS = 2
LONGEST_SIDE = 16_384  # pixels that H.264 can hold
BAND_ROWS = 64  # drawn at once: what a processor's cache holds, and little memory beside a large picture
FUTURE_SECONDS = 0.5  # by which the sound is written ahead of the picture


class Overlayer:
    """Heat over the picture, stronger where people look; scaled by a slowly moving maximum, so it does not flicker."""

    def __init__(self, colormap: str = "inferno", opacity: float = 0.7) -> None:
        if colormap not in COLORMAPS:
            raise ValueError(f"colormap is {colormap!r}, expected one of {', '.join(COLORMAPS)}")
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity is {opacity}, expected 0 to 1")
        ramp = np.arange(256, dtype=np.uint8)[:, None]
        code = getattr(cv2, f"COLORMAP_{colormap.upper()}")
        alphas = (np.linspace(0, 1, 256) ** 0.75 * opacity)[:, None, None]
        colours = cv2.applyColorMap(ramp, code)[..., ::-1]
        # Colour maps by level, (256, 1, 3): how much of the picture stays, in 255ths, and what is added to it
        self.kept = np.ascontiguousarray(np.rint((1 - alphas) * 255).astype(np.uint8).repeat(3, 2))
        self.added = np.ascontiguousarray(np.rint(alphas * colours).astype(np.uint8))
        self.peak = 0.0

    def draw(self, image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
        """uint8 RGB (h, w, 3) and float32 (h, w) → uint8 RGB (h, w, 3)."""
        highest = float(saliency.max())
        self.peak = highest if self.peak == 0 else max(0.9 * self.peak + 0.1 * highest, highest)
        drawn = np.empty_like(image)
        for top in range(0, len(image), BAND_ROWS):
            band = slice(top, top + BAND_ROWS)
            levels = cv2.convertScaleAbs(saliency[band], alpha=255 / max(self.peak, 1e-6))
            kept, added = cv2.applyColorMap(levels, self.kept), cv2.applyColorMap(levels, self.added)
            cv2.add(cv2.multiply(image[band], kept, dst=kept, scale=1 / 255), added, dst=drawn[band])
        return drawn


class VideoWriter:
    """H.264 in MP4 (yuv420p, index in front), the frames' own times, and the source's sound beside them.

    The last frame is shown as long as in the source. Raises :class:`InputError` for what H.264 cannot hold.
    """

    def __init__(self, path: Path, source: Source, start: float | None = None, end: float | None = None) -> None:
        self.path, self.source, self.start, self.end = path, source, start, end
        self.growing = GrowingFile(path)
        options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart", "movie_timescale": MOVIE_CLOCK}
        self.stream: Any = None
        self.sound: OverlaySound | None = None
        self.reformatter = VideoReformatter()
        self.waiting: av.VideoFrame | None = None  # for the next frame, whose time says how long this one is shown
        self.waiting_ticks = 0  # its time stamp
        self.durations: dict[int, int] = {}  # in ticks, by the time stamp of frames on their way through the encoder
        try:
            self.container: Any = av.open(str(self.growing.place.absolute()), "w", options=options)
        except BaseException:
            self.growing.discard()
            raise

    def write(self, prediction: Prediction, image: np.ndarray) -> None:
        """One overlay, uint8 RGB; its size and time are kept (an odd size repeats its last row or column)."""
        with self._one_line():
            if self.stream is None:
                self._begin(image.shape[1] + image.shape[1] % 2, image.shape[0] + image.shape[0] % 2)
            seconds = prediction.seconds - (self.start or 0.0)
            picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(self._even(image)), format="rgb24")
            frame = self.reformatter.reformat(picture, format=PIXELS)
            before, ticks_before, ticks = self.waiting, self.waiting_ticks, round(seconds * CLOCK)
            if before is not None:
                ticks = max(ticks, ticks_before + 1)
            frame.pts, frame.time_base = ticks, Fraction(1, CLOCK)
            # first: a Ctrl-C may come at any time, and no frame is encoded twice
            self.waiting, self.waiting_ticks = frame, ticks
            if before is not None:
                self._encode(before, ticks - ticks_before)
            if self.sound is not None:
                self.sound.write_until(seconds + FUTURE_SECONDS)

    def _encode(self, frame: av.VideoFrame | None, duration: int = 0) -> None:
        if frame is not None and frame.pts is not None:
            self.durations[frame.pts] = duration
        for packet in self.stream.encode(frame):
            ticks = round(packet.pts * packet.time_base * CLOCK)
            packet.duration = round(self.durations.pop(ticks, 0) / (packet.time_base * CLOCK)) or packet.duration
            self.container.mux(packet)

    def _even(self, image: np.ndarray) -> np.ndarray:
        below, right = self.stream.height - image.shape[0], self.stream.width - image.shape[1]
        return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE) if below or right else image

    def _begin(self, width: int, height: int) -> None:
        if max(width, height) > LONGEST_SIDE:
            raise InputError(f"{self.path}: {width}x{height} is more than the {LONGEST_SIDE} pixels a side that H.264 "
                             "can hold; write --maps or --npz with --only-maps")
        self._begin_with("libx264", ENCODER_OPTIONS, width, height)

    def _begin_with(self, codec: str, options: dict[str, str], width: int, height: int) -> None:
        rate = Fraction(self.source.frame_rate).limit_denominator(1001 * 60)
        self.stream = self.container.add_stream(codec, rate=rate, options=options)
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, PIXELS
        context = self.stream.codec_context
        context.time_base, context.thread_count = Fraction(1, CLOCK), ENCODER_THREADS
        context.sample_aspect_ratio = self.source.sample_aspect_ratio
        if self.source.has_sound:
            self.sound = OverlaySound(self.container, self.source, self.path, self.start, self.end)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, ValueError, OverflowError) as error:
            if isinstance(error, (InputError, OSError)):  # a full disk keeps the system's own words
                raise
            raise InputError(f"{self.path}: the overlay of {self.source.name} cannot be written ({reason_of(error)}); "
                             "re-encode the input, or write --maps with --only-maps") from error

    def close(self) -> None:
        """Finish and take the final name."""
        with self._one_line():
            if self.stream is not None and self.waiting is not None:
                shown = 1 / self.source.frame_rate
                if self.source.end_seconds is not None:
                    end = min(self.source.end_seconds, self.end or self.source.end_seconds)
                    left = end - (self.start or 0.0) - self.waiting_ticks / CLOCK
                    shown = left if left > 0 else shown
                self._encode(self.waiting, max(1, round(shown * CLOCK)))
                if self.sound is not None:
                    self.sound.write_until(float("inf"))
                self._encode(None)
            self.container.close()
        self.growing.commit()

    def discard(self) -> None:
        """Let go of everything; a file that is not whole goes with it."""
        try:
            with suppress(av.FFmpegError, OSError, ValueError):  # a full disk, told already
                self.container.close()
            if self.sound is not None:
                self.sound.close()
        finally:
            self.growing.discard()


class PictureWriter:
    """A picture's overlay, in the format that its name says."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, prediction: Prediction, image: np.ndarray) -> None:
        write_picture(self.path, image)

    def close(self) -> None:
        """Nothing is left to do: the file is whole."""

    discard = close
