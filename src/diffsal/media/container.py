"""PyAV's containers: opened with an error in one line, and read to the end whatever is broken in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import av

from diffsal.errors import InputError

ATTACHED_PICTURE = av.stream.Disposition.attached_pic
NETWORK_TIMEOUT_SECONDS = 30
# Codecs whose packets are frames one to one, so that packets' times number the frames without decoding them
SEEKABLE_CODECS = ("h264", "hevc", "vp9", "av1", "mjpeg", "prores", "dnxhd", "ffv1")
PATIENCE = 3  # a demuxer that fails this often in a row will not recover


def open_media(name: str, path: str) -> Any:
    """PyAV's container, or :class:`InputError` with the reason in one line."""
    try:
        if "://" in path:
            return av.open(path, timeout=NETWORK_TIMEOUT_SECONDS)
        return av.open(os.path.abspath(path))  # FFmpeg takes what stands before a colon in a bare name for a protocol
    except (FileNotFoundError, av.error.HTTPNotFoundError):
        raise InputError(f"{name}: no such file or address; check the name") from None
    except av.error.InvalidDataError as error:
        if _lost_its_index(path):
            raise InputError(f"{name}: cut short, its index (moov) at the end is missing; fetch it again") from None
        raise InputError(f"{name}: not a video ({error.strerror}); give another file, or re-encode this one") from None
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be opened ({reason}); check it and its permissions") from None


def _lost_its_index(path: str) -> bool:
    if "://" in path:
        return False
    with open(path, "rb") as file:
        return file.read(12)[4:8] == b"ftyp"


def picture_stream(container: Any) -> Any:
    """The first stream of moving pictures (a cover picture of a song is none) that can be decoded, or None."""
    streams = (s for s in container.streams.video if not s.disposition & ATTACHED_PICTURE)
    return next((s for s in streams if s.codec_context is not None), None)


def sound_stream(container: Any) -> Any:
    """The container's first stream of sound that can be decoded, or None."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def start_seconds(*streams: Any) -> float:
    """The earliest start of ``streams`` (any of which may be None), on the container's clock."""
    starts = [s.start_time * s.time_base for s in streams if s is not None and s.start_time is not None]
    return float(min(starts, default=0))


def frame_seconds(path: str, origin_seconds: float) -> list[float]:
    """The times of all frames of a local file, in order, without decoding; empty where its packets carry none."""
    seconds = []
    with open_media(path, path) as container:
        stream = picture_stream(container)
        if stream is None or stream.codec_context.name not in SEEKABLE_CODECS:
            return []
        for packet in Decoding(container, stream, origin_seconds).packets():
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    return []
                seconds.append(float(packet.pts * stream.time_base) - origin_seconds)
    return sorted(seconds)


def frames_in_header(path: str) -> int:
    """How many frames a file says it holds, and no more than it has packets; 0 where its format has no word for it."""
    with open_media(path, path) as container:
        stream = picture_stream(container)
        if stream is None or not stream.frames:
            return 0
        packets = (p for p in Decoding(container, stream, 0.0).packets() if p.size and not p.is_discard)
        return min(stream.frames, sum(1 for _ in packets))


class Decoding:
    """Decodes one stream of a container to its end whatever is broken in it, and remembers where that was."""

    def __init__(self, container: Any, stream: Any, origin_seconds: float) -> None:
        self.container, self.stream, self.origin_seconds = container, stream, origin_seconds
        self.places: list[float | None] = []  # seconds where something was broken, None where nobody knows
        self.reason = "damaged data"

    def packets(self) -> Iterator[av.Packet]:
        """The stream's packets, an empty one at the end."""
        failures = 0
        packets = self.container.demux(self.stream)
        while failures < PATIENCE:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except av.FFmpegError as error:
                self._add(None, error)
                failures += 1
                packets = self.container.demux(self.stream)
                continue
            failures = 0
            yield packet

    def frames(self) -> Iterator[Any]:
        """The frames that can be decoded, in the order of their display."""
        for packet in self.packets():
            stamp = packet.dts
            if packet.is_corrupt:
                self._add(stamp, None)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.FFmpegError as error:
                self._add(stamp, error)
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._add(frame.pts, None)
                yield frame

    def _add(self, stamp: int | None, error: Exception | None) -> None:
        at = None if stamp is None else float(stamp * self.stream.time_base) - self.origin_seconds
        self.places.append(at)
        if error is not None:
            self.reason = getattr(error, "strerror", None) or str(error)

    def damage(self) -> str | None:
        """What was broken so far and where, in words; None if nothing was."""
        if not self.places:
            return None
        known = sorted(p for p in self.places if p is not None)
        where = "in the middle" if not known else f"near {known[0]:.2f} s"
        if known and known[-1] - known[0] >= 0.01:
            where = f"from {known[0]:.2f} s to {known[-1]:.2f} s"
        times = f", {len(self.places)} times" if len(self.places) > 1 else ""
        return f"damaged {where}{times} ({self.reason})"
