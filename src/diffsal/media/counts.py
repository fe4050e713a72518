"""How many pictures the parts of a file hold, to be held against those that come out."""

from __future__ import annotations

import mmap
import operator
import re
import struct
from pathlib import Path

from diffsal.media.chains import PS_END, is_asf_gapless, ps_end, ts_packets, ts_units, walked, zeros_at_end

AVI_CHUNK = re.compile(rb"\d\d(dc|db|wb|pc|tx|sb|iv|__)|ix\d\d|JUNK")  # among the packets
FLV_HEADER, FLV_TAG, FLV_META = 13, 11, 1 << 14  # bytes; with the length before the first tag; of its first message
FLV_VIDEO, FLV_KINDS = 9, (8, 9, 15, 18)
FLV_EXTENDED, FLV_INFO, FLV_WITH_HEADERS = 0x80, 5, (7, 12)  # flags; the kind of frame; H.264 and HEVC
MATROSKA_INSIDE = tuple(map(bytes.fromhex, ("18538067", "1f43b675", "a0")))  # segment, cluster, group of blocks
MATROSKA_BLOCKS = (b"\xa3", b"\xa1")
MATROSKA_PARTS = tuple(map(bytes.fromhex, (  # all others in a segment, a cluster or a group of blocks
    "1a45dfa3", "114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1941a469", "1043a770", "1254c367", "ec", "bf", "e7",
    "5854", "a7", "ab", "af", "75a1", "9b", "fa", "fb", "fd", "a4", "75a2", "8e", "c8", "a2")))
FEW = 10  # one of so many
TS_BLOCK = 1 << 16  # packets at a time, 12 MB
MPEG_STARTS = re.compile(rb"\0\0\x01([\0-\x04\xb3])")  # where a picture, its first rows and a sequence begin
MPEG_SEQUENCE = 0xB3
MPEG_FIELDS = re.compile(rb".{4,5}\0\0\x01\xb5[\x80-\x8f].(.)", re.DOTALL)  # in the head of a picture: of which it is
TALL = 2800  # pixels above which the rows of MPEG-2 are numbered anew
WEBP_CHUNKS = (b"VP8X", b"ANIM", b"ICCP", b"EXIF", b"XMP ", b"VP8 ", b"VP8L", b"ALPH")
WEBP_PICTURES = (b"VP8 ", b"VP8L", b"ALPH")  # what a frame begins with, after where it is and for how long


def num_pictures(path: str, format_name: str, stream: int, position: int) -> tuple[int, bool]:
    """At least how many packets of pictures the parts of a local file hold, and whether these are as they should be.

    ``stream`` is the number that the format gives to the stream, AVI its index; ``position`` (bytes) is where its first
    packet lies. Nothing is known of other formats than AVI, Matroska, FLV, MPEG-TS, MPEG-PS and ASF: (0, True).
    """
    def walk(data: mmap.mmap) -> tuple[int, bool]:
        if format_name == "avi":
            return _avi_pictures(data, stream)
        if format_name == "matroska,webm":
            return _matroska_pictures(data, position)
        if format_name == "flv":
            return _flv_pictures(data)
        if format_name == "mpegts":
            return _ts_pictures(data, stream)
        if format_name == "mpeg":
            return _ps_pictures(data, stream), True
        return 0, format_name != "asf" or is_asf_gapless(data)

    return walked(path, walk, (0, True))


def _avi_pictures(data: mmap.mmap, stream: int) -> tuple[int, bool]:
    """Chunks of pictures; whether all chunks follow each other, and those among the packets are of kinds that belong
    there."""
    kinds, frames, place, is_inside = (b"%02ddc" % stream, b"%02ddb" % stream), 0, 0, False
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


def ebml_element(data: bytes | mmap.mmap, place: int) -> tuple[bytes, int, int | None]:
    """The name of the element at ``place``, where its content begins, and its size (None: not known)."""
    number = 8 - data[place].bit_length() + 1  # bytes of the name
    length = 8 - data[place + number].bit_length() + 1
    size = int.from_bytes(data[place + number : place + number + length], "big") & ((1 << 7 * length) - 1)
    inside = place + number + length
    return data[place : place + number], inside, None if size == (1 << 7 * length) - 1 else size


def _matroska_pictures(data: mmap.mmap, position: int) -> tuple[int, bool]:
    """Frames in the blocks of the track of the one at ``position``; whether all elements are known to their end."""
    track, frames, place, end = data[position : position + 1], 0, 0, len(data)
    while place < len(data):
        try:
            kind, inside, size = ebml_element(data, place)
        except IndexError:
            kind, inside, size = b"", place, None
        if kind in MATROSKA_INSIDE:
            end = end if size is None or kind != MATROSKA_INSIDE[0] else inside + size
            place = inside
            continue
        if size is None or kind not in (*MATROSKA_BLOCKS, *MATROSKA_PARTS):
            return frames, place in (end, len(data) - zeros_at_end(data))  # what comes after them is somebody's own
        if kind in MATROSKA_BLOCKS and data[inside : inside + 1] == track and size > 4:
            is_laced = data[inside + 3] & 6  # after the track's number and the time
            frames += data[inside + 4] + 1 if is_laced else 1
        place = inside + size
    return frames, place == len(data)


def flv_number(head: bytes, name: bytes) -> float:
    """What the first message of an FLV says under ``name``: that, the kind 0, eight bytes; 0 where it says nothing."""
    place = head.find(b"\0" + bytes([len(name)]) + name + b"\0") + len(name) + 3
    number = struct.unpack_from(">d", head, place)[0] if place + 8 <= len(head) else 0
    return number if place >= len(name) + 3 and 0 < number < 2**53 else 0


def _flv_pictures(data: mmap.mmap) -> tuple[int, bool]:
    """Tags of pictures; whether all tags follow each other to the end, or to what is after it."""
    place, frames, whole = FLV_HEADER, 0, flv_number(data[:FLV_META], b"filesize")
    while place + FLV_TAG < len(data):
        kind, size = data[place] & 0x1F, int.from_bytes(data[place + 1 : place + 4], "big")
        if kind not in FLV_KINDS:
            is_after = place == whole and data[place : place + 3] != b"FLV"
            return frames, is_after or place + zeros_at_end(data) >= len(data)
        if kind == FLV_VIDEO and size > 1:
            flags, of = data[place + FLV_TAG], data[place + FLV_TAG + 1]
            if flags & FLV_EXTENDED:
                frames += flags & 0xF in (1, 3) and size > 8
            elif flags >> 4 != FLV_INFO:
                frames += flags & 0xF not in FLV_WITH_HEADERS or (of == 1 and size > 5)
        place += FLV_TAG + size + 4
    return frames, place <= len(data)


def _ts_pictures(data: mmap.mmap, stream: int) -> tuple[int, bool]:
    """Units of the stream with a time stamp, and the few that have lost theirs; whether packets follow each other, and
    units begin where they say."""
    packets = ts_packets(data)
    if packets is None:
        return 0, False
    stamped, others, is_chain = 0, 0, True
    for start in range(0, len(packets), TS_BLOCK):
        own = packets[start : start + TS_BLOCK]
        own = own[(own[:, 1] & 0x1F == stream >> 8) & (own[:, 2] == stream & 0xFF) & (own[:, 3] & 0x10 > 0)]
        if (own[:, 3] & 0xC0).any():  # encrypted
            return 0, True
        says, begins, heads = ts_units(own)
        has_stamp = (heads[:, 7] & 0x80 > 0) | (heads[:, 9] & 0xE1 == 0x21)
        is_long = (heads[:, 4:6] == 0).all(1)  # no length is stated
        stamped += int((says & begins & has_stamp).sum())
        others += int((says & begins & ~has_stamp & is_long).sum())
        is_chain &= bool((says == begins).all())
    return stamped + others * (others * FEW <= stamped), is_chain


def _ps_pictures(data: mmap.mmap, stream: int) -> int:
    """Pictures that begin in the stream, or its packets with a time stamp where they are more.

    A picture may be made of two fields; one field alone is a picture that is damaged. A row after a lower one is of
    a picture that has lost its beginning.
    """
    place, stamps, pictures, fields, row, is_tall = 0, 0, 0, 0, 0, False
    while place >= 0 and place + 16 < len(data):
        start, mark, kind = struct.unpack_from(">HBB", data, place)
        if start or mark != 1 or kind < PS_END:
            place = data.find(b"\0\0\1\xba", place + 1)
            continue
        begin, place = place + 6, ps_end(data, place, kind)
        if kind != stream & 0xFF:
            continue
        stamps += _has_stamp(data, begin)
        for found in MPEG_STARTS.finditer(data, begin, place):
            code, at = found[1][0], found.end()
            if code == MPEG_SEQUENCE:  # its height are the last 12 of 24 bits
                is_tall = int.from_bytes(data[at + 1 : at + 3], "big") & 0xFFF > TALL
                continue
            if code == 0:
                head = MPEG_FIELDS.match(data, at, place)
                is_field = head is not None and head[1][0] & 3 in (1, 2)
                pictures, fields = pictures + (not is_field), fields + is_field
            elif code < row and not is_tall:
                pictures += 1
            row = code
    return max(pictures + (fields + 1) // 2, stamps) if fields <= 1 else pictures + fields // 2


def _has_stamp(data: mmap.mmap, place: int) -> bool:
    """Whether the header of a packet, of MPEG-2 or MPEG-1, says when to show what begins in it."""
    if data[place] >> 6 == 2:
        return data[place + 1] >> 7 == 1
    while data[place] == 0xFF:
        place += 1
    return data[place + 2 * (data[place] >> 6 == 1)] >> 5 == 1


def webp_frames(path: Path) -> int:
    """How many frames an animated WebP holds: those that say so, and those of which only the head is damaged."""
    data, place, frames, is_strange, is_nameless = path.read_bytes(), 12, 0, False, False
    end = 8 + int.from_bytes(data[4:8], "little")
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        if kind == b"ANMF":
            frames, is_strange, is_nameless = frames + 1 + is_strange, False, False
        elif data[place + 24 : place + 28] in WEBP_PICTURES or sum(map(operator.eq, kind, b"ANMF")) == 3:
            frames += 1
        else:  # what nobody knows may stand only after the last
            is_strange |= kind not in WEBP_CHUNKS
            is_nameless |= place < end and not kind.decode("latin1").isprintable()
        place += 8 + size + size % 2
    return frames + is_nameless


def avif_frames(path: Path) -> int:
    """How many frames the tracks of an AVIF have durations for; 0 where there are none, or more than it can hold."""
    data, most = path.read_bytes(), 0
    for box in re.finditer(b"stts", data):
        (number,) = struct.unpack_from(">I", data.ljust(box.end() + 8, b"\0"), box.end() + 4)
        entries = data[box.end() + 8 : box.end() + 8 + 8 * number]
        most = max(most, sum(count for count, _ in struct.iter_unpack(">II", entries[: len(entries) // 8 * 8])))
    return most if most <= len(data) else 0
