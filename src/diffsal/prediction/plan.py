"""Which frames of a clip are read, encoded, predicted and interpolated: decided without a network."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """A frame's 0-based index in its clip, and its time."""

    @property
    def index(self) -> int: ...

    @property
    def seconds(self) -> float: ...


F = TypeVar("F", bound=Timed)


@dataclass(frozen=True, eq=False)
class PlannedFrame(Generic[F]):
    """A frame that was read, and what is to be done with it.

    ``is_encoded``: some window needs its features. ``is_predicted``: it goes through the network if a map needs it.
    ``is_asked``: it gets a map, its own or its neighbours' mean.
    """

    frame: F
    is_encoded: bool
    is_predicted: bool
    is_asked: bool


@dataclass(frozen=True)
class Plan:
    """What is wanted of a clip, and what that takes.

    A frame's window is the ``num_frames`` frames around it, from ``before`` ahead of it to ``after`` behind it. Frames
    whose index is a multiple of ``every`` go through the network, others get the mean of their neighbours' maps. Of the
    frames in a window every ``encode_every``-th is encoded. Maps are asked for from ``start`` to ``end`` seconds, from
    ``start_index`` to ``end_index`` (exclusive), and of ``indices`` only; None: no limit. The network's maps up to
    ``maps_before`` frames ahead of a frame and ``maps_after`` behind it are part of its own. ``history`` frames before
    the first window's are read as well, but not encoded.
    """

    num_frames: int
    every: int = 1
    encode_every: int = 1
    start: float | None = None
    end: float | None = None
    start_index: int | None = None
    end_index: int | None = None
    indices: Collection[int] | None = None
    maps_before: int = 0
    maps_after: int = 0
    history: int = 0

    @property
    def before(self) -> int:
        return self.num_frames // 2

    @property
    def after(self) -> int:
        return self.num_frames // 2 - 1

    @property
    def num_before(self) -> int:
        """How many frames ahead of the first one asked for are read."""
        return self.before + self._reach_before + self.history

    @property
    def _reach_before(self) -> int:
        """From a frame that gets a map to the first whose network's map its own is made of; likewise after it."""
        return self.every - 1 + self.maps_before

    @property
    def _reach_after(self) -> int:
        return self.every - 1 + self.maps_after

    def is_asked(self, frame: Timed) -> bool:
        """Whether this frame gets a map."""
        return (
            (self.start is None or frame.seconds >= self.start)
            and (self.end is None or frame.seconds < self.end)
            and (self.start_index is None or frame.index >= self.start_index)
            and (self.end_index is None or frame.index < self.end_index)
            and (self.indices is None or frame.index in self.indices)
        )

    def frames(self, read: Iterable[F]) -> Iterator[PlannedFrame[F]]:
        """Decide about each frame that is read, in order; ends with the last frame that a map needs.

        Where some frames get no map, a frame is decided about when those are known whose windows might need it.
        """
        behind, ahead = self.after + self._reach_after, 0 if self._asks_all else self.before + self._reach_before
        waiting: deque[tuple[F, bool]] = deque()
        last_asked = last_seen = -math.inf  # positions of the last frame asked for, of those decided about and read
        position = 0  # of the next frame to decide about

        def decide() -> PlannedFrame[F]:
            nonlocal last_asked, position
            needed = position - last_asked <= behind or any(asked for _, asked in waiting)
            frame, asked = waiting.popleft()
            last_asked = position if asked else last_asked
            is_first, position = position == 0, position + 1
            encoded = needed and (is_first or frame.index % self.encode_every == 0)
            return PlannedFrame(frame, encoded, is_first or frame.index % self.every == 0, asked)

        for here, frame in enumerate(read):
            asked = self.is_asked(frame)
            last_seen = here if asked else last_seen
            waiting.append((frame, asked))
            while len(waiting) > ahead:
                yield decide()
            if self._has_ended(frame) and here - last_seen >= behind:
                break
        while waiting:
            yield decide()

    @property
    def _asks_all(self) -> bool:  # but for an end
        limits = (self.start, self.start_index, self.indices)
        return all(limit is None for limit in limits)

    def _has_ended(self, frame: Timed) -> bool:
        return (self.end is not None and frame.seconds >= self.end) or (
            self.end_index is not None and frame.index >= self.end_index)


    def decided(self, read: Iterable[F]) -> Iterator[tuple[PlannedFrame[F], bool]]:
        """:meth:`frames`, each with whether the network draws its map."""
        needed = needed_maps(self.frames(read), self.every)
        return with_neighbours(needed, 0 if self._asks_all else self.maps_before, self.maps_after)


def needed_maps(planned: Iterable[PlannedFrame[F]], every: int) -> Iterator[tuple[PlannedFrame[F], bool]]:
    """Each frame with whether its own map is needed: by itself, or for the mean of frames between two such maps."""
    waiting: deque[PlannedFrame[F]] = deque()
    needs_next_map = False  # whether a frame between the last predicted one and the next is asked for

    def decide() -> tuple[PlannedFrame[F], bool]:
        nonlocal needs_next_map
        here = waiting.popleft()
        if not here.is_predicted:
            needs_next_map = needs_next_map or here.is_asked
            return here, False
        between = []
        for later in waiting:
            if later.is_predicted:
                break
            between.append(later.is_asked)
        needed, needs_next_map = here.is_asked or needs_next_map or any(between), False
        return here, needed

    for frame in planned:
        waiting.append(frame)
        while len(waiting) >= every:
            yield decide()
    while waiting:
        yield decide()


def with_neighbours(
    needed: Iterable[tuple[PlannedFrame[F], bool]], before: int, after: int
) -> Iterator[tuple[PlannedFrame[F], bool]]:
    """Each frame with whether its map is drawn: of those predicted, any up to ``before`` ahead of a needed one too.

    And any up to ``after`` behind one.
    """
    waiting: deque[tuple[PlannedFrame[F], bool]] = deque()
    since = math.inf  # frames since the last needed one

    def decide() -> tuple[PlannedFrame[F], bool]:
        nonlocal since
        here, is_needed = waiting.popleft()
        since = 0 if is_needed else since + 1
        return here, here.is_predicted and (since <= after or any(later for _, later in waiting))

    for frame in needed:
        waiting.append(frame)
        if len(waiting) > before:
            yield decide()
    while waiting:
        yield decide()
