"""What a file has lost on its way: bytes, frames that cannot be decoded, holes, an end that is missing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from statistics import median_high
from typing import Any

from diffsal.media.chains import MOST_FILLING, fragment_numbers, is_gapless, is_whole, mp4_boxes, padding
from diffsal.media.container import Decoding
from diffsal.media.counts import num_pictures
from diffsal.media.probe import Size, end_of_all, frame_seconds, has_more, read_again, read_size, states_length

STAMP_SECONDS = 1.1e-3  # time stamps of a millisecond are off by as much
LOSING_CONTAINERS = ("matroska,webm", "ogg", "asf", "mpegts", "mpeg", "flv", "nut")  # have no index to count by
MOV = "mov,mp4,m4a,3gp,3g2,mj2"
COUNTING_CONTAINERS = (MOV, "avi", "gif")  # say how many frames they hold
STAMPED_CONTAINERS = ("mpegts", "mpeg", "ogg")  # whose end is known from their first and last stamps alone
PACKED_CONTAINERS = {"matroska,webm": 64, "flv": 28, "nut": 64}  # bytes between two packets, at most
CHAINED_CONTAINERS = {  # every byte of which is held against the format, and what is said where that fails
    "gif": "damaged in the middle", "apng": "damaged in the middle",
    "mpegts": "damaged (its packets do not follow each other)", "flv": "damaged (its tags do not follow each other)",
    "matroska,webm": "damaged (its parts do not follow each other)", "asf": "damaged (some of its parts are missing)",
}
HELD_CONTAINERS = ("matroska,webm", "flv")  # say how long the whole lasts, not how long each picture is shown
ONE_TO_ONE_CODECS = (  # a packet is a picture that is shown
    "h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "theora", "wmv1", "wmv2", "wmv3", "vc1", "msmpeg4",
    "msmpeg4v2", "msmpeg4v3", "flv", "flv1", "h263", "png", "apng", "gif", "ffv1", "prores", "dnxhd", "av1", "libdav1d",
    "libaom-av1", "vp8", "vp9", "libvpx-vp9", "rawvideo",
)
MOST_HOLES = 3
REGULAR_FRAMES = 4  # for each hole
SEAM_SECONDS = 0.5  # between two recordings that were joined, at most
MISSING_END_SECONDS = 0.5  # a video that ends this much before its container says has lost its end
FEWEST_FRAMES = 1000  # that a file may give, however small it is


class Holes:
    """Finds where frames are missing: waits in a clip whose frames otherwise come regularly.

    Some readers pass over damage in silence; this is how it shows. Waits that come often, or among frames that are not
    regular, are the clip's own, and so are those that the frame before them announces (``duration``).
    """

    def __init__(self, frame_seconds: float) -> None:
        self.frame_seconds = frame_seconds
        self.last: float | None = None
        self.announced = 0.0
        self.waits: list[tuple[float, float]] = []
        self.regular = self.irregular = 0

    def add(self, seconds: float, duration: float) -> None:
        wait = self.frame_seconds if self.last is None else seconds - self.last
        if abs(wait - self.frame_seconds) < max(0.1 * self.frame_seconds, STAMP_SECONDS):
            self.regular += 1
        elif wait > 1.5 * self.frame_seconds and self.last is not None and wait > self.announced + STAMP_SECONDS:
            if len(self.waits) <= MOST_HOLES:
                self.waits.append((self.last, seconds))
        elif abs(wait - self.announced) > STAMP_SECONDS:
            self.irregular += 1
        self.last, self.announced = seconds, duration if duration > 1.5 * self.frame_seconds else 0.0

    def found(self, seams: Sequence[float], stamps: Sequence[float]) -> str | None:
        """The holes in words, or None; one that ends at one of the ``seams`` (seconds) belongs to that, and so does a
        short one near it: the sound of the recording before was longer.

        There is no hole where a packet belongs (``stamps``, in seconds): the decoder gave its frame out of order.
        """
        waits = [(start, end) for start, end in self.waits
                 if not any(start + STAMP_SECONDS < stamp < end - STAMP_SECONDS for stamp in stamps)
                 and not any(abs(end - seam) < SEAM_SECONDS or (end - start < SEAM_SECONDS > abs(start - seam))
                             for seam in seams)]
        if not 0 < len(waits) <= MOST_HOLES or self.irregular * 50 > self.regular:
            return None
        if self.regular < REGULAR_FRAMES * len(waits):
            return None
        missing = sum(max(1, round((end - start) / self.frame_seconds) - 1) for start, end in waits)
        where = f"from {waits[0][0]:.2f} s to {waits[-1][1]:.2f} s"
        return f"damaged {where} (about {missing} frame{'s' * (missing > 1)} cannot be found there)"


class Losses:
    """Compares what came out of a local file (or address) with what its container announced."""

    def __init__(self, path: str, container: Any, stream: Any, frame_seconds: float, stated_end: float | None) -> None:
        self.path, self.format, self.stated_end = path, container.format.name, stated_end
        self.codec = stream.codec_context.name
        self.holes = Holes(frame_seconds)
        self.size = Size(0, None) if "://" in path else read_size(path)
        self.most_frames = max(FEWEST_FRAMES, self.size.found) if self.size.found else 2**62
        self.has_own_end = self.format == MOV and stream.duration is not None  # the sum of its frames' durations
        self.num_pictures = len(container.streams.video)
        self.num_stated = _stated_frames(container, stream)
        self.num_cut = stream.frames - len(stream.index_entries) if self.format == MOV else 0  # what edits leave out
        self.num_slots = max(0, stream.frames) if self.format == "avi" else 0  # with what stands for "as before"

    def found(self, decoding: Decoding, num_frames: int, end_seconds: float, is_part: bool) -> list[str]:
        """What is missing, a line each; ``is_part`` where the frames before some start were not read."""
        lines = []
        held, is_chain = self._held(decoding) if self.size.found else (0, True)
        damage = decoding.damage()
        undecoded = 0 if is_part else self._undecoded(decoding)
        if undecoded:
            many = f"{undecoded} of {decoding.num_packets} frames could not be decoded"
            damage = f"{damage}; {many}" if damage else many
        damage = damage or self._passed_over(decoding, is_chain)
        if damage:
            lines.append(f"{damage}; what could be decoded is done, fetch it again or re-encode it for the rest")
        lost = 0 if is_part else max(self.num_stated, held) - decoding.num_stored
        if lost <= 0 and self.num_slots and not is_chain and not is_part:  # an index was made from what is left
            lost = self.num_slots - decoding.last_stamp - 1
        if lost <= 0 and self.num_cut > 0 and self.stated_end and end_seconds > 2 * self.stated_end and not is_part:
            lost = self.num_cut  # a frame that lasts longer than all together has lost its own duration
        end = self._missing_end(decoding, num_frames, end_seconds, lost) or self._padding()
        return [*lines, end] if end else lines

    def _held(self, decoding: Decoding) -> tuple[int, bool]:
        """:func:`num_pictures` of the stream; none where a picture of two fields may be two of them."""
        stream = decoding.stream
        number = stream.index if self.format == "avi" else stream.id
        held, is_chain = num_pictures(self.path, self.format, number, decoding.first_position)
        has_fields = self.format == "mpegts" and self.codec == "mpeg2video" and decoding.num_interlaced
        return 0 if has_fields else held, is_chain

    def _passed_over(self, decoding: Decoding, is_chain: bool) -> str | None:
        """What the reader has passed over without a word to us."""
        complaint, gap, is_losing = None, 0, self.format in LOSING_CONTAINERS
        if self.size.found and (is_losing or self.format == "gif"):
            complaint, gap = read_again(self.path, are_decoded=self.format == "gif")
        if self.format == "flv" and self.num_pictures > 1:  # a tag of another kind makes a stream of its own
            complaint = complaint or "its pictures change their codec"
        if self.format in CHAINED_CONTAINERS and self.size.found and not self.size.is_cut_short:
            is_chain = is_chain and is_whole(self.path, self.format)
            complaint = complaint if is_chain else CHAINED_CONTAINERS[self.format]
        if self.format == MOV and self.size.found and self.holes.waits and _lacks_fragment(self.path):
            return self.holes.found((), ())
        # Where every byte was read, the clip itself waits
        is_read = self.size.found and gap < PACKED_CONTAINERS.get(self.format, 0) and complaint is None
        if not is_losing or is_read or not self.holes.waits:
            return complaint
        if self.size.found and complaint is None and is_gapless(self.path, self.format):
            return None
        stamps, holes = frame_seconds(self.path, decoding.origin_seconds) if self.size.found else [], self.holes
        if stamps and self.format in STAMPED_CONTAINERS:  # frames after a lost one may come in another order
            holes = Holes(holes.frame_seconds)
            for seconds in stamps:
                holes.add(seconds, 0.0)
        seams = [seam - decoding.origin_seconds for seam in decoding.clock.seams]
        return holes.found(seams, stamps) or complaint

    def _undecoded(self, decoding: Decoding) -> int:
        lost = decoding.num_packets - decoding.num_frames
        if lost > 0.8 * decoding.num_frames and decoding.num_interlaced > 0.8 * decoding.num_frames:
            lost = decoding.num_packets // 2 - decoding.num_frames  # fields in packets of their own
        return lost if lost > decoding.num_leading and self.codec in ONE_TO_ONE_CODECS else 0

    def _padding(self) -> str | None:
        """What may be no padding, but the rest of a download, where no header says how long the whole is."""
        if not self.size.found or self.format not in ("mpegts", "flv") or states_length(self.path):
            return None
        zeros = padding(self.path)
        return (f"ends with {zeros:,} bytes of zeros; if its download was not finished, fetch it again"
                if zeros > MOST_FILLING else None)

    def _missing_end(self, decoding: Decoding, num_frames: int, end_seconds: float, lost: int) -> str | None:
        stated = f" of {self.stated_end:.2f} s" if self.stated_end and self.stated_end > end_seconds + 0.01 else ""
        if self.size.is_cut_short:
            return (f"ends at {end_seconds:.2f} s{stated}, the file is cut short; the {num_frames} frames before are "
                    "done, fetch the file again for the rest")
        if lost > 0:
            return (f"{lost} of {num_frames + lost} frames cannot be found; the {num_frames} others are done, fetch "
                    "the file again for the rest")
        if decoding.clock.has_jumped and self.format in STAMPED_CONTAINERS:
            return None  # the last stamp is of another clock than the first
        exact = self.has_own_end or self.format in (*HELD_CONTAINERS, "asf")
        least = min(MISSING_END_SECONDS, 2.5 * self.holes.frame_seconds) if exact else MISSING_END_SECONDS
        if not self.stated_end or self.stated_end - end_seconds < least:
            return None
        if self.format in HELD_CONTAINERS and self.size.found and not has_more(self.path, decoding.last_position):
            return None  # the last picture is held
        if decoding.beside_end >= self.stated_end - least and not self.has_own_end:
            return None  # only the picture ends: the container's time was the sound's
        if self.size.found and not self.has_own_end and (
                end_of_all(self.path, decoding.origin_seconds) >= self.stated_end - least):
            return None  # or that of another stream
        return (f"ends at {end_seconds:.2f} s{stated}, the rest cannot be found; the {num_frames} frames before are "
                "done, fetch the file again for the rest")


def _lacks_fragment(path: str) -> bool:
    """Whether a number is missing among those of an MP4's fragments, which step by one, or by as many as there are
    streams."""
    steps = [after - before for before, after in pairwise(fragment_numbers(path))]
    return bool(steps) and max(steps) > max(1, median_high(steps) if len(steps) > 1 else 1)


def _stated_frames(container: Any, stream: Any) -> int:
    """How many packets the container's own index has for this stream; 0 where it has none."""
    if container.format.name not in COUNTING_CONTAINERS:
        return 0
    if container.format.name == "gif":
        return max(0, stream.frames)
    # Their headers also count what an edit leaves out, and what stands for "as before": nothing, and the next follows
    empty = [entry.pos for entry in stream.index_entries if not entry.size]
    full = len(stream.index_entries) - len(empty)
    if not empty or container.format.name != MOV or "://" in container.name:
        return full
    starts = {entry.pos for other in container.streams for entry in other.index_entries if entry.size}
    starts |= {os.path.getsize(container.name), *(place for place, _ in mp4_boxes(container.name))}
    return full + sum(place not in starts for place in empty)
