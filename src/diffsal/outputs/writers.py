"""What a prediction becomes on disk: overlay video with the original sound, maps, arrays, a contact sheet.

Every file grows beside its place under a hidden name and is renamed when it is whole. A writer takes predictions
(``write``), finishes its file (``close``) and lets go of everything (``discard``: after ``close`` the file stays,
without it nothing does).
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from diffsal.files import GrowingFile
from diffsal.media.container import Decoding, open_media
from diffsal.media.pictures import write_map, write_picture
from diffsal.media.probe import sound_stream
from diffsal.media.source import Source
from diffsal.prediction.pipeline import Prediction

OVERLAY_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
COLORMAPS = ("inferno", "viridis", "cividis", "turbo", "jet", "hot")
CLOCK = 90_000  # ticks per second of the overlay's time stamps
COPIED_CODECS = frozenset({"aac", "mp3", "mp3float"})  # what an MP4 in a browser plays as it is
SHEET_FRAMES = 6
SHEET_WIDTH = 320


class Overlayer:
    """Heat over the picture, stronger where people look; scaled by a slowly moving maximum, so it does not flicker."""

    def __init__(self, colormap: str = "inferno", opacity: float = 0.7) -> None:
        if colormap not in COLORMAPS:
            raise ValueError(f"colormap is {colormap!r}, expected one of {', '.join(COLORMAPS)}")
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity is {opacity}, expected 0 to 1")
        ramp = np.arange(256, dtype=np.uint8)[:, None]
        code = getattr(cv2, f"COLORMAP_{colormap.upper()}")
        alphas = (np.linspace(0, 1, 256) ** 0.75 * opacity)[None, :, None]
        colours = cv2.applyColorMap(ramp, code)[None, :, 0, ::-1]
        # Look-up tables by level, (1, 256, 3): how much of the picture stays, in 255ths, and what is added to it
        self.kept = np.rint((1 - alphas) * 255).astype(np.uint8).repeat(3, 2)
        self.added = np.rint(alphas * colours).astype(np.uint8)
        self.peak = 0.0

    def draw(self, image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
        """uint8 RGB (h, w, 3) and float32 (h, w) → uint8 RGB (h, w, 3)."""
        highest = float(saliency.max())
        self.peak = highest if self.peak == 0 else max(0.9 * self.peak + 0.1 * highest, highest)
        levels = cv2.convertScaleAbs(saliency, alpha=255 / max(self.peak, 1e-6))
        levels = cv2.merge([levels] * 3)
        return cv2.add(cv2.multiply(image, cv2.LUT(levels, self.kept), scale=1 / 255), cv2.LUT(levels, self.added))


class VideoWriter:
    """H.264 in MP4 (yuv420p, index in front), the frames' own times, and the source's sound beside them."""

    def __init__(self, path: Path, source: Source, start: float | None = None, end: float | None = None) -> None:
        self.growing, self.source = GrowingFile(path), source
        self.start, self.end = start, end
        options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        self.container = av.open(str(self.growing.place.absolute()), "w", options=options)  # as open_media does
        self.stream = None
        self.sound: Iterator | None = None
        self.waiting = None
        self.last_pts = -1

    def write(self, prediction: Prediction, image: np.ndarray) -> None:
        """One overlay, uint8 RGB; its size and time are kept (an odd size repeats its last row or column)."""
        if self.stream is None:
            self._begin(image.shape[1] + image.shape[1] % 2, image.shape[0] + image.shape[0] % 2)
        seconds = prediction.seconds - (self.start or 0.0)
        frame = av.VideoFrame.from_ndarray(self._even(image), format="rgb24")
        frame.pts = self.last_pts = max(round(seconds * CLOCK), self.last_pts + 1)
        frame.time_base = Fraction(1, CLOCK)
        self._write_sound(seconds)
        self.container.mux(self.stream.encode(frame))

    def _even(self, image: np.ndarray) -> np.ndarray:
        below, right = self.stream.height - image.shape[0], self.stream.width - image.shape[1]
        return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE) if below or right else image

    def _begin(self, width: int, height: int) -> None:
        rate = Fraction(self.source.frame_rate).limit_denominator(1001 * 60)
        self.stream = self.container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        self.stream.codec_context.time_base = Fraction(1, CLOCK)
        self.stream.codec_context.sample_aspect_ratio = self.source.sample_aspect_ratio
        if self.source.has_sound:
            self.sound = self._sound_packets()
            self.waiting = next(self.sound, None)

    def _sound_packets(self) -> Iterator[tuple[float, object]]:
        """(seconds, packet) of the source's sound: copied where that plays everywhere, else AAC."""
        with open_media(self.source.name, self.source.path) as container:
            stream, origin = sound_stream(container), self.source.origin_seconds
            decoding = Decoding(container, stream, origin)
            if stream.codec_context.name in COPIED_CODECS and self.start is None and self.end is None:
                copied = self.container.add_stream_from_template(stream)
                yield None  # the stream stands before the header is written
                for packet in decoding.packets():
                    if packet.dts is None or packet.pts is None or packet.is_corrupt:
                        continue
                    shift = round(origin / packet.time_base)
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    packet.stream = copied
                    yield float(packet.dts * packet.time_base), packet
                return
            coded = self.container.add_stream("aac", rate=48_000, layout="stereo")
            yield None
            resampler = av.AudioResampler("fltp", "stereo", 48_000, frame_size=1024)
            written: int | None = None
            for frame in decoding.frames():
                seconds = (frame.time or 0.0) - origin
                if seconds < (self.start or 0.0) or (self.end is not None and seconds >= self.end):
                    continue
                if written is None:
                    written = max(0, round((seconds - (self.start or 0.0)) * 48_000))
                for chunk in resampler.resample(frame):
                    chunk.pts, chunk.time_base, written = written, Fraction(1, 48_000), written + chunk.samples
                    yield from ((chunk.pts / 48_000, packet) for packet in coded.encode(chunk))
            yield from ((float("inf"), packet) for packet in coded.encode(None)) if written is not None else ()

    def _write_sound(self, until: float) -> None:
        if self.sound is None:
            return
        if self.waiting is None:
            self.waiting = next(self.sound, (float("inf"), None))
        while self.waiting[0] <= until + 0.5 and self.waiting[1] is not None:
            self.container.mux(self.waiting[1])
            self.waiting = next(self.sound, (float("inf"), None))

    def close(self) -> None:
        """Finish and take the final name."""
        if self.stream is not None:
            self._write_sound(float("inf"))
            self.container.mux(self.stream.encode(None))
        self.container.close()
        self.growing.commit()

    def discard(self) -> None:
        try:
            self.container.close()
        except (av.FFmpegError, OSError):  # a full disk, told already: only the half-written file is left to remove
            self.sound = None
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


class MapWriter:
    """One 16-bit grey PNG per frame, ``folder/NNNNNN.png``; a picture's is ``folder/STEM.png``."""

    def __init__(self, folder: Path, stem: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.stem = folder, stem

    def write(self, prediction: Prediction, image: np.ndarray | None = None) -> None:
        path = self.folder / f"{self.stem or f'{prediction.index:06d}'}.png"
        write_map(path, prediction.saliency)

    def close(self) -> None:
        """Nothing is left to do: every map is whole from the moment it has its name."""

    discard = close


class ArrayWriter:
    """``--npz``: ``saliency`` float16 (n, h, w), ``seconds`` float64 (n,), ``index`` int64 (n,). Memory stays flat.

    With several samples also ``spread`` float16 (n, h, w).
    """

    def __init__(self, path: Path) -> None:
        self.growing = GrowingFile(path)
        self.maps = tempfile.TemporaryFile(dir=self.growing.folder)  # noqa: SIM115  (closed by close or discard)
        self.spreads = tempfile.TemporaryFile(dir=self.growing.folder)  # noqa: SIM115
        self.seconds: list[float] = []
        self.indices: list[int] = []
        self.size = (0, 0)

    def write(self, prediction: Prediction, image: np.ndarray | None = None) -> None:
        self.size = prediction.saliency.shape
        self.maps.write(prediction.saliency.astype(np.float16).tobytes())
        if prediction.spread is not None:
            self.spreads.write(prediction.spread.astype(np.float16).tobytes())
        self.seconds.append(prediction.seconds)
        self.indices.append(prediction.index)

    def close(self) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": (len(self.indices), *self.size)}
        with zipfile.ZipFile(self.growing.place, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, file in (("saliency", self.maps), ("spread", self.spreads)):
                if not file.tell():
                    continue
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    file.seek(0)
                    shutil.copyfileobj(file, member, 1 << 20)
            for name, values in (("seconds", np.array(self.seconds)), ("index", np.array(self.indices, np.int64))):
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values)
        self.growing.commit()
        self.maps.close()
        self.spreads.close()

    def discard(self) -> None:
        self.maps.close()
        self.spreads.close()
        self.growing.discard()


def contact_sheet(shown: list[tuple]) -> np.ndarray:
    """(seconds, picture, overlay, …) of some frames → one RGB picture: frames above, overlays below, times written."""
    columns = []
    for seconds, image, *overlays in shown:
        height = max(1, round(SHEET_WIDTH * image.shape[0] / image.shape[1]))
        cells = [cv2.resize(x, (SHEET_WIDTH, height), interpolation=cv2.INTER_AREA) for x in (image, *overlays)]
        label = np.full((28, SHEET_WIDTH, 3), 255, np.uint8)
        cv2.putText(label, f"{seconds:.2f} s", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.pad(np.concatenate([label, *cells]), ((0, 4), (2, 2), (0, 0)), constant_values=255))
    tallest = max(c.shape[0] for c in columns)
    return np.concatenate(
        [np.pad(c, ((0, tallest - c.shape[0]), (0, 0), (0, 0)), constant_values=255) for c in columns], axis=1
    )
