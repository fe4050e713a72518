"""A video coded by x264 or x265 with an offset of the quantiser for every block: libavcodec's regions of interest."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.filter import Graph
from jaxtyping import Int

from diffsal.errors import InputError
from diffsal.media.source import Source
from diffsal.outputs.overlay import CLOCK, LONGEST_SIDE, VideoWriter

if TYPE_CHECKING:
    from diffsal.decisions.qp_map import QpMap

CODECS = {"h264": "libx264", "h265": "libx265"}
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
QP_RANGE = 51  # of 8-bit H.264 and H.265: libavcodec multiplies a region's offset by it
MOST_REGIONS = 2000  # filters in a chain; a map with more is drawn coarser


def rectangles(offsets: Int[np.ndarray, "rows columns"]) -> list[tuple[int, int, int, int, int]]:
    """Blocks of equal offset joined: (left, top, width, height) in blocks, and the offset. Zero needs none.

    Runs along rows, then runs of the same place and offset in rows one below the other.
    """
    found: list[tuple[int, int, int, int, int]] = []
    open_runs: dict[tuple[int, int, int], int] = {}  # (left, width, offset) → top
    for y in range(len(offsets) + 1):
        runs = set(_runs(offsets[y])) if y < len(offsets) else set()
        for run in [r for r in open_runs if r not in runs]:
            top = open_runs.pop(run)
            found.append((run[0], top, run[1], y - top, run[2]))
        for run in runs:
            open_runs.setdefault(run, y)
    return sorted(found, key=lambda r: (r[1], r[0]))


def _runs(row: Int[np.ndarray, " columns"]) -> list[tuple[int, int, int]]:
    """(left, width, offset) of the runs of one row that are not 0."""
    starts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist()]
    ends = [*starts[1:], len(row)]
    return [(a, b - a, int(row[a])) for a, b in zip(starts, ends, strict=True) if row[a]]


class Regions:
    """Puts offsets on frames (:meth:`mark`): a chain of libavfilter's ``addroi``, one for each rectangle, which is kept
    until the offsets change."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.key: tuple[Any, ...] = ()
        self.graph: Graph | None = None

    def mark(self, frame: av.VideoFrame, offsets: Int[np.ndarray, "rows columns"]) -> av.VideoFrame:
        """The same picture with its regions of interest; pixels and time stay."""
        key = (offsets.tobytes(), offsets.shape, frame.width, frame.height, frame.format.name)
        if key != self.key:
            self.key, self.graph = key, self._graph(frame, offsets)
        if self.graph is None:
            return frame
        pts, time_base = frame.pts, frame.time_base
        self.graph.push(frame)
        marked: Any = self.graph.pull()
        marked.pts, marked.time_base = pts, time_base
        return marked

    def _graph(self, frame: av.VideoFrame, offsets: Int[np.ndarray, "rows columns"]) -> Graph | None:
        found = rectangles(offsets)
        coarser = 2
        while len(found) > MOST_REGIONS:
            found = rectangles(np.rint(offsets / coarser).astype(int) * coarser)
            coarser *= 2
        if not found:
            return None
        graph = Graph()
        last: Any = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, CLOCK)
        )
        for left, top, width, height, offset in found:
            x, y = left * self.block, top * self.block
            wide, high = min(width * self.block, frame.width - x), min(height * self.block, frame.height - y)
            region = graph.add("addroi", f"x={x}:y={y}:w={wide}:h={high}:qoffset={offset}/{QP_RANGE}")
            last.link_to(region)
            last = region
        last.link_to(graph.add("buffersink"))
        graph.configure()
        return graph


def encoder_options(codec: str, crf: float, preset: str) -> dict[str, str]:
    """Of libx264 or libx265. Adaptive quantisation is on, whatever the preset: without it they take no regions."""
    adaptive = {"x265-params": "log-level=error:aq-mode=2"} if codec == "h265" else {"aq-mode": "1"}
    return {"preset": preset, "crf": f"{crf:g}", **adaptive}


class CodedVideo(VideoWriter):
    """A video coded with a map for every frame; times and sound are the source's, as :class:`VideoWriter` keeps them.

    ``codec``: ``h264`` or ``h265``. Raises :class:`InputError` for another, or a picture that it cannot hold.
    """

    def __init__(self, path: Path, source: Source, block: int, codec: str, crf: float, preset: str) -> None:
        if codec not in CODECS:
            raise InputError(f"codec is {codec}, expected one of {', '.join(CODECS)}")
        if preset not in PRESETS:
            raise InputError(f"preset is {preset}, expected one of {', '.join(PRESETS)}")
        self.codec, self.options = codec, encoder_options(codec, crf, preset)
        self.regions = Regions(block)
        self.offsets: dict[int, Int[np.ndarray, "rows columns"]] = {}  # by the time stamp of frames not yet coded
        super().__init__(path, source)

    def write(self, frame: QpMap) -> None:  # type: ignore[override]
        """The next frame; its picture is the source's."""
        super().write(frame, frame.image)  # type: ignore[arg-type]
        self.offsets[self.waiting_ticks] = frame.offsets

    def _encode(self, frame: av.VideoFrame | None, duration: int = 0) -> None:
        if frame is not None:
            planes = frame.reformat(format="yuv420p")
            planes.pts, planes.time_base = frame.pts, frame.time_base
            offsets = self.offsets.pop(frame.pts or 0)
            frame = self.regions.mark(planes, offsets)
        super()._encode(frame, duration)

    def _begin(self, width: int, height: int) -> None:
        if max(width, height) > LONGEST_SIDE:
            raise InputError(f"{self.path}: {width}x{height} is more than the {LONGEST_SIDE} pixels a side it can hold")
        self._begin_with(CODECS[self.codec], self.options, width, height)
