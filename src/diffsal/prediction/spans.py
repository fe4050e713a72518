"""A long video in spans: the network draws each by itself, and the whole is finished from what was drawn.

:func:`draw_span` runs the network alone on a span's frames and keeps its raw maps, before the finish.
:class:`DrawnMaps` gives them to :func:`diffsal.prediction.pipeline.predict`, which does the rest on the whole video: so
what reaches over the seams (the sound's history, the tracks of speakers, means of neighbours) is exactly that of a run
in one piece.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diffsal.config import Finish, SamplingConfig
from diffsal.files import whole_file
from diffsal.media.source import Source
from diffsal.media.threads import prefetch
from diffsal.prediction.pipeline import ReadFrame, Stream, queue_size, sound_for, usual_every
from diffsal.prediction.plan import Plan
from diffsal.runtime.engine import Engine

NO_END = 1 << 62  # an index beyond every frame's
MAPS, FRAMES = ".maps", ".frames.npz"  # a span's two files: raw maps as float32, and which frames they were drawn from
RAW = np.dtype("<f4")


class SpansDiffer(Exception):
    """The frames of the whole video are not those that the spans were drawn from: a damaged file gives such frames."""


def can_split(engine: Engine) -> bool:
    """Whether a map does not depend, in its last bit, on the windows that go through the network beside its own."""
    return engine.batch_size == 1


def span_starts(engine: Engine, source: Source, every: int | None, span_seconds: float) -> list[int]:
    """First frames of the spans of ``source``, equal and about ``span_seconds`` long; [0] where it stays whole.

    Whole stays what is no video file, no longer than two spans, or of unknown length.
    """
    if source.path is None or source.is_animation or not source.num_frames or not can_split(engine):
        return [0]
    length = source.num_frames / source.frame_rate
    if not 0 < 2 * span_seconds < length:
        return [0]
    step = (every or usual_every(engine, source)) * engine.config.num_frames  # spans begin with a frame that is drawn
    each = -(-source.num_frames // round(length / span_seconds))
    each = max(step, -(-each // step) * step)
    return list(range(0, source.num_frames, each))


def draw_span(
    engine: Engine, source: Source, start: int, stop: int | None, place: Path, *,
    sampling: SamplingConfig, samples: int = 1, every: int | None = None, mute: bool = False,
) -> int:
    """Draw the maps of frames ``start`` to ``stop`` (exclusive; None: to the end) into two files beside ``place``.

    They are ``place`` with the endings ``MAPS`` and ``FRAMES``. Returns how many frames were predicted.
    """
    engine = copy(engine)
    engine.finish = Finish()  # no history is read, no face is looked for
    every, stop = every or usual_every(engine, source), NO_END if stop is None else stop
    plan = Plan(engine.config.num_frames, every, start_index=start, end_index=stop, indices=range(start, stop, every))
    stream = Stream(engine, source, plan, [None if mute else sound_for(engine, source)])
    notes: list[tuple[int, float, int]] = []
    drawn: list[int] = []
    shape: tuple[int, ...] = (samples, 1, 1)
    read = prefetch(_noted(stream.read(), notes), queue_size(source))
    try:
        with whole_file(place.with_name(place.name + MAPS)) as growing, growing.open("wb") as file, \
                engine.workers(stream.num_workers) as pool:
            windows = stream.windows(stream.encode(read, pool), deque(maxlen=1))
            for window, raw in stream.sample(windows, pool, sampling, samples):
                if start <= window.frame.index < stop:
                    drawn.append(window.frame.index)
                    shape = raw.shape
                    file.write(np.ascontiguousarray(raw, RAW).tobytes())
    finally:
        read.close()
    with whole_file(place.with_name(place.name + FRAMES)) as growing, growing.open("wb") as file:
        indices, seconds, sums = zip(*list(notes), strict=True) if notes else ((), (), ())
        np.savez(file, index=np.array(indices, np.int64), seconds=np.array(seconds, np.float64),
                 sums=np.array(sums, np.uint32), drawn=np.array(drawn, np.int64), shape=np.array(shape, np.int64))
    return sum(start <= index < stop for index in indices)


def checksum(image: ndarray) -> int:
    """Of uint8 pixels: CRC-32."""
    return zlib.crc32(np.ascontiguousarray(image).data)


def _noted(read: Iterator[ReadFrame], notes: list[tuple[int, float, int]]) -> Iterator[ReadFrame]:
    for frame in read:
        notes.append((frame.index, frame.seconds, checksum(frame.small)))
        yield frame


class DrawnSpan:
    """What :func:`draw_span` left at ``place``; its maps stay on the disk until they are asked for."""

    def __init__(self, place: Path) -> None:
        with np.load(place.with_name(place.name + FRAMES), allow_pickle=False) as notes:
            self.index, self.seconds, self.sums = notes["index"], notes["seconds"], notes["sums"]
            self.drawn, shape = notes["drawn"], tuple(int(n) for n in notes["shape"])
        path = place.with_name(place.name + MAPS)
        self.maps = np.memmap(path, RAW, "r", shape=(len(self.drawn), *shape)) if len(self.drawn) else None

    def agrees(self, index: int, seconds: float, pixels_sum: int) -> bool | None:
        """Whether the span was drawn from this frame; None where it did not read one of this index."""
        at = int(np.searchsorted(self.index, index))
        if at == len(self.index) or self.index[at] != index:
            return None
        return bool(self.seconds[at] == seconds and self.sums[at] == pixels_sum)

    def of(self, index: int) -> ndarray | None:
        """The raw maps of frame ``index``, or None."""
        at = int(np.searchsorted(self.drawn, index))
        if self.maps is None or at == len(self.drawn) or self.drawn[at] != index:
            return None
        return np.array(self.maps[at], np.float32)


class DrawnMaps:
    """The spans of one video together, for :func:`diffsal.prediction.pipeline.predict`.

    Every frame of the whole is compared with what the spans were drawn from: raises :class:`SpansDiffer` where they
    are not the same, and ``OSError`` or ``ValueError`` for files that are missing or damaged.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self.spans = [DrawnSpan(place) for place in places]
        self.last_index = -1
        self.num_frames = 1 + max((int(span.index[-1]) for span in self.spans if len(span.index)), default=-1)

    def check(self, index: int, seconds: float, small: ndarray) -> None:
        """The next frame of the whole, uint8 at the network's size."""
        found_sum, self.last_index = checksum(small), index
        found = [span.agrees(index, seconds, found_sum) for span in self.spans]
        if False in found or True not in found:
            raise SpansDiffer(f"frame {index}")

    def check_end(self) -> None:
        """The whole ends where the spans end."""
        if self.last_index != self.num_frames - 1:
            raise SpansDiffer(f"the end after frame {self.last_index}")

    def of(self, index: int) -> Float[ndarray, "samples h w"]:
        """The raw maps that were drawn of frame ``index``."""
        for span in self.spans:
            maps = span.of(index)
            if maps is not None:
                return maps
        raise SpansDiffer(f"no map of frame {index}")
