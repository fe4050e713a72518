"""Whether a file's parts follow each other to its end: readers pass over what does not, without a word."""

from __future__ import annotations

import mmap
import operator
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np

AVI_CHUNK = re.compile(rb"\d\d(dc|db|wb|pc|tx|sb|iv|__)|ix\d\d|JUNK")  # among the packets
GIF_HEAD = re.compile(rb"\x21\xf9\x04.{4}\x00\x2c", re.DOTALL)  # of a picture: how it is shown, then where
TS_MARK = 0x47
TS_PACKETS = (188, 192, 204)  # bytes: plain, after a time stamp, before what mends errors
TS_KNOWN = 5  # marks in a row
WEBP_CHUNKS = (b"VP8X", b"ANIM", b"ICCP", b"EXIF", b"XMP ", b"VP8 ", b"VP8L", b"ALPH")
WEBP_PICTURES = (b"VP8 ", b"VP8L", b"ALPH")  # what a frame begins with, after where it is and for how long


def is_whole(path: str, format_name: str) -> bool:
    """Whether the parts of a local GIF, animated PNG or MPEG-TS follow each other; True for all other formats."""
    walk = {"gif": _is_gif_whole, "apng": _is_png_whole, "mpegts": _is_ts_whole}.get(format_name)
    if walk is None or not os.path.getsize(path):
        return True
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return walk(data)
        except (IndexError, struct.error):
            return False


def _is_gif_whole(data: mmap.mmap) -> bool:
    """Whether the blocks follow each other to the trailer, and no head of a picture lies inside one of them."""
    place, heads = 13 + _colours(data[10]), 0
    while data[place] != 0x3B:
        if data[place] == 0x21:  # an extension
            heads += data[place + 1] == 0xF9
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


def _is_ts_whole(data: mmap.mmap) -> bool:
    """Whether packets of one size, each with its mark, follow each other from the first that is known to the last."""
    values = np.frombuffer(data, np.uint8)
    for size in TS_PACKETS:
        for offset in range(size):
            marks = values[offset::size]
            if (marks[:TS_KNOWN] == TS_MARK).all():
                return bool((marks == TS_MARK).all()) and (len(values) - offset) % size in (0, TS_PACKETS[0])
    return False


def avi_frames(path: str, stream: int) -> tuple[int, bool]:
    """How many chunks of pictures the stream of that number has, and whether all chunks follow each other to the end.

    Those among the packets are of kinds that belong there.
    """
    kinds, frames, place, is_inside = (b"%02ddc" % stream, b"%02ddb" % stream), 0, 0, False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while place + 8 <= len(data):
            kind, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
            if kind in (b"RIFF", b"LIST"):
                is_inside = data[place + 8 : place + 12] in (b"movi", b"rec ")
                place += 12
                continue
            is_inside = is_inside and kind != b"idx1"
            if not (AVI_CHUNK.fullmatch(kind) if is_inside else kind.isascii()):
                return frames, False
            frames += kind in kinds and size > 0
            place += 8 + size + size % 2
        return frames, place <= len(data) + 1


def webp_frames(path: Path) -> int:
    """How many frames an animated WebP holds: those that say so, and those of which only the head is damaged."""
    data, place, frames, is_strange = path.read_bytes(), 12, 0, False
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        if kind == b"ANMF":
            frames, is_strange = frames + 1 + is_strange, False
        elif data[place + 24 : place + 28] in WEBP_PICTURES or sum(map(operator.eq, kind, b"ANMF")) == 3:
            frames += 1
        else:  # what nobody knows may stand only after the last
            is_strange |= kind not in WEBP_CHUNKS
        place += 8 + size + size % 2
    return frames


def avif_frames(path: Path) -> int:
    """How many frames the tracks of an AVIF have durations for; 0 where there are none, or more than it can hold."""
    data, most = path.read_bytes(), 0
    for box in re.finditer(b"stts", data):
        (number,) = struct.unpack_from(">I", data.ljust(box.end() + 8, b"\0"), box.end() + 4)
        entries = data[box.end() + 8 : box.end() + 8 + 8 * number]
        most = max(most, sum(count for count, _ in struct.iter_unpack(">II", entries[: len(entries) // 8 * 8])))
    return most if most <= len(data) else 0
