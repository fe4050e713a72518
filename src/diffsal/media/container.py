"""PyAV's containers: opened with an error in one line, on one clock, and read to the end whatever is broken in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av

from diffsal.errors import InputError
from diffsal.media.chains import begins_as, padding
from diffsal.media.pictures import MOST_PIXELS

NETWORK_TIMEOUT_SECONDS = 30
# Codecs whose packets are frames one to one, so that packets' times number the frames without decoding them
SEEKABLE_CODECS = ("h264", "hevc", "vp9", "av1", "mjpeg", "prores", "dnxhd", "ffv1")
SEAM_PACKETS = 2  # between a mark of damage and the key frame that shows that two recordings were joined there
LEAST_PADDING, LEFT_PADDING = 4, 4096  # bytes: the last packet of MPEG-TS may end with zeros
MPEG4_PICTURE, MPEG4_EMPTY = b"\0\0\1\xb6", 19  # what a picture begins with; bytes of one without content, at most
MPEG_BETWEEN = re.compile(  # the head of a picture of MPEG-1, 2 or 4 that refers to one before and one after it
    rb"\0\0\x01(?:\0.[\x18-\x1f\x58-\x5f\x98-\x9f\xd8-\xdf]|\xb6[\x80-\xbf])", re.DOTALL)
PATIENCE = 3  # a demuxer that fails this often in a row will not recover
BACKWARD_SECONDS = 0.1  # a stream's clock that goes back by more has started again (as ffmpeg says)
LONGEST_REORDER_SECONDS = 10.0  # between the stamps for decoding and for display of one frame
MOST_REORDERED = 16  # frames, likewise: as many as a decoder of H.264 or H.265 holds
FORWARD_SECONDS = 10.0  # likewise forward, where a format's clock may start anew at any time


def open_media(name: str, path: str) -> Any:
    """PyAV's container, or :class:`InputError` with the reason in one line. Tags that are not UTF-8 are replaced."""
    try:
        if "://" in path:
            return av.open(path, timeout=NETWORK_TIMEOUT_SECONDS, metadata_errors="replace")
        # FFmpeg takes what stands before a colon in a bare name for a protocol
        return av.open(_without_padding(os.path.abspath(path)), metadata_errors="replace")
    except (FileNotFoundError, av.error.HTTPNotFoundError):
        raise InputError(f"{name}: no such file or address; check the name") from None
    except av.error.InvalidDataError as error:
        if _lost_its_index(path):
            raise InputError(f"{name}: cut short, its index (moov) at the end is missing; fetch it again") from None
        raise InputError(f"{name}: not a video ({error.strerror}); give another file, or re-encode this one") from None
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{name}: cannot be opened ({reason_of(error)}); check it and its permissions") from None
    except (ValueError, OverflowError, ZeroDivisionError, MemoryError) as error:  # PyAV's own, of odd headers
        raise InputError(f"{name}: cannot be opened ({reason_of(error)}); re-encode it") from None


def _without_padding(path: str) -> str:
    """The name by which FFmpeg reads a local file: MPEG-TS and FLV without zeros at their end, where it gives up early
    or takes them for damage."""
    kind = begins_as(path)
    zeros = padding(path) if kind else 0  # the ends of others are not read
    if kind == "mpegts" and zeros > LEFT_PADDING:
        zeros -= LEFT_PADDING
    elif kind != "flv" or zeros < LEAST_PADDING:
        return path
    return f"subfile,,start,0,end,{os.path.getsize(path) - zeros},,:{path}"


def has_own_times(container: Any) -> bool:
    """Whether it states when to show a frame; AVI and ASF say when to decode it, and FFmpeg makes up the other."""
    return container.format.name not in ("avi", "asf")


def is_edited(stream: Any) -> bool:
    """Whether an MP4's edit list goes back in its track, where frames come again that only a decoder needs."""
    return any(after.timestamp < before.timestamp for before, after in pairwise(stream.index_entries))


def reason_of(error: BaseException) -> str:
    """What a library says, in a few words."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Whatever a library for media raises in the block becomes an :class:`InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except (av.FFmpegError, ValueError, OverflowError, ZeroDivisionError, MemoryError, UnicodeError) as error:
        raise InputError(f"{name}: cannot be read ({reason_of(error)}); re-encode it") from None


def _lost_its_index(path: str) -> bool:
    if "://" in path:
        return False
    with open(path, "rb") as file:
        return file.read(12)[4:8] == b"ftyp"


class Clock:
    """One clock for the streams of a container: whole from its start to its end, where the stamps start again or jump.

    As ffmpeg does, time goes on one frame after the last where a stream's decoding stamps go back by more than 0.1 s,
    or, in formats made for it (MPEG-TS and PS, Ogg), forward by more than 10 s while no other stream has gone on. The
    streams jump one after the other; those that follow take the shift of the first. Edit lists repeat what is not to
    be shown: that is no new start. Nor is a stamp that FFmpeg makes up for Matroska, which has none for decoding.
    :meth:`set` sees every packet of every stream, in the file's order.
    """

    def __init__(self, container: Any) -> None:
        self.is_ts = bool(container.format.flags & av.format.Flags.ts_discont.value)
        self.is_matroska = container.format.name == "matroska,webm"
        self.shifts = [Fraction(0)]  # seconds to add to the stamps, by segment
        self.seams: list[float] = []  # seconds: where it started again or jumped
        self.segment: dict[int, int] = {}  # of each stream
        self.last: dict[int, Fraction] = {}  # decoding time of each stream's last packet, without shift
        self.next: dict[int, Fraction] = {}  # expected for the next, with shift
        self.unshown: set[int] = set()  # streams whose last packet is not to be shown

    @property
    def has_jumped(self) -> bool:
        return bool(self.seams)

    def set(self, packet: av.Packet) -> None:
        """Put the packet's stamps on this clock."""
        base, stream, index = packet.time_base, packet.stream, packet.stream.index
        if not base:
            return
        if packet.pts is not None and packet.dts is not None and index in self.last:
            is_far = abs(packet.pts - packet.dts) * base > LONGEST_REORDER_SECONDS
            if is_far and abs(packet.pts * base - self.last[index]) < LONGEST_REORDER_SECONDS:
                packet.dts = None  # only that is broken: no clock has jumped
        segment, raw = self.segment.get(index, 0), None if packet.dts is None else packet.dts * base
        if raw is not None and index in self.last:
            step = raw - self.last[index]
            is_edit = packet.is_discard or index in self.unshown
            is_forward = self.is_ts and step > FORWARD_SECONDS and not self._others_go_on(index, raw)
            is_made_up = self.is_matroska and not packet.is_keyframe  # by FFmpeg; the next file would begin with one
            if not is_edit and ((step < -BACKWARD_SECONDS and not is_made_up) or is_forward):
                segment = self._next_segment(index, raw)
        (self.unshown.add if packet.is_discard else self.unshown.discard)(index)
        shift = self.shifts[segment]
        if shift:
            ticks = round(shift / base)
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks
        if raw is not None:  # stamps for display alone go back and forth
            duration = packet.duration * base if packet.duration else _usual_duration(stream)
            self.segment[index], self.last[index], self.next[index] = segment, raw, raw + shift + duration

    def _others_go_on(self, index: int, raw: Fraction) -> bool:
        """Whether another stream has come as far without a jump: then this one was held, or silent, for long."""
        segment = self.segment.get(index, 0)
        return any(abs(raw - last) < FORWARD_SECONDS and self.segment[other] == segment
                   for other, last in self.last.items() if other != index)

    def _next_segment(self, index: int, raw: Fraction) -> int:
        newest, expected = len(self.shifts) - 1, self.next[index]
        if newest > self.segment.get(index, 0):
            ahead = raw + self.shifts[newest] - expected
            if -BACKWARD_SECONDS - 1 < ahead < FORWARD_SECONDS:
                return newest
        self.shifts.append(expected - raw)
        self.seams.append(float(expected))
        return newest + 1


def _usual_duration(stream: Any) -> Fraction:
    rate = stream.average_rate if stream.type == "video" else None
    return 1 / rate if rate else Fraction(0)


class Decoding:
    """Decodes one stream of a container to its end whatever is broken in it, and remembers what was lost.

    ``beside`` are the other streams that the clock of the container depends on.
    """

    def __init__(self, container: Any, stream: Any, origin_seconds: float, beside: tuple = ()) -> None:
        self.container, self.stream, self.origin_seconds = container, stream, origin_seconds
        self.streams = [stream, *(s for s in beside if s is not None and s is not stream)]
        self.clock = Clock(container)
        self.places: list[float | None] = []  # seconds where something was broken, None where nobody knows
        self.reason = "damaged data"
        self.corrupt: set[int | None] = set()  # time stamps of packets and frames that are marked as damaged
        self.suspected = self.cleared = -1  # those of the last packet that is marked, and of one that was wrongly
        self.suspected_at = -SEAM_PACKETS - 1  # its number
        self.num_packets = self.num_frames = 0  # of the stream: sent to the decoder to be shown, come out of it
        self.num_interlaced = 0  # of the frames
        self.num_leading = 0  # of the packets: shown before the first key frame, but stored and so decoded after it
        self.first_key: int | None = None  # when it is shown
        self.may_lead = False  # whether only such were stored since that key frame
        self.last_stamp = -1  # for decoding, of its packets
        self.num_stored = 0  # its packets, those included that say "as before" or are not to be shown
        self.beside_end = 0.0  # seconds: when the other streams end
        self.first_position = -1  # bytes: where its first packet begins in the file
        self.last_position = 0  # where the last packet of any stream ends
        if stream.type == "video":
            stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(MOST_PIXELS)}

    def packets(self) -> Iterator[av.Packet]:
        """The stream's packets, on the clock, an empty one at the end."""
        failures = 0
        packets = self.container.demux(self.streams)
        while failures < PATIENCE:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except (av.FFmpegError, ValueError, OverflowError) as error:
                self._add(None, error)
                failures += 1
                packets = self.container.demux(self.streams)
                continue
            failures = 0
            is_end = not packet.size and packet.dts is None
            if not is_end:
                self.clock.set(packet)
                if packet.pos is not None and packet.pos >= 0:
                    self.last_position = max(self.last_position, packet.pos + packet.size)
            if packet.stream.index == self.stream.index:
                if not self.num_stored and packet.pos is not None:
                    self.first_position = packet.pos
                self.num_stored += packet.size > 0
                self.last_stamp = self.last_stamp if packet.dts is None else max(self.last_stamp, packet.dts)
                yield packet
            elif packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self.origin_seconds
                self.beside_end = max(self.beside_end, end)

    def frames(self) -> Iterator[Any]:
        """The frames that can be decoded, in the order of their display."""
        try:
            yield from self._decoded()
        finally:
            self.stream.codec_context.flush_buffers()  # its threads rest before it is freed: they may be logging

    def _decoded(self) -> Iterator[Any]:
        for packet in self.packets():
            is_end = not packet.size and packet.dts is None
            if not packet.size and not is_end:
                continue  # AVI's sign for "as before"; to a decoder it would mean the end
            if self._is_header(packet):
                continue
            stamp = packet.dts if packet.dts is not None else packet.pts
            # Where recordings were joined, the last pictures of the one are marked; those of the next begin with a key
            is_seam = self.num_packets - self.suspected_at <= SEAM_PACKETS and self.stream.type == "video"
            if packet.is_keyframe and is_seam:
                self.corrupt.discard(self.suspected)
                self.cleared, self.suspected = self.suspected, -1
            if packet.is_corrupt:
                self.corrupt.add(packet.pts)
                self.suspected, self.suspected_at = -1 if packet.pts is None else packet.pts, self.num_packets
            self.num_packets += bool(packet.size and not packet.is_discard) and not self._is_hidden(packet)
            self._count_leading(packet)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.FFmpegError, ValueError, OverflowError, MemoryError) as error:
                self._add(stamp, error)
                continue
            yield from self._counted(frames)
            if is_end:
                return
        # A demuxer that gave up sends no end, and the decoder still holds its last pictures
        with suppress(av.FFmpegError, ValueError, OverflowError, MemoryError):
            yield from self._counted(self.stream.codec_context.decode(None))

    def _counted(self, frames: list) -> Iterator[Any]:
        for frame in frames:
            if frame.is_corrupt and frame.pts != self.cleared:
                self.corrupt.add(frame.pts)
            self.num_frames += 1
            self.num_interlaced += bool(getattr(frame, "interlaced_frame", False))
            yield frame

    def _count_leading(self, packet: av.Packet) -> None:
        """In an open group of pictures, those before the key frame need the group before, which a cut has taken away.
        """
        if not packet.size or packet.is_discard:
            return
        if not has_own_times(self.container):
            is_leading = self.may_lead and MPEG_BETWEEN.search(memoryview(packet)) is not None
            self.may_lead = packet.is_keyframe if self.num_packets == 1 else is_leading
            self.num_leading += is_leading
        elif self.first_key is None:
            self.first_key = packet.pts if packet.is_keyframe else None
        elif packet.pts is None:
            self.num_leading += self.container.format.name == "matroska,webm"  # FFmpeg leaves out stamps below 0
        else:
            self.num_leading += packet.pts <= self.first_key  # some programs take stamps below 0 for 0

    def _is_header(self, packet: av.Packet) -> bool:
        """Whether it is no picture, but the beginning of another Ogg that was joined to the first."""
        return self.stream.codec_context.name == "theora" and packet.size > 0 and memoryview(packet)[0] >= 0x80

    def _is_hidden(self, packet: av.Packet) -> bool:
        """Whether it is a picture of VP8 that is not to be shown: others refer to it (RFC 6386, 9.1); or stands for one
        of MPEG-4 that came in the packet before."""
        if self.stream.codec_context.name == "mpeg4":
            return packet.size <= MPEG4_EMPTY and bytes(packet).count(MPEG4_PICTURE) == 1
        return self.stream.codec_context.name == "vp8" and packet.size > 0 and not memoryview(packet)[0] & 0x10

    def _add(self, stamp: int | None, error: Exception | None) -> None:
        self.places.append(self._seconds(stamp))
        if error is not None:
            self.reason = reason_of(error)

    def _seconds(self, stamp: int | None) -> float | None:
        return None if stamp is None else float(stamp * self.stream.time_base) - self.origin_seconds

    def damage(self) -> str | None:
        """What was broken so far and where, in words; None if nothing was."""
        places = [*self.places, *(self._seconds(stamp) for stamp in self.corrupt)]
        if not places:
            return None
        known = sorted(p for p in places if p is not None)
        where = "in the middle" if not known else f"near {known[0]:.2f} s"
        if known and known[-1] - known[0] >= 0.01:
            where = f"from {known[0]:.2f} s to {known[-1]:.2f} s"
        times = f", {len(places)} times" if len(places) > 1 else ""
        return f"damaged {where}{times} ({self.reason})"


class FrameTimes:
    """The display time of each decoded frame, in ticks of its time base, as ffprobe's best effort has it.

    The stamp for display where it is to be trusted, else the one for decoding, else one frame after the last.
    """

    def __init__(self, container: Any, stream: Any, usual_seconds: float) -> None:
        self.usual_seconds, self.has_display_stamps = usual_seconds, has_own_times(container)
        self.longest_reorder = max(LONGEST_REORDER_SECONDS, MOST_REORDERED * usual_seconds)
        self.is_edited = is_edited(stream)  # the stamps for decoding go back and forth, those for display hold
        self.faulty_pts = self.faulty_dts = 0
        self.last_pts: int | None = None
        self.last_dts: int | None = None
        self.last: float | None = None

    def seconds(self, frame: Any) -> tuple[float | None, float]:
        """(time in seconds on the container's clock, duration in seconds); None where nothing tells the first."""
        pts = frame.pts if self.has_display_stamps else None  # else they are made up
        base = frame.time_base
        if None not in (pts, frame.dts, base) and abs(pts - frame.dts) * base > self.longest_reorder:
            pts = None  # a broken stamp: it would take all that follow along
        ticks = pts if self.is_edited and pts is not None else self._best_effort(pts, frame.dts)
        own = None if ticks is None or not base else float(ticks * base)
        duration = float(frame.duration * base) if getattr(frame, "duration", 0) and base else 0.0
        if own is None and self.last is not None:
            own = self.last + (duration or self.usual_seconds)
        self.last = own
        return own, duration

    def _best_effort(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self.faulty_dts += self.last_dts is not None and dts <= self.last_dts
            self.last_dts = dts
        elif pts is not None:
            self.last_dts = pts
        if pts is not None:
            self.faulty_pts += self.last_pts is not None and pts <= self.last_pts
            self.last_pts = pts
        elif dts is not None:
            self.last_pts = dts
        return pts if pts is not None and (self.faulty_pts <= self.faulty_dts or dts is None) else dts
