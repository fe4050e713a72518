"""Whether a file's parts follow each other to its end: readers pass over what does not, without a word."""

from __future__ import annotations

import mmap
import operator
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_DATA_HEADER = 50  # bytes
ASF_PACKET = b"\x82\0\0"  # what it begins with
ASF_LENGTHS = (0, 1, 2, 4)  # bytes of a number, by the two bits that announce it
AVI_CHUNK = re.compile(rb"\d\d(dc|db|wb|pc|tx|sb|iv|__)|ix\d\d|JUNK")  # among the packets
GIF_HEAD = re.compile(rb"\x21\xf9\x04.{4}\x00\x2c", re.DOTALL)  # of a picture: how it is shown, then where
MP4_STARTS = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"sidx")
TS_MARK = 0x47
TS_PACKETS = (188, 192, 204)  # bytes: plain, after a time stamp, before what mends errors
TS_KNOWN = 5  # marks in a row
TS_EMPTY = 0x1FFF  # the stream of packets that fill up
PS_PACK, PS_END = 0xBA, 0xB9
WEBP_CHUNKS = (b"VP8X", b"ANIM", b"ICCP", b"EXIF", b"XMP ", b"VP8 ", b"VP8L", b"ALPH")
WEBP_PICTURES = (b"VP8 ", b"VP8L", b"ALPH")  # what a frame begins with, after where it is and for how long


def is_whole(path: str, format_name: str) -> bool:
    """Whether the parts of a local GIF, animated PNG or MPEG-TS follow each other; True for all other formats."""
    walk = {"gif": _is_gif_whole, "apng": _is_png_whole, "mpegts": _is_ts_whole}.get(format_name)
    if walk is None or not os.path.getsize(path):
        return True
    return _walked(path, walk)


def _walked(path: str, walk: Callable[[mmap.mmap], bool]) -> bool:
    """What ``walk`` says of a file's bytes; False where they end in the middle of what it reads."""
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
    return _ts_packets(data) is not None


def _ts_packets(data: mmap.mmap) -> np.ndarray | None:
    """The packets from the first that is known, uint8 (n, 188); None where they do not follow each other to the end."""
    values = np.frombuffer(data, np.uint8)
    for size in TS_PACKETS:
        for offset in range(size):
            marks = values[offset::size]
            if (marks[:TS_KNOWN] == TS_MARK).all():
                if not (marks == TS_MARK).all() or (len(values) - offset) % size not in (0, TS_PACKETS[0]):
                    return None
                rows = (len(values) - offset - TS_PACKETS[0]) // size + 1
                return np.lib.stride_tricks.as_strided(values[offset:], (rows, TS_PACKETS[0]), (size, 1))
    return None


def is_gapless(path: str, format_name: str) -> bool:
    """Whether a local Ogg, MPEG-TS, MPEG-PS or ASF is whole by the numbers and lengths that its packets state.

    Then a picture that waits is the clip's own. False where that is not known, and for all other formats.
    """
    walk = {"ogg": _is_ogg_gapless, "mpegts": _is_ts_gapless, "mpeg": _is_ps_gapless, "asf": _is_asf_gapless}.get(
        format_name)
    return walk is not None and _walked(path, walk)


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
    packets = _ts_packets(data)
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
        skips = np.where(is_extended, own[:, 4].astype(int) + 1, 0) + 4
        heads = np.take_along_axis(own, np.minimum(skips[:, None] + np.arange(4), TS_PACKETS[0] - 1), 1)
        is_picture = (heads[:, :3] == (0, 0, 1)).all(1) & (heads[:, 3] >> 4 == 0xE)
        if is_picture.any() and (is_picture != (own[:, 1] & 0x40 > 0)).any():
            return False
    return True


def _is_ps_gapless(data: mmap.mmap) -> bool:
    """Whether the packets follow each other to the end, each as long as it says."""
    place = 0
    while place < len(data):
        start, kind = struct.unpack_from(">HxB", data, place)
        if start or data[place + 2] != 1 or kind < PS_END:
            return False
        if kind == PS_END:
            place += 4
        elif kind == PS_PACK:
            place += 14 + (data[place + 13] & 7) if data[place + 4] >> 6 == 1 else 12
        else:
            place += 6 + struct.unpack_from(">H", data, place + 4)[0]
    return place == len(data)


def _is_asf_gapless(data: mmap.mmap) -> bool:
    """Whether the parts of each frame follow each other, and the frames of each stream by number."""
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


def fragment_numbers(path: str) -> list[int]:
    """The numbers of the fragments of a local MP4, in their order; empty for all other files."""
    place = 0
    numbers: list[int] = []
    if "://" in path or not os.path.getsize(path):
        return numbers
    with open(path, "rb") as file:
        while len(head := file.read(32)) >= 8:
            size, kind, large = struct.unpack_from(">I4sQ", head.ljust(32, b"\0"))
            if not kind.isalnum() or (not place and kind not in MP4_STARTS):
                break
            if kind == b"moof" and head[12:16] == b"mfhd" and len(head) >= 24:
                numbers.append(struct.unpack_from(">I", head, 20)[0])
            size = large if size == 1 else size
            if size < 8:
                break
            place += size
            file.seek(place)
    return numbers


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
