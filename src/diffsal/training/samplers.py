"""Which example comes next: every window of every clip once an epoch, or frames balanced over sets.

A sampler gives the view of an example from its number and a generator that is seeded by it, so a run that goes on
draws what it would have drawn, and several processes share a batch by its examples' numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from diffsal.data.clip import Clip
from diffsal.errors import InputError

MOST_DRAWS = 10_000  # of one example, of which nothing can be learned


@dataclass(frozen=True)
class View:
    """One frame of one clip (by its position in the list of clips), and how it is seen.

    ``still``: alone, as if it were repeated through its window. ``crop`` is (left, top, size) as fractions of the
    picture; ``light`` is (contrast, brightness in pixel values).
    """

    clip: int
    index: int
    still: bool = False
    mirrored: bool = False
    crop: tuple[float, float, float] = (0.0, 0.0, 1.0)
    light: tuple[float, float] = (1.0, 0.0)


class Sampler(Protocol):
    """``epoch_examples`` numbers make an epoch."""

    epoch_examples: int

    def choose(self, number: int, attempt: int, rng: np.random.Generator) -> View:
        """The view of example ``number``; ``attempt`` counts up from 0 where one could not be read."""
        ...


class EveryWindow:
    """The annotated frames of each of ``chosen`` clips cut into runs of ``stride``: an epoch holds one window of each.

    With ``jitter`` the window's frame is drawn from its run, else it is the run's middle; ``mirror`` turns half of
    them.
    """

    def __init__(
        self, clips: list[Clip], chosen: list[int], stride: int, jitter: bool, mirror: bool, seed: int
    ) -> None:
        self.places, self.problems = places(clips, chosen, stride)
        if not self.places:
            first = f" ({self.problems[0]})" if self.problems else ""
            raise InputError(f"{len(chosen)} clips hold no window with ground truth{first}: see `diffsal validate`")
        self.jitter, self.mirror, self.seed = jitter, mirror, seed
        self.epoch_examples = len(self.places)
        self.order = lru_cache(maxsize=2)(self._order)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "order": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, order=lru_cache(maxsize=2)(self._order))

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.places))

    def choose(self, number: int, attempt: int, rng: np.random.Generator) -> View:
        epoch, position = divmod(number, len(self.places))
        place = int(self.order(epoch)[position]) if attempt == 0 else int(rng.integers(len(self.places)))
        clip, frames = self.places[place]
        index = frames[int(rng.integers(len(frames)))] if self.jitter else frames[len(frames) // 2]
        return View(clip, index, mirrored=self.mirror and bool(rng.random() < 0.5))


class Balanced:
    """Frames of ``chosen`` clips at random: ``picture_share`` of pictures, the others of videos.

    Stills come from all videos alike, cropped (``crop_share`` of them) and lit otherwise. Of windows, a set is as
    likely as the square root of the number of its clips, and its clips are equally likely. Half of all are mirrored.
    ``is_enough`` says whether something can be learned of a view; ``frame_step`` is the step between windows' frames.
    """

    def __init__(
        self, clips: list[Clip], chosen: list[int], num_frames: list[int], still: bool, picture_share: float,
        crop_share: float, frame_step: int, is_enough: Callable[[View], bool],
    ) -> None:
        self.num_frames, self.still, self.crop_share, self.frame_step = num_frames, still, crop_share, frame_step
        self.is_enough = is_enough
        self.pictures = [i for i in chosen if clips[i].is_picture]
        self.videos = [i for i in chosen if not clips[i].is_picture]
        self.picture_share = picture_share if self.videos and self.pictures else float(not self.videos)
        sizes = Counter(clips[i].split for i in self.videos)
        odds = np.array([1.0 if still else sizes[clips[i].split] ** -0.5 for i in self.videos])
        self.odds = odds / odds.sum() if len(odds) else odds
        self.epoch_examples = sum(num_frames[i] for i in chosen)

    def choose(self, number: int, attempt: int, rng: np.random.Generator) -> View:
        for _ in range(MOST_DRAWS):
            view = self._draw(rng)
            if self.is_enough(view):
                return view
        raise InputError("no frame of these sets has as many fixations as min_fixations asks for")

    def _draw(self, rng: np.random.Generator) -> View:
        if rng.random() < self.picture_share:
            clip = self.pictures[int(rng.integers(len(self.pictures)))]
        else:
            clip = self.videos[int(rng.choice(len(self.videos), p=self.odds))]
        index = int(rng.integers(self.num_frames[clip]))
        mirrored = bool(rng.random() < 0.5)
        if not self.still:
            return View(clip, index - index % self.frame_step, mirrored=mirrored)  # the others' features are not kept
        light = (float(rng.uniform(0.8, 1.2)), float(rng.uniform(-20, 20)))
        if rng.random() >= self.crop_share:
            return View(clip, index, True, mirrored, light=light)
        size = float(rng.uniform(0.7, 1.0))
        left, top = (float(v) for v in rng.uniform(0, 1 - size, 2))
        return View(clip, index, True, mirrored, (left, top, size), light)


def places(clips: list[Clip], chosen: list[int], stride: int) -> tuple[list[tuple[int, list[int]]], list[str]]:
    """Each clip's annotated frames cut into runs of ``stride``, as (clip, frames); and clips that cannot be opened."""
    found: list[tuple[int, list[int]]] = []
    problems: list[str] = []
    for number in chosen:
        try:
            annotated = clips[number].annotated
        except (InputError, OSError) as error:
            problems.append(str(error))
            continue
        found += [(number, annotated[i : i + stride]) for i in range(0, len(annotated), stride)]
    return found, problems
