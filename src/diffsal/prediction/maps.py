"""What comes out of prediction: a frame's finished maps, and the prediction made of them at the picture's size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy import ndarray

from diffsal.media.source import Frame
from diffsal.prediction.finish import Smoothing
from diffsal.prediction.speakers import SpeakingFace
from diffsal.shapes import Float


@dataclass(frozen=True, eq=False)
class Prediction:
    """One frame: 0-based index, time in seconds, float32 saliency (height, width) in [0, 1], and the RGB picture.

    With several samples ``saliency`` is their mean, ``spread`` (height, width) their standard deviation and ``maps``
    (samples, h, w) each of them at the network's size; else both are None.
    ``faces`` are those that were found, where the sound tells who speaks (:mod:`diffsal.prediction.speakers`).
    """

    index: int
    seconds: float
    saliency: np.ndarray
    image: np.ndarray
    spread: np.ndarray | None = None
    faces: tuple[SpeakingFace, ...] = ()
    maps: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class FinishedMaps:
    """A frame and the maps drawn of it, float32 (samples, height, width) in [0, 1] at their own stride, then larger."""

    frame: Frame
    maps: ndarray
    faces: tuple[SpeakingFace, ...] = ()

    def prediction(self) -> Prediction:
        """Their mean and spread, at the size of the picture."""
        frame, maps = self.frame, self.maps
        spread = enlarge(maps.std(0, ddof=1), frame.size) if len(maps) > 1 else None
        saliency = enlarge(maps.mean(0), frame.size)
        several = maps if len(maps) > 1 else None
        return Prediction(frame.index, frame.seconds, saliency, frame.packed().image, spread, self.faces, several)


class Predictions(Iterator[Prediction]):
    """Predictions one by one. ``maps`` are the same before they and their pictures take their full size."""

    def __init__(self, maps: Iterator[FinishedMaps]) -> None:
        self.maps = maps

    def __next__(self) -> Prediction:
        return next(self.maps).prediction()

    def close(self) -> None:
        """Stop; nothing more comes."""
        if hasattr(self.maps, "close"):
            self.maps.close()


def enlarge(values: Float[ndarray, "h w"], size: tuple[int, int]) -> Float[ndarray, "h2 w2"]:
    """Bilinearly, to ``size`` (height, width)."""
    return values if values.shape == size else cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)


def smooth(finished: Iterable[FinishedMaps], smoothing: Smoothing) -> Iterator[FinishedMaps]:
    """Each map as the mean of those up to ``before`` frames before it and ``after`` after it.

    A map weighs exp(−distance / ``past``) before it and exp(−distance / ``future``) after it.
    """
    before, after, past, future = smoothing
    kept: deque[tuple[int, ndarray]] = deque()  # without their pictures
    waiting: deque[FinishedMaps] = deque()

    def mean() -> FinishedMaps:
        centre = waiting.popleft()
        here = centre.frame.index
        while kept[0][0] < here - before:
            kept.popleft()
        near = [(index - here, maps) for index, maps in kept if index <= here + after]
        distances = np.array([distance for distance, _ in near])
        scales = np.where(distances < 0, -(past or 1), future or 1)
        weights = np.exp(-distances / scales).astype(np.float32)
        maps = np.einsum("k,k...->...", weights / weights.sum(), np.stack([maps for _, maps in near]))
        return replace(centre, maps=maps)

    for here in finished:
        kept.append((here.frame.index, here.maps))
        waiting.append(here)
        while waiting and waiting[0].frame.index + after <= here.frame.index:
            yield mean()
    while waiting:
        yield mean()


def interpolate(finished: Iterable[FinishedMaps], asked: deque[Frame]) -> Iterator[FinishedMaps]:
    """The maps of the frames ``asked`` for, from those drawn: their own, or their neighbours' weighted mean.

    ``asked`` fills, in order, while ``finished`` is read.
    """
    before = None
    for here in finished:
        while asked and asked[0].index <= here.frame.index:
            frame, maps = asked.popleft(), here.maps
            if before is not None and frame.index < here.frame.index:
                weight = (frame.index - before.frame.index) / (here.frame.index - before.frame.index)
                maps = cv2.addWeighted(before.maps, 1 - weight, maps, weight, 0)
            yield FinishedMaps(frame, maps, here.faces)
        before = here
    while asked:
        assert before is not None, "frames are asked for of which no neighbour was predicted"
        yield FinishedMaps(asked.popleft(), before.maps, before.faces)
