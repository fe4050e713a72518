"""What a container says about itself: which streams count, how long and how large it is, and what of it is missing."""

from __future__ import annotations

import os
import re
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, BinaryIO

import av

from diffsal.errors import InputError
from diffsal.media.chains import ASF_DATA_HEADER, ASF_FILE_PROPERTIES, fragment_numbers, padding
from diffsal.media.container import SEEKABLE_CODECS, Decoding, open_media
from diffsal.media.counts import FLV_META, ebml_element, flv_number

FEWEST_BYTES = 12  # of a frame in any container, its entry in the index included
READING_ERRORS = (av.FFmpegError, ValueError, OverflowError, InputError)
MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
MATROSKA_NEXT = "0x18538067"  # in the log: another recording of unknown length that was joined to the first
LARGEST_START = 256  # bytes before the first frame of a group or packet, at most
AVI_UNKNOWN_FRAMES = 0x40000000  # what FFmpeg writes into a pipe
MATROSKA_AFTER = tuple(map(bytes.fromhex, ("1c53bb6b", "1254c367", "114d9b74", "1941a469", "1043a770")))
MATROSKA_HEADERS = tuple(map(bytes.fromhex, (
    "114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1254c367", "1941a469", "1043a770", "ec", "bf")))
MATROSKA_REST = 64  # bytes of a frame's own that may follow it: how long it is shown, what to leave out of it
NO_PICTURES = ("attached_pic", "timed_thumbnails", "dependent", "metadata")  # dispositions of what is no video


def picture_stream(container: Any) -> Any:
    """The stream of moving pictures that ffmpeg takes, too: marked as default before others, larger before smaller.

    Cover pictures, thumbnails and parts of other pictures are none, and a still counts only where nothing moves. None
    where no stream can be decoded.
    """
    streams = [s for s in container.streams.video if s.codec_context is not None and not _has(s, *NO_PICTURES)]
    return max(streams, default=None, key=lambda s: (
        s.frames != 1 and not _has(s, "still_image"), _has(s, "default"),
        s.codec_context.width * s.codec_context.height))


def sound_stream(container: Any) -> Any:
    """The stream of sound that ffmpeg takes, too: marked as default before others, more channels before fewer; or None.
    """
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    return max(streams, default=None, key=lambda s: (_has(s, "default"), s.codec_context.channels))


def _has(stream: Any, *names: str) -> bool:
    flags = (getattr(av.stream.Disposition, name, None) for name in names)
    return any(bool(stream.disposition & flag) for flag in flags if flag is not None)


def start_seconds(*streams: Any) -> float:
    """The earliest start of ``streams`` (any of which may be None), on the container's clock."""
    starts = [s.start_time * s.time_base for s in streams if s is not None and s.start_time is not None]
    return float(min(starts, default=0))


def frame_seconds(path: str, origin_seconds: float) -> list[float]:
    """The times of all frames of a local file, in order, without decoding; empty where its packets carry none."""
    seconds = []
    with open_media(path, path) as container:
        stream = picture_stream(container)
        if stream is None or stream.codec_context.name not in SEEKABLE_CODECS or container.format.name == "avi":
            return []
        decoding = Decoding(container, stream, origin_seconds, (sound_stream(container),))
        for packet in decoding.packets():
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    return []
                seconds.append(float(packet.pts * stream.time_base) - origin_seconds)
    return sorted(seconds)


def stamps_until(decoding: Decoding, until: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Time stamps of all frames up to a little beyond ``until``, in order; (pts, dts) of the keyframes among them."""
    stamps, keys = [], []
    for packet in decoding.packets():
        if packet.size and not packet.is_discard:
            if packet.pts is None or packet.dts is None or decoding.clock.has_jumped:
                return [], []
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append((packet.pts, packet.dts))
            if packet.dts > until:
                break
    return sorted(stamps), keys


def end_of_all(path: str, origin_seconds: float) -> float:
    """When the last packet of any stream of a local file ends, those included that nobody plays."""
    end = 0.0
    with suppress(*READING_ERRORS), open_media(path, path) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end - origin_seconds


def measured_rate(path: str) -> float | None:
    """Frames per second of a local file by the usual wait between two; None where nothing tells."""
    seconds = [] if "://" in path else frame_seconds(path, 0.0)
    wait = median(b - a for a, b in pairwise(seconds)) if len(seconds) > 1 else 0.0
    return 1 / wait if wait > 0 else None


def frames_in_header(path: str) -> int:
    """How many frames a file says it holds, and no more than it has packets; 0 where its format has no word for it."""
    with open_media(path, path) as container:
        stream = picture_stream(container)
        if stream is None or not stream.frames:
            return 0
        packets = (p for p in Decoding(container, stream, 0.0).packets() if p.size and not p.is_discard)
        return min(stream.frames, sum(1 for _ in packets))


def plausible_frames(stream: Any, path: str) -> int | None:
    """The number of frames that a header claims; None where it claims none, or more than its file has room for."""
    if not stream.frames or stream.frames < 0:
        return None
    if "://" in path or stream.frames * FEWEST_BYTES <= os.path.getsize(path):
        return stream.frames
    return None


def stated_end(container: Any, stream: Any, origin_seconds: float) -> float | None:
    """When the picture ends, on our clock, as the container says it: by stream, by tag, or for the whole."""
    if container.format.name == "avi" and stream.frames == AVI_UNKNOWN_FRAMES:
        return None
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # counted in the header; the duration is what is left
    if container.format.name == "asf" and "://" not in container.name and read_size(container.name).stated is None:
        return None  # it was sent while it was made: FFmpeg guesses
    if container.format.name == "nut":  # what FFmpeg calls its duration is the last stamp; of streams it has none
        return container.duration / av.time_base - origin_seconds if container.duration else None
    if stream.duration is not None and stream.time_base:
        is_from_0 = container.format.name == "asf" or (  # as their durations count
            "mp4" in container.format.name and bool(fragment_numbers(container.name)))
        # FFmpeg counts an empty edit in front, too, where the edit list is shorter than its track
        is_cut = "mp4" in container.format.name and any(entry.is_discard for entry in stream.index_entries)
        last = max((entry.timestamp for entry in stream.index_entries if not entry.is_discard), default=0)
        is_from_0 = is_from_0 or (is_cut and last < stream.duration)
        start = 0 if is_from_0 else stream.start_time or 0
        return float((start + stream.duration) * stream.time_base) - origin_seconds
    tag = re.match(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if tag:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - origin_seconds
    return container.duration / av.time_base if container.duration and container.duration > 0 else None


@dataclass(frozen=True)
class Size:
    """Bytes that a file has, and that its headers say it should have (None: they do not say)."""

    found: int
    stated: int | None

    @property
    def is_cut_short(self) -> bool:
        return self.stated is not None and self.stated > self.found


def read_size(path: str) -> Size:
    """The size of a local file beside what its own headers state: MP4, AVI, Matroska, ASF, FLV, TS, GIF, PNG do."""
    found = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(64)
        try:
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return Size(found, _mp4_size(file, found))
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                return Size(found, _avi_size(file, found))
            if head[:4] == b"\x1a\x45\xdf\xa3":
                return Size(found, _matroska_size(file))
            if head[:4] == b"\x30\x26\xb2\x75":
                return Size(found, _asf_size(file))
            if head[:3] == b"FLV":
                return Size(found, int(flv_number(head + file.read(FLV_META), b"filesize")) or None)
            if head[:1] == b"G" and head[3:4] != b"8":
                return Size(found, _ts_size(file, found))
            if head[:4] == b"GIF8" or head[:4] == b"\x89PNG":
                return Size(found, _trailer_size(file, found, b";" if head[:3] == b"GIF" else b"IEND\xaeB`\x82"))
        except (struct.error, ValueError, IndexError):
            pass  # a header that is damaged says nothing
    return Size(found, None)


def _mp4_size(file: BinaryIO, found: int) -> int | None:
    place = 0
    while place + 8 <= found:
        file.seek(place)
        header = file.read(16)
        size = struct.unpack(">I", header[:4])[0]
        if size == 1:
            size = struct.unpack(">Q", header[8:16])[0]
        if size == 0 or not header[4:8].isalnum():
            return None  # to the end of the file; or no box, but what somebody appended
        if size < 8:
            return None
        place += size
    return place


def _avi_size(file: BinaryIO, found: int) -> int | None:
    place = 0
    while place + 12 <= found:
        file.seek(place)
        header = file.read(12)
        size = struct.unpack("<I", header[4:8])[0]
        if header[:4] != b"RIFF" or size < 4 or size == 0xFFFFFFFF:
            return None
        place += 8 + size
    return place


def _matroska_size(file: BinaryIO) -> int | None:
    place = 0
    for _ in range(8):
        kind, inside, size = _element(file, place)
        if size is None:
            return None
        place = inside + size
        if kind == b"\x18\x53\x80\x67":
            return place
    return None


_listening = threading.Lock()  # FFmpeg has one log for all


def read_again(path: str, are_decoded: bool = False) -> tuple[str | None, int]:
    """Reads a local file to its end: what of it FFmpeg's reader passes over, in words, and the largest gap in bytes.

    It passes over what is broken where it logs an error, and in Matroska and ASF what comes before the first group of
    frames that it knows. A gap is from the end of a packet to the beginning of the next, whatever streams they belong
    to. ``are_decoded``: the decoder of the same name as the reader is asked, too.
    """
    name, gap, start, end = "", 0, os.path.getsize(path), 0
    # Other threads' lines end in the first of the two
    with _listening, av.logging.Capture(local=False), av.logging.Capture() as lines, suppress(*READING_ERRORS):
        level, is_skipping = av.logging.get_level(), av.logging.get_skip_repeated()
        try:
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)
            with open_media(path, path) as container:
                name = container.format.name
                for packet in container.demux():
                    if packet.size and packet.pos is not None and packet.pos >= 0:
                        start = min(start, packet.pos)
                        gap, end = max(gap, packet.pos - (end or packet.pos)), max(end, packet.pos + packet.size)
                    if are_decoded:
                        packet.decode()
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(is_skipping)
    complaint = next((line for _, logger, line in lines if logger == name and MATROSKA_NEXT not in line), None)
    if complaint is not None:
        return f"damaged in the middle ({''.join(filter(str.isprintable, ' '.join(complaint.split())))})", gap
    num_lost = start - _first_data(path, name, start) if end else 0
    return f"damaged at its beginning ({num_lost:,} bytes)" if num_lost > LARGEST_START else None, gap


def _first_data(path: str, format_name: str, known: int) -> int:
    """Where the first group of frames begins in Matroska and ASF: after the headers. ``known`` of other formats."""
    found = os.path.getsize(path)
    with open(path, "rb") as file:
        if format_name == "asf":
            return struct.unpack_from("<Q", file.read(24).ljust(24, b"\0"), 16)[0] + ASF_DATA_HEADER
        if format_name != "matroska,webm":
            return known
        _, place, size = _element(file, 0)  # EBML's own header
        _, place, _ = _element(file, place + (size or 0))  # the segment
        while True:
            kind, inside, size = _element(file, place)
            if kind not in MATROSKA_HEADERS or size is None or inside + size > found:
                return place
            place = inside + size


def _element(file: BinaryIO, place: int) -> tuple[bytes, int, int | None]:
    """EBML: the name of the element at ``place``, where its content begins, and its size (None: not known)."""
    file.seek(place)
    name, inside, size = ebml_element(file.read(16).ljust(16, b"\0"), 0)
    return name, place + inside, size


def _asf_size(file: BinaryIO) -> int | None:
    file.seek(0)
    head = file.read(1 << 16)
    place = head.find(ASF_FILE_PROPERTIES)
    if place < 0:
        return None
    return struct.unpack("<Q", head[place + 40 : place + 48])[0] or None


def states_length(path: str) -> bool:
    """Whether a local file is an FLV that says how long it lasts."""
    with open(path, "rb") as file:
        return file.read(3) == b"FLV" and flv_number(file.read(FLV_META), b"duration") > 0


def _ts_size(file: BinaryIO, found: int) -> int | None:
    """MPEG-TS is made of packets of one length."""
    file.seek(0)
    head = file.read(1024)
    lengths = (n for n in (188, 204) if len(head) > 3 * n and head[n] == head[2 * n] == head[3 * n] == 0x47)
    length = next(lengths, None)
    return None if length is None else -(-(found - padding(file.name)) // length) * length


def _trailer_size(file: BinaryIO, found: int, trailer: bytes) -> int | None:
    file.seek(max(0, found - 4096))
    return None if trailer in file.read() else found + 1


def has_more(path: str, position: int) -> bool:
    """Whether a Matroska or FLV file holds frames after byte ``position``: more groups, or what cannot be read.

    After its last frame an index, tags or the end of the file come at once.
    """
    with open(path, "rb") as file:
        file.seek(position)
        before = file.read(1 << 20)
        if len(before) > MATROSKA_REST and not any(kind in before[:MATROSKA_REST] for kind in MATROSKA_AFTER):
            return True
        while block := file.read(1 << 20):
            if MATROSKA_CLUSTER in before:
                return True
            before = before[-3:] + block
        return MATROSKA_CLUSTER in before
