"""The sound of an overlay: copied where every player takes it as it is, else AAC, on the timeline of the network's."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from diffsal.media.container import Decoding, is_edited, open_media
from diffsal.media.probe import picture_stream, sound_stream
from diffsal.media.soundtrack import SoundTimeline
from diffsal.media.source import Source

RATE, LAYOUT = 48_000, "stereo"
COPIED_CODECS = frozenset({"aac", "mp3", "mp3float"})  # what an MP4 in a browser plays as it is
MATROSKA = "matroska,webm"
COPIED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", MATROSKA)  # one clock, one set-up from start to end
LONGEST_PRIMING = 0.12  # seconds that a coder needs before the first sample
LOWEST_MP3_RATE = 16_000  # of MP3 in MP4
LONGEST_SILENCE = 60 * RATE  # samples that are encoded; a longer hole is left to the time stamps


class OverlaySound:
    """The sound of ``source`` from ``start`` to ``end`` on its way into ``container``, the overlay ``path``."""

    def __init__(self, container: Any, source: Source, path: Path, start: float | None, end: float | None) -> None:
        self.container, self.source, self.start, self.end = container, source, start or 0.0, end
        assert source.path is not None
        self.input = open_media(source.name, source.path)
        stream, picture = sound_stream(self.input), picture_stream(self.input)
        self.decoding = Decoding(self.input, stream, source.origin_seconds, (picture,))
        if start is None and end is None and self._can_be_copied(stream, path):
            self.packets = self._copied(container.add_stream_from_template(stream))
        else:
            self.packets = self._encoded(container.add_stream("aac", rate=RATE, layout=LAYOUT))
        self.waiting: tuple[float, Any] | None = None

    def _can_be_copied(self, stream: Any, path: Path) -> bool:
        codec, mp3 = stream.codec_context, stream.codec_context.name.startswith("mp3")
        if codec.name not in COPIED_CODECS or self.input.format.name not in COPIED_CONTAINERS:
            return False
        if is_edited(stream) or self._hides_more(stream):
            return False
        if path.suffix.lower() == ".mkv":  # it has no word for the packets before time 0 that an MP4's edit list hides
            return self.input.format.name == MATROSKA and (mp3 or bool(codec.extradata))
        return codec.rate >= LOWEST_MP3_RATE if mp3 else bool(codec.extradata)

    def _hides_more(self, stream: Any) -> bool:
        """Whether an edit list leaves out sound for which the overlay has no place before its time 0."""
        start, zero = (stream.start_time or 0) * stream.time_base, self.source.origin_seconds
        first = min((entry.timestamp for entry in stream.index_entries), default=0) * stream.time_base
        return start - max(first, zero) > LONGEST_PRIMING

    def write_until(self, seconds: float) -> None:
        """Write what begins up to ``seconds`` on the overlay's clock."""
        while True:
            if self.waiting is None:
                self.waiting = next(self.packets, None)
            if self.waiting is None or self.waiting[0] > seconds:
                return
            self.container.mux(self.waiting[1])
            self.waiting = None

    def close(self) -> None:
        """Let go of the source."""
        self.packets.close()
        self.input.close()

    def _copied(self, copied: Any) -> Generator[tuple[float, Any]]:
        last = None
        for packet in self.decoding.packets():
            if packet.dts is None or packet.pts is None or packet.is_corrupt:
                continue
            shift = round(self.source.origin_seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if last is not None and packet.dts <= last:
                continue
            last = packet.dts
            packet.stream = copied
            yield float(packet.dts * packet.time_base), packet

    def _encoded(self, coded: Any) -> Generator[tuple[float, Any]]:
        timeline = SoundTimeline(self.decoding, "fltp", LAYOUT, RATE)
        count = coded.codec_context.frame_size or 1024
        kept = np.zeros((2, 0), np.float32)  # not yet encoded
        place = None  # of its first sample, on the overlay's clock
        for first, samples in self._span(timeline):
            if place is None:
                place = first
            elif first > place + kept.shape[1]:  # after a hole that is left to the time stamps
                yield from self._packets(coded, np.pad(kept, ((0, 0), (0, count - kept.shape[1]))), place)
                kept, place = np.zeros((2, 0), np.float32), first
            kept = np.concatenate([kept, samples], axis=1)
            while kept.shape[1] >= count:
                yield from self._packets(coded, kept[:, :count], place)
                kept, place = kept[:, count:], place + count
        if place is not None:
            if kept.shape[1]:
                yield from self._packets(coded, kept, place)
            yield from ((float("inf"), packet) for packet in coded.encode(None))
        if timeline.problem:
            line = (f"{self.source.name}: its sound cannot be brought to one form ({timeline.problem}); that of the "
                    "overlay ends there")
            self.source.problems.append(line)

    def _span(self, timeline: SoundTimeline) -> Iterator[tuple[int, np.ndarray]]:
        """(first sample on the overlay's clock, float32 (2, n)) of what lies between start and end."""
        stop = None if self.end is None else round((self.end - self.start) * RATE)
        for position, samples, count in timeline.pieces():
            if samples is None:
                if count > LONGEST_SILENCE:
                    continue
                samples = np.zeros((2, count), np.float32)
            first = round(((timeline.start_seconds or 0.0) - self.start) * RATE) + position
            if stop is not None:
                if first >= stop:
                    return
                samples = samples[:, : stop - first]
            if first < 0:
                first, samples = 0, samples[:, -first:]
            if samples.shape[1]:
                yield first, samples

    @staticmethod
    def _packets(coded: Any, samples: np.ndarray, place: int) -> Iterator[tuple[float, Any]]:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=LAYOUT)
        frame.sample_rate, frame.pts, frame.time_base = RATE, place, Fraction(1, RATE)
        yield from ((place / RATE, packet) for packet in coded.encode(frame))
