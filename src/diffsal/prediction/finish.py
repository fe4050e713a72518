"""What is done to a network's map once, after the last step: centre, exponent, what moves and what sounds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffsal.config import Finish

NOISE_CHANGE = 0.01  # of brightness from frame to frame, in the input's units: what noise alone makes
STILL_BELOW = 0.9  # mean energy of a picture's motion from which on everything moves, and nothing by itself


def energy(change: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Of brightness that changes: the logarithm of the change, smoothed, over what noise makes; 0 where none is."""
    for _ in range(2):
        change = F.avg_pool2d(change, 5, stride=1, padding=2, count_include_pad=False)
    return torch.log1p(change / NOISE_CHANGE)


def moving_alone(brightness: Float[Tensor, "b f h w"]) -> Float[Tensor, "b 1 h w"]:
    """What moves in a picture that is otherwise still: the motion's energy, times what the picture's mean leaves of 1.

    Energy is that of the window's mean change from frame to frame. Where the camera moves or much goes on, its mean is
    high and motion says little.
    """
    moving = energy((brightness[:, 1:] - brightness[:, :-1]).abs().mean(dim=1, keepdim=True))
    return moving * (1 - moving.mean(dim=(2, 3), keepdim=True) / STILL_BELOW).clamp(min=0)


def finished(
    raw: Float[Tensor, "b 1 h w"], finish: Finish, moving: Float[Tensor, "b 1 h2 w2"] | None = None,
    synchrony: Float[Tensor, "b 1 h3 w3"] | None = None,
) -> Float[Tensor, "b 1 h w"]:
    """``raw`` maps at their own stride with ``finish`` applied (:class:`diffsal.config.Finish`).

    ``moving``: :func:`moving_alone` of the window. ``synchrony``: what moves as the sound gets loud; None: no sound.
    """
    y = raw
    if finish.centre is not None and finish.centre_gain:
        centre = F.interpolate(y.new_tensor(finish.centre)[None, None], size=y.shape[-2:], mode="bilinear")
        odds = y * (finish.centre_gain * centre).exp()
        y = odds / (1 - y + odds)
    if finish.exponent != 1:
        y = y**finish.exponent
    drawn = None
    if moving is not None and finish.motion_gain:
        drawn = finish.motion_gain * moving
    if synchrony is not None and finish.sound_gain:
        size = synchrony.shape[2:] if drawn is None else drawn.shape[2:]
        sound = finish.sound_gain * F.interpolate(synchrony, size, mode="bilinear")
        drawn = sound if drawn is None else drawn + sound
    if drawn is None:
        return y
    gain = (drawn - drawn.amax(dim=(2, 3), keepdim=True)).exp()
    peak, y = y.amax(dim=(2, 3), keepdim=True), y * F.interpolate(gain, size=y.shape[-2:], mode="bilinear")
    return y * (peak / y.amax(dim=(2, 3), keepdim=True).clamp(min=1e-9))
