"""The forward process of Algorithm 1 and the timestep grids of Algorithm 2: mathematics without a network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffsal.config import Spacing

NUM_TIMESTEPS = 1000  # T
COSINE_OFFSET = 0.008  # s of Nichol & Dhariwal (2021), equation 17
MAX_BETA = 0.999


@dataclass(frozen=True)
class NoiseSchedule:
    r"""Cumulative signal levels :math:`\bar\alpha_t`, t = 0 … T − 1, as float64 of shape (T,)."""

    alphas_cumprod: Float[Tensor, " T"]

    @classmethod
    def cosine(cls, num_timesteps: int = NUM_TIMESTEPS) -> NoiseSchedule:
        """The cosine schedule with the released code's grid, ``linspace(0, T + 1, T + 1)`` over T + 1."""
        u = torch.linspace(0, num_timesteps + 1, num_timesteps + 1, dtype=torch.float64) / (num_timesteps + 1)
        f = torch.cos(math.pi / 2 * (u + COSINE_OFFSET) / (1 + COSINE_OFFSET)) ** 2
        betas = (1 - f[1:] / f[:-1]).clamp(max=MAX_BETA)
        return cls(torch.cumprod(1 - betas, dim=0))

    @property
    def num_timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def signal_level(self, t: int) -> float:
        r""":math:`\bar\alpha_t`; one at t = −1, where no noise is left."""
        if not -1 <= t < self.num_timesteps:
            raise ValueError(f"t is {t}, expected -1 to {self.num_timesteps - 1}")
        return 1.0 if t == -1 else self.alphas_cumprod[t].item()

    def add_noise(
        self, x_0: Float[Tensor, " b *shape"], noise: Float[Tensor, " b *shape"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, " b *shape"]:
        """S_t = √ᾱ_t S_0 + √(1 − ᾱ_t) ε, Algorithm 1, one timestep per sample."""
        alpha = self.alphas_cumprod.to(x_0.device)[t].view(-1, *[1] * (x_0.dim() - 1))
        return alpha.sqrt().to(x_0) * x_0 + (1 - alpha).sqrt().to(x_0) * noise

    def remove_noise(
        self, x_t: Float[Tensor, " b *shape"], noise: Float[Tensor, " b *shape"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, " b *shape"]:
        """The S_0 that :meth:`add_noise` would have made S_t of, kept in [0, 1]."""
        alpha = self.alphas_cumprod.to(x_t.device)[t].view(-1, *[1] * (x_t.dim() - 1))
        return ((x_t - (1 - alpha).sqrt().to(x_t) * noise) / alpha.sqrt().to(x_t)).clamp(0, 1)


def timestep_grid(steps: int, spacing: Spacing = "linspace", num_timesteps: int = NUM_TIMESTEPS) -> list[int]:
    """Timesteps of ``steps`` network calls, falling, with −1 (no noise) appended: steps + 1 integers.

    ``linspace`` is Algorithm 2's: ``linspace(-1, T - 1, steps + 1)`` rounded, so the first call is at T − 1.
    ``leading`` is the released code's, ``range(0, T, T // steps)`` reversed, so the last call is at 0;
    ``trailing`` counts down from T − 1 in steps of T / steps (Lin et al. 2024, Table 2).
    """
    if not 1 <= steps <= num_timesteps:
        raise ValueError(f"steps is {steps}, expected 1 to {num_timesteps}")
    if spacing == "linspace":
        grid = torch.linspace(-1, num_timesteps - 1, steps + 1, dtype=torch.float64).round().long().flip(0).tolist()
        return grid
    if spacing == "leading":
        ratio = num_timesteps // steps
        return [i * ratio for i in reversed(range(steps))] + [-1]
    if spacing == "trailing":
        return [round(num_timesteps - i * num_timesteps / steps) - 1 for i in range(steps)] + [-1]
    raise ValueError(f"spacing is {spacing!r}, expected 'linspace', 'leading' or 'trailing'")
