"""A clip's ground truth as a protocol wants it: which frames, map and fixations, negatives, two halves of observers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property

import numpy as np

from diffsal.data.clip import Clip
from diffsal.data.databases import record_of
from diffsal.data.databases.gaze import GazeTruth
from diffsal.data.truth import count_fixations
from diffsal.errors import InputError
from diffsal.scoring.map_sources import is_single_file
from diffsal.scoring.protocols import NUM_OTHER_FRAMES, FrameTruth, Protocol, drawn_map, seed_of
from diffsal.scoring.results import ClipScores

POOL = 100  # random frames whose fixations are the negatives of one video's frames, ten at a time


class EvenlyTimed(Clip):
    """A clip whose frames are timed by their number and the average frame rate, whatever their time stamps say."""

    def seconds(self, index: int) -> float:
        self._check(index)
        return index / self.frame_rate


def as_the_pack_counts(clip: Clip) -> Clip:
    """A video of the gaze layout with the frame times of the pack's own script: number over average frame rate.

    Where the time stamps differ from that by a frame or more, the rate varies, and they are what counts.
    """
    if not isinstance(clip.truth, GazeTruth) or clip.is_picture:
        return clip
    frame = 1 / clip.frame_rate
    if any(abs(clip.seconds(i) - i * frame) >= frame for i in range(clip.num_frames)):
        return clip
    return EvenlyTimed(**{f.name: getattr(clip, f.name) for f in fields(Clip)})


class GroundTruth:
    """``all_clips`` are the clips of all sets, from which other clips' fixations are drawn."""

    def __init__(self, clip: Clip, protocol: Protocol, all_clips: Sequence[Clip]) -> None:
        self.clip = as_the_pack_counts(clip) if protocol.drawn else clip
        self.protocol, self.all_clips = protocol, all_clips
        self.problems: list[str] = []

    def frames(self, found: ClipScores) -> list[int]:
        """The frames to score; those left out are counted in ``found``."""
        clip, protocol = self.clip, self.protocol
        if clip.truth is None:
            found.skip("the database keeps the ground truth to itself", clip.num_frames)
            return []
        every = 1 if clip.is_picture else protocol.every
        looked_at: Sequence[int] = range(0, clip.num_frames, every)
        annotated = set(clip.annotated)
        if protocol.every > 1 and len(looked_at) < clip.num_frames:
            found.skip(f"not every {protocol.every}th", clip.num_frames - len(looked_at))
        if protocol.leaves_ends_out:
            looked_at = self._without_ends(found, looked_at)
        outside = getattr(clip.truth, "outside", 0)
        if outside:
            self.problems.append(f"{clip.map_path(0)}: {outside} fixations of {clip.name} are outside the picture and "
                                 "left out; coordinates are fractions of its width and height")
        chosen = [i for i in looked_at if i in annotated]
        if protocol.least_fixations and not clip.is_picture:
            chosen = [i for i in chosen if len(self._points(i)) >= protocol.least_fixations]
            found.skip(f"fewer than {protocol.least_fixations} fixations", len(looked_at) - len(chosen))
        else:
            self._name_missing(found, [i for i in looked_at if i not in annotated])
        found.skipped = {k: v for k, v in found.skipped.items() if v}
        return chosen

    def _without_ends(self, found: ClipScores, looked_at: Sequence[int]) -> Sequence[int]:
        """The frames that the released evaluation scores: see :class:`diffsal.data.databases.record.Database`."""
        record, num_frames = record_of(self.clip.dataset), self.clip.num_frames
        if num_frames < record.least_frames:
            found.skip(f"clips of fewer than {record.least_frames} frames", len(looked_at))
            return []
        first, last = record.margins
        kept = [i for i in looked_at if first <= i < num_frames - last]
        if len(kept) < len(looked_at):
            found.skip(f"the first {first} and last {last} of a clip", len(looked_at) - len(kept))
        return kept

    def _name_missing(self, found: ClipScores, missing: list[int]) -> None:
        if not missing:
            return
        found.skip("no ground truth", len(missing))
        if not isinstance(self.clip.truth, GazeTruth):  # there it only says that nobody looked
            self.problems.append(f"{self.clip.map_path(missing[0])}: no ground truth for frame {missing[0]} of "
                                 f"{self.clip.name} ({len(missing)} such frames); fetch it again")

    def frame(self, index: int) -> FrameTruth | None:
        """One frame's; None where nobody fixates and the map is empty. :class:`InputError` for what cannot be used."""
        counts = self._counts(index)
        if self.protocol.drawn and counts is not None:
            saliency_map = drawn_map(counts)
        else:
            stored, path = self.clip.saliency_map(index), self.clip.map_path(index)
            if stored is None:
                return None
            saliency_map = stored.astype(np.float64)
            if counts is None:
                counts = np.zeros(saliency_map.shape, np.int64)
            elif counts.shape != saliency_map.shape:
                raise InputError(f"{path}: the map is {saliency_map.shape[1]}x{saliency_map.shape[0]}, its fixations "
                                 f"{counts.shape[1]}x{counts.shape[0]}; fetch both again")
            if not saliency_map.any() and counts.any():
                raise InputError(f"{path}: the map is all zero, though somebody fixates frame {index}; fetch it again")
        if not saliency_map.any():
            return None
        return FrameTruth(saliency_map, counts, self._negatives(index, saliency_map.shape))

    def halves(self, index: int, order: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Points of one half of the observers and of the other: by ``order``, or of even and of odd observers."""
        points = self._points(index)
        if order is not None:
            return points[order[: len(points) // 2]], points[order[len(points) // 2 :]]
        observers = self.clip.observers(index)
        assert observers is not None
        even = observers % 2 == 0
        return points[even], points[~even]

    def _points(self, index: int) -> np.ndarray:
        points = self.clip.points(index)
        return np.zeros((0, 2), np.int64) if points is None else points

    def _counts(self, index: int) -> np.ndarray | None:
        """How often each pixel was fixated; once at most, where the protocol does not count."""
        if self.protocol.drawn:
            return count_fixations(self._points(index), self.clip.height, self.clip.width)
        fixated = self.clip.fixations(index)
        if fixated is None or not self.protocol.counted:
            return None if fixated is None else fixated.astype(np.int64)
        return count_fixations(self._points(index), *fixated.shape)

    def _negatives(self, index: int, size: tuple[int, int]) -> np.ndarray | None:
        kind = self.protocol.negatives
        if kind is None:
            return None
        if kind in ("clip", "clip_elsewhere") and not self.clip.is_picture:
            return self._fixated_on_others(index, elsewhere=kind == "clip_elsewhere")
        if not self._pool:
            return None
        rng = np.random.default_rng(seed_of(self.clip.split, self.clip.name, "negatives", index))
        fixated = np.zeros(size, bool)
        for number in rng.permutation(len(self._pool))[:NUM_OTHER_FRAMES]:
            (h, w), rows, columns = self._pool[number]
            fixated[rows * size[0] // h, columns * size[1] // w] = True
        return fixated

    @cached_property
    def _pool(self) -> list[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
        """Random frames of the set, or of its other clips: size, rows and columns of what is fixated there.

        A video's frames draw theirs from a hundred, so that files are read once; a picture draws its own ten.
        """
        clips = [c for c in self.all_clips if c.truth is not None and c.split == self.clip.split and (
            self.protocol.negatives == "set" or c.name != self.clip.name)]
        rng = np.random.default_rng(seed_of(self.clip.split, self.clip.name, "pool"))
        pool, wanted = [], NUM_OTHER_FRAMES if self.clip.is_picture else POOL
        for number in rng.integers(len(clips), size=wanted) if clips else ():
            clip = clips[number]
            try:
                fixated = clip.fixations(0 if is_single_file(clip) else int(rng.choice(clip.annotated)))
            except (InputError, ValueError):  # nothing to draw there; it is told where that clip is scored
                continue
            if fixated is not None:
                pool.append((fixated.shape, *fixated.nonzero()))
        return pool

    @cached_property
    def _frames_fixating(self) -> np.ndarray:
        """How many of the clip's frames fixate each pixel."""
        every = 1 if self.clip.is_picture else self.protocol.every
        total: np.ndarray | None = None
        for i in self.clip.annotated:
            if i % every == 0:
                fixated = self._fixated(self.clip, i)
                if fixated is not None and (total is None or total.shape == fixated.shape):
                    total = fixated.astype(np.int64) if total is None else total + fixated
        return np.zeros((1, 1), np.int64) if total is None else total

    def _fixated_on_others(self, index: int, elsewhere: bool) -> np.ndarray | None:
        """Pixels fixated on the clip's other frames; ``elsewhere``: none of those that are fixated on this one."""
        own = self._fixated(self.clip, index)
        if own is None or own.shape != self._frames_fixating.shape:
            return None
        return (self._frames_fixating > 0) & ~own if elsewhere else (self._frames_fixating - own) > 0

    @staticmethod
    def _fixated(clip: Clip, index: int) -> np.ndarray | None:
        try:
            return clip.fixations(index)
        except InputError:  # it is told where the frame itself is scored
            return None


def halves_of_pack(clips: Sequence[Clip], protocol: Protocol) -> dict[tuple[str, str], dict[int, np.ndarray]]:
    """The orders in which the gaze pack's script shuffles the fixations of each frame before it halves them.

    It draws them one after another through a set's videos, from one generator; a picture's halves go by observer.
    """
    orders: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    generators: dict[str, np.random.Generator] = {}
    for clip in clips if protocol.drawn else ():
        if not isinstance(clip.truth, GazeTruth) or is_single_file(clip):
            continue
        rng = generators.setdefault(clip.split, np.random.default_rng(0))
        try:
            timed = as_the_pack_counts(clip)
            own = orders.setdefault((clip.split, clip.name), {})
            for index in range(0, clip.num_frames, protocol.every):
                points = timed.points(index)
                count = 0 if points is None else len(points)
                if count >= protocol.least_fixations:
                    own[index] = rng.permutation(count)
        except InputError:  # it is told where the clip is scored
            continue
    return orders
