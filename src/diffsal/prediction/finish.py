"""What is done to a map once, after the last step of Algorithm 2: centre, exponent, motion, sound and speaker.

Nothing here is part of the paper's network and nothing is learned: :class:`diffsal.config.Finish`, a small record of
the weights' metadata, says how much of each. NumPy and OpenCV only, at the map's own stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy import ndarray

from diffsal.config import Finish
from diffsal.shapes import Float

BRIGHTNESS_STRIDE = 4  # at which changes of the picture are looked at
NOISE_CHANGE = 0.01  # of brightness from frame to frame, in standard deviations: what the camera's noise alone makes
STILL_BELOW = 0.9  # mean energy of a picture's motion from which on everything moves, and nothing by itself
LEAST_PEAK = 1e-9
PAST_REACH, FUTURE_REACH = 2.5, 1.5  # times past_seconds and future_seconds: maps farther away do not count


def finish_map(
    raw: Float[ndarray, "h w"],
    finish: Finish,
    motion: Float[ndarray, "h2 w2"] | None = None,
    sound: Float[ndarray, "h3 w3"] | None = None,
    speaker: Float[ndarray, "h4 w4"] | None = None,
) -> Float[ndarray, "h w"]:
    """The map that people see, of the network's: float32 in [0, 1].

    ``motion`` (:func:`moving_alone`), ``sound`` (:class:`diffsal.prediction.hearing.Synchrony`) and ``speaker`` (the
    face that speaks) are enlarged to the map and weighed by the gains of ``finish``; None leaves one out. The map's
    peak stays as high as it was.
    """
    size = raw.shape[::-1]
    saliency = raw
    if finish.centre_gain and finish.centre is not None:
        centre = cv2.resize(np.array(finish.centre, np.float32), size, interpolation=cv2.INTER_LINEAR)
        odds = saliency * np.exp(finish.centre_gain * centre)  # times 1 − saliency
        saliency = odds / (1 - saliency + odds)
    if finish.exponent != 1:
        saliency = saliency ** np.float32(finish.exponent)
    gain = prior_gain(finish, size, motion, sound, speaker)
    if gain is not None:
        peak, saliency = saliency.max(), saliency * gain
        saliency = saliency * (peak / max(saliency.max(), np.float32(LEAST_PEAK)))
    return saliency.astype(np.float32)


class Smoothing(NamedTuple):
    """A mean over time, all in frames: how far the maps before and after one count, and their time constants."""

    before: int
    after: int
    past: float
    future: float


def smoothing_of(finish: Finish, frame_rate: float, every: int = 1) -> Smoothing:
    """The mean over time of ``finish`` where every ``every``-th frame has a map."""
    past, future = finish.past_seconds * frame_rate, finish.future_seconds * frame_rate
    before, after = (int(reach / every) * every for reach in (PAST_REACH * past, FUTURE_REACH * future))
    return Smoothing(before, after, past, future)


def prior_gain(
    finish: Finish,
    size: tuple[int, int],
    motion: Float[ndarray, "h2 w2"] | None,
    sound: Float[ndarray, "h3 w3"] | None,
    speaker: Float[ndarray, "h4 w4"] | None,
) -> Float[ndarray, "h w"] | None:
    """By what a map of ``size`` (width, height) is multiplied, in (0, 1], 1 where the priors are highest; None: by 1.

    exp(Σ gain · prior), over its largest value.
    """
    drawn = None
    for weight, prior in ((finish.motion_gain, motion), (finish.sound_gain, sound), (finish.speaker_gain, speaker)):
        if weight and prior is not None:
            one = weight * cv2.resize(prior, size, interpolation=cv2.INTER_LINEAR)
            drawn = one if drawn is None else drawn + one
    return None if drawn is None else np.exp(drawn - drawn.max())


def brightness(image: ndarray, mean: Sequence[float], std: Sequence[float]) -> Float[ndarray, "h w"]:
    """What changes are read from: the mean of the normalised channels of uint8 RGB (4h, 4w, 3), at stride 4."""
    size = (image.shape[1] // BRIGHTNESS_STRIDE, image.shape[0] // BRIGHTNESS_STRIDE)
    means = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)  # exact: sums of 16 integers
    factors, offset = 1 / (255 * len(std) * np.array(std)), (np.array(mean) / np.array(std)).mean()
    return cv2.transform(means, np.append(factors, -offset)[None])


def energy(change: Float[ndarray, "h w"]) -> Float[ndarray, "h w"]:
    """Of brightness that changes: the logarithm of the change, smoothed, over what noise makes; 0 where none is."""
    for _ in range(2):
        change = _box_mean(change)
    return np.log1p(change / np.float32(NOISE_CHANGE))


def _box_mean(values: Float[ndarray, "h w"], size: int = 5) -> Float[ndarray, "h w"]:
    """The mean of the ``size`` × ``size`` values around each, of those that lie in the picture."""
    total = cv2.boxFilter(values, cv2.CV_32F, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return total / _box_count(values.shape, size)


def _box_count(shape: tuple[int, ...], size: int) -> Float[ndarray, "h w"]:
    rows, columns = (
        np.minimum(np.arange(n) + size // 2, n - 1) - np.maximum(np.arange(n) - size // 2, 0) + 1 for n in shape
    )
    return np.outer(rows, columns).astype(np.float32)


def moving_alone(brightness: Float[ndarray, "f h w"]) -> Float[ndarray, "h w"]:
    """What moves in a picture that is otherwise still: the motion's energy, times what the picture's mean leaves of 1.

    Energy is that of the window's mean change from frame to frame. Where the camera moves or much goes on, its mean is
    high and motion says little.
    """
    moving = energy(np.abs(np.diff(brightness, axis=0)).mean(axis=0, dtype=np.float32))
    return moving * max(np.float32(0), 1 - moving.mean(dtype=np.float32) / np.float32(STILL_BELOW))
