"""Algorithm 2: deterministic DDIM over any network that predicts x_0, for NumPy arrays and torch tensors."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from diffsal.config import Spacing
from diffsal.diffusion.schedule import Array, NoiseSchedule, timestep_grid, timesteps
from diffsal.shapes import Float

Denoise = Callable[[Array, Array], Array]  # (b, 1, h, w), (b,) → (b, 1, h2, w2)


def ddim_step(
    schedule: NoiseSchedule, x_t: Float[Array, "*s"], x_0: Float[Array, "*s"], t_now: int, t_next: int
) -> Float[Array, "*s"]:
    """DDIM(S_t, S_pred, t_now, t_next) of Algorithm 2 with η = 0 (Song et al. 2021, equation 12)."""
    alpha_now, alpha_next = schedule.signal_level(t_now), schedule.signal_level(t_next)
    noise = (x_t - alpha_now**0.5 * x_0) / (1 - alpha_now) ** 0.5
    return alpha_next**0.5 * x_0 + (1 - alpha_next) ** 0.5 * noise


def ddim(
    denoise: Denoise,
    noise: Float[Array, "b 1 h w"],
    schedule: NoiseSchedule,
    steps: int = 1,
    spacing: Spacing = "linspace",
    enlarge: Callable[[Array], Array] | None = None,
) -> Float[Array, "b 1 h2 w2"]:
    """Algorithm 2: ``denoise(x_t, t)`` predicts x_0; the result is the last prediction, as ``denoise`` gave it.

    ``enlarge`` brings a prediction to the size of ``noise``, where ``denoise`` gives a smaller one.
    """
    times = timestep_grid(steps, spacing, schedule.num_timesteps)[:-1]
    x_t = noise
    for t_now, t_next in pairwise(times):
        x_0 = denoise(x_t, timesteps(t_now, x_t))
        x_t = ddim_step(schedule, x_t, x_0 if enlarge is None else enlarge(x_0), t_now, t_next)
    return denoise(x_t, timesteps(times[-1], x_t))
