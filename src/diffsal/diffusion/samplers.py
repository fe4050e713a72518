"""Algorithm 2: deterministic DDIM over any network that predicts x_0."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffsal.config import Spacing
from diffsal.diffusion.schedule import NoiseSchedule, timestep_grid

Denoise = Callable[[Float[Tensor, "b 1 h w"], Int[Tensor, " b"]], Float[Tensor, "b 1 h w"]]


def ddim_step(
    schedule: NoiseSchedule, x_t: Float[Tensor, "*s"], x_0: Float[Tensor, "*s"], t_now: int, t_next: int
) -> Float[Tensor, "*s"]:
    """DDIM(S_t, S_pred, t_now, t_next) of Algorithm 2 with η = 0 (Song et al. 2021, equation 12)."""
    alpha_now, alpha_next = schedule.signal_level(t_now), schedule.signal_level(t_next)
    noise = (x_t - alpha_now**0.5 * x_0) / (1 - alpha_now) ** 0.5
    return alpha_next**0.5 * x_0 + (1 - alpha_next) ** 0.5 * noise


def ddim(
    denoise: Denoise,
    noise: Float[Tensor, "b 1 h w"],
    schedule: NoiseSchedule,
    steps: int = 1,
    spacing: Spacing = "linspace",
) -> Float[Tensor, "b 1 h w"]:
    """Algorithm 2: ``denoise(x_t, t)`` predicts x_0; the result is the last prediction, after ``steps`` calls."""
    times = timestep_grid(steps, spacing, schedule.num_timesteps)
    x_t = x_0 = noise
    for t_now, t_next in pairwise(times):
        t = torch.full((len(noise),), t_now, dtype=torch.long, device=noise.device)
        x_0 = denoise(x_t, t)
        x_t = ddim_step(schedule, x_t, x_0, t_now, t_next)
    return x_0
