"""Whether a file's parts follow each other to its end: readers pass over what does not, without a word."""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

T = TypeVar("T")
BLOCK = 1 << 20  # bytes
MOST_FILLING = 1 << 16  # bytes: disks and their images have no larger places
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_DATA_HEADER = 50  # bytes
ASF_PACKET = b"\x82\0\0"  # what it begins with
ASF_LENGTHS = (0, 1, 2, 4)  # bytes of a number, by the two bits that announce it
GIF_HEAD = re.compile(rb"\x21\xf9\x04.{4}\x00\x2c", re.DOTALL)  # of a picture: how it is shown, then where
MP4_STARTS = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"sidx")
TS_MARK = 0x47
TS_PACKETS = (188, 192, 204)  # bytes: plain, after a time stamp, before what mends errors
TS_STARTS = (0, 4, 0)  # where the mark of the first is
TS_KNOWN = 5  # marks in a row
TS_EMPTY = 0x1FFF  # the stream of packets that fill up
PS_PACK, PS_END, PS_PRIVATE = 0xBA, 0xB9, 0xBD


def is_whole(path: str, format_name: str) -> bool:
    """Whether the parts of a local GIF or animated PNG follow each other; True for all other formats."""
    walk = {"gif": _is_gif_whole, "apng": _is_png_whole}.get(format_name)
    if walk is None or not os.path.getsize(path):
        return True
    return walked(path, walk, False)


def walked(path: str, walk: Callable[[mmap.mmap], T], otherwise: T) -> T:
    """What ``walk`` says of a file's bytes; ``otherwise`` where they end in the middle of what it reads."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return walk(data)
        except (IndexError, struct.error):
            return otherwise


def begins_as(path: str) -> str:
    """Whether a local file begins as "mpegts" or "flv" do; else ""."""
    with open(path, "rb") as file:
        head = file.read(3 * max(TS_PACKETS))
    marks = bytes(3 * [TS_MARK])
    is_ts = any(head[start::size][:3] == marks for size, start in zip(TS_PACKETS, TS_STARTS, strict=True))
    return "mpegts" if is_ts else "flv" if head[:3] == b"FLV" else ""


def padding(path: str) -> int:
    """How many zeros end a local file."""
    return walked(path, zeros_at_end, 0) if os.path.getsize(path) else 0


def zeros_at_end(data: mmap.mmap) -> int:
    """How many bytes at the end are zero."""
    for end in range(len(data), 0, -BLOCK):
        block = data[max(0, end - BLOCK) : end].rstrip(b"\0")
        if block:
            return len(data) - max(0, end - BLOCK) - len(block)
    return len(data)


def _is_gif_whole(data: mmap.mmap) -> bool:
    """Whether the blocks follow each other to the trailer, and no head of a picture lies inside one of them."""
    place, heads = 13 + _colours(data[10]), 0
    while data[place] != 0x3B:
        if data[place] == 0x21:  # an extension
            is_head = data[place + 1] == 0xF9
            if is_head and data[place + 2] != 4:
                return False
            heads += is_head
            place += 2
        elif data[place] == 0x2C:  # a picture: where it is, its colours, the width of its codes
            place += 11 + _colours(data[place + 9])
        elif data[place] or data[place + 1] not in b"\0\x3b":  # zeros are passed over at the end, elsewhere they end it
            return False
        while data[place]:
            place += 1 + data[place]
        place += 1
    return sum(1 for _ in GIF_HEAD.finditer(data, 0, place)) <= heads


def _colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _is_png_whole(data: mmap.mmap) -> bool:
    """Whether the chunks follow each other to the last, each with its right sum."""
    place, kind = 8, b""
    while kind != b"IEND":
        size = struct.unpack_from(">I", data, place)[0]
        kind, end = data[place + 4 : place + 8], place + 8 + size
        if zlib.crc32(memoryview(data)[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        place = end + 4
    return True


def ts_packets(data: mmap.mmap) -> np.ndarray | None:
    """The packets from the first that is known, uint8 (n, 188); None where they do not follow each other to the end.

    Only zeros may come after the last.
    """
    values, end = np.frombuffer(data, np.uint8), len(data) - zeros_at_end(data)
    for size in TS_PACKETS:
        for offset in range(size):
            marks = values[offset:end:size]
            if len(marks) and (marks[:TS_KNOWN] == TS_MARK).all():
                if not (marks == TS_MARK).all() or offset + (len(marks) - 1) * size + TS_PACKETS[0] > len(data):
                    return None
                return np.lib.stride_tricks.as_strided(values[offset:], (len(marks), TS_PACKETS[0]), (size, 1))
    return None


def ts_units(packets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of packets of one stream with a payload: which say that a unit begins, which begin as units do (bool (n,)), and
    the first bytes of their payloads (uint8 (n, 10))."""
    skips = np.where(packets[:, 3] & 0x20, packets[:, 4].astype(int) + 1, 0) + 4  # what comes before the payload
    heads = np.take_along_axis(packets, np.minimum(skips[:, None] + np.arange(10), TS_PACKETS[0] - 1), 1)
    return packets[:, 1] & 0x40 > 0, (heads[:, :3] == (0, 0, 1)).all(1) & (heads[:, 3] >= PS_PRIVATE), heads


def is_gapless(path: str, format_name: str) -> bool:
    """Whether a local Ogg, MPEG-TS, MPEG-PS or ASF is whole by the numbers and lengths that its packets state.

    Then a picture that waits is the clip's own. False where that is not known, and for all other formats.
    """
    walk = {"ogg": _is_ogg_gapless, "mpegts": _is_ts_gapless, "mpeg": _is_ps_gapless, "asf": is_asf_gapless}.get(
        format_name)
    return walk is not None and walked(path, walk, False)


def _is_ogg_gapless(data: mmap.mmap) -> bool:
    """Whether the pages follow each other, those of each stream by number. (FFmpeg checks their sums.)"""
    place = 0
    next_numbers: dict[int, int] = {}
    while place < len(data):
        mark, kind, serial, number, count = struct.unpack_from("<4sxB8xII4xB", data, place)
        if mark != b"OggS" or (not kind & 2 and number != next_numbers.get(serial, number)):
            return False
        next_numbers[serial] = number + 1
        place += 27 + count + sum(data[place + 27 : place + 27 + count])
    return place == len(data)


def _is_ts_gapless(data: mmap.mmap) -> bool:
    """Whether the packets of each stream count on, and those say so in which a picture begins."""
    packets = ts_packets(data)
    if packets is None:
        return False
    packets = packets[packets[:, 3] & 0x10 > 0]  # those with a payload are counted
    streams = (packets[:, 1] & 0x1F).astype(np.uint16) << 8 | packets[:, 2]
    for stream in np.unique(streams[streams != TS_EMPTY]):
        own = packets[streams == stream]
        is_extended = own[:, 3] & 0x20 > 0
        may_jump = is_extended & (own[:, 4] > 0) & (own[:, 5] & 0x80 > 0)
        counts = own[:, 3] & 15
        if (own[:, 1] & 0x80).any() or (((counts[1:] - counts[:-1]) % 16 > 1) & ~may_jump[1:]).any():
            return False
        says, begins, heads = ts_units(own)
        is_picture = begins & (heads[:, 3] >> 4 == 0xE)
        if is_picture.any() and (is_picture != says).any():
            return False
    return True


def _is_ps_gapless(data: mmap.mmap) -> bool:
    """Whether the packets follow each other to the end, each as long as it says."""
    place = 0
    while place < len(data):
        start, kind = struct.unpack_from(">HxB", data, place)
        if start or data[place + 2] != 1 or kind < PS_END:
            return False
        place = ps_end(data, place, kind)
    return place == len(data)


def ps_end(data: mmap.mmap, place: int, kind: int) -> int:
    """Where the part of an MPEG-PS that begins at ``place`` ends, by its kind and the length that it states."""
    if kind == PS_END:
        return place + 4
    if kind == PS_PACK:
        return place + (14 + (data[place + 13] & 7) if data[place + 4] >> 6 == 1 else 12)
    return place + 6 + struct.unpack_from(">H", data, place + 4)[0]


def is_asf_gapless(data: mmap.mmap) -> bool:
    """Whether the parts of each frame follow each other, and the frames of each stream by number.

    Raises IndexError where packets are of a kind that is not known here.
    """
    (place,) = struct.unpack_from("<Q", data, 16)  # the length of the header
    (num_packets,) = struct.unpack_from("<Q", data, place + 40)
    (size,) = struct.unpack_from("<I", data, data.find(ASF_FILE_PROPERTIES, 0, place) + 92)
    place += ASF_DATA_HEADER
    frames: dict[int, tuple[int, int, int]] = {}  # of each stream: its frame's number, its bytes, those that were there
    for start in range(place, place + num_packets * size, size):
        for stream, number, digits, offset, whole, length in _asf_parts(data, start, size):
            last, expected, there = frames.get(stream, (number - 1, 0, 0))
            if offset:
                if (number, offset) != (last, there):
                    return False
            elif there != expected or (number - last) % 256**digits != 1:
                return False
            frames[stream] = (number, whole, offset + length)
    return all(whole == there for _, whole, there in frames.values())


def _asf_parts(data: mmap.mmap, start: int, size: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """The parts of frames in a packet of ASF: stream, number of the frame and its bytes, where the part belongs in the
    frame, bytes of the frame, bytes of the part."""
    place = start

    def number(kind: int) -> int:
        nonlocal place
        length = ASF_LENGTHS[kind & 3]
        place += length
        return int.from_bytes(data[place - length : place], "little")

    if data[place : place + 3] != ASF_PACKET:
        raise IndexError  # readers look for the next that begins so
    lengths, parts = data[place + 3], data[place + 4]
    place += 5
    number(lengths >> 5), number(lengths >> 1)  # the packet's own length and number
    padding = number(lengths >> 3)
    place += 6  # when it is sent
    count, kind = 1, 0
    if lengths & 1:
        count, kind = data[place] & 63, data[place] >> 6
        place += 1
    for _ in range(count):
        stream, place = data[place] & 127, place + 1
        frame, offset, described = number(parts >> 4), number(parts >> 2), number(parts)
        if described < 8:
            raise IndexError  # several frames in one: not known here
        (whole,) = struct.unpack_from("<I", data, place)
        place += described
        length = number(kind) if lengths & 1 else start + size - padding - place
        yield stream, frame, ASF_LENGTHS[parts >> 4 & 3], offset, whole, length
        place += length


def mp4_boxes(path: str) -> Iterator[tuple[int, bytes]]:
    """Where each box of a local MP4 begins, and its first 32 bytes; nothing for all other files."""
    place = 0
    if "://" in path:
        return
    with open(path, "rb") as file:
        while len(head := file.read(32)) >= 8:
            size, kind, large = struct.unpack_from(">I4sQ", head.ljust(32, b"\0"))
            if not kind.isalnum() or (not place and kind not in MP4_STARTS):
                return
            yield place, head
            size = large if size == 1 else size
            if size < 8:
                return
            place += size
            file.seek(place)


def fragment_numbers(path: str) -> list[int]:
    """The numbers of the fragments of a local MP4, in their order; empty for all other files."""
    return [struct.unpack_from(">I", head, 20)[0] for _, head in mp4_boxes(path)
            if head[4:8] == b"moof" and head[12:16] == b"mfhd" and len(head) >= 24]
