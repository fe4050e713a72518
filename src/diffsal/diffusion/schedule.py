"""The forward process of Algorithm 1 and the timestep grids of Algorithm 2, for NumPy arrays and torch tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from diffsal.config import NoiseScheduleName, Spacing
from diffsal.shapes import Float, Int

NUM_TIMESTEPS = 1000  # T
COSINE_OFFSET = 0.008  # s of Nichol & Dhariwal (2021), equation 17
MAX_BETA = 0.999
LINEAR_BETAS = (1e-4, 0.02)  # first and last of a thousand (Ho et al. 2020, section 4)

Array = TypeVar("Array")  # numpy.ndarray or torch.Tensor: what comes in is what comes out


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    r"""Cumulative signal levels :math:`\bar\alpha_t`, t = 0 … T − 1, as float64 of shape (T,)."""

    alphas_cumprod: Float[np.ndarray, " T"]

    @classmethod
    def named(cls, name: NoiseScheduleName) -> NoiseSchedule:
        """``ModelConfig.noise_schedule``'s: :meth:`cosine` or :meth:`linear`."""
        return cls.linear() if name == "linear" else cls.cosine()

    @classmethod
    def cosine(cls, num_timesteps: int = NUM_TIMESTEPS) -> NoiseSchedule:
        """The cosine schedule with the released code's grid, ``linspace(0, T + 1, T + 1)`` over T + 1."""
        u = np.linspace(0, num_timesteps + 1, num_timesteps + 1) / (num_timesteps + 1)
        f = np.cos(math.pi / 2 * (u + COSINE_OFFSET) / (1 + COSINE_OFFSET)) ** 2
        betas = np.minimum(1 - f[1:] / f[:-1], MAX_BETA)
        return cls(np.cumprod(1 - betas))

    @classmethod
    def linear(cls, num_timesteps: int = NUM_TIMESTEPS) -> NoiseSchedule:
        """Betas that rise linearly (Ho et al. 2020), scaled to keep the last signal level for another T."""
        first, last = (beta * NUM_TIMESTEPS / num_timesteps for beta in LINEAR_BETAS)
        return cls(np.cumprod(1 - np.minimum(np.linspace(first, last, num_timesteps), MAX_BETA)))

    @property
    def num_timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def signal_level(self, t: int) -> float:
        r""":math:`\bar\alpha_t`; one at t = −1, where no noise is left."""
        if not -1 <= t < self.num_timesteps:
            raise ValueError(f"t is {t}, expected -1 to {self.num_timesteps - 1}")
        return 1.0 if t == -1 else float(self.alphas_cumprod[t])

    def add_noise(
        self, x_0: Float[Array, " b *shape"], noise: Float[Array, " b *shape"], t: Int[Array, " b"]
    ) -> Float[Array, " b *shape"]:
        """S_t = √ᾱ_t S_0 + √(1 − ᾱ_t) ε, Algorithm 1, one timestep per sample."""
        signal, spread = self._weights(x_0, t)
        return signal * x_0 + spread * noise

    def remove_noise(
        self, x_t: Float[Array, " b *shape"], noise: Float[Array, " b *shape"], t: Int[Array, " b"]
    ) -> Float[Array, " b *shape"]:
        """The S_0 that :meth:`add_noise` would have made S_t of, kept in [0, 1]."""
        signal, spread = self._weights(x_t, t)
        return ((x_t - spread * noise) / signal).clip(0, 1)

    def _weights(self, like: Any, t: Any) -> tuple[Any, Any]:
        """√ᾱ_t and √(1 − ᾱ_t), (b, 1, …), of the type of ``like``."""
        shape = (-1, *[1] * (like.ndim - 1))
        tables = np.sqrt(self.alphas_cumprod), np.sqrt(1 - self.alphas_cumprod)
        signal, spread = (_like(table, like)[t].reshape(shape) for table in tables)
        return signal, spread


def _like(values: np.ndarray, x: Any) -> Any:
    """``values`` as an array of the kind, type and device of ``x``."""
    return values.astype(x.dtype) if isinstance(x, np.ndarray) else x.new_tensor(values)


def timesteps(t: int, like: Float[Array, " b *shape"]) -> Int[Array, " b"]:
    """The same timestep for each sample of ``like``, as int64 of its kind."""
    x: Any = like
    if isinstance(x, np.ndarray):
        return np.full(len(x), t, np.int64)  # type: ignore[return-value]
    return x.new_zeros(len(x)).long() + t  # not new_full: bfloat16 would round t


def timestep_grid(steps: int, spacing: Spacing = "linspace", num_timesteps: int = NUM_TIMESTEPS) -> list[int]:
    """Timesteps of the network's calls, falling, with −1 (no noise) appended.

    ``linspace`` is Algorithm 2's: ``linspace(-1, T - 1, steps + 1)`` rounded, so the first call is at T − 1.
    ``trailing`` counts down from T − 1 in steps of T / steps (Lin et al. 2024, Table 2). Both make ``steps`` calls.
    ``leading`` is the released code's, ``range(0, T, T // steps)`` reversed, so the last call is at 0. Where ``steps``
    does not divide T it makes more calls than ``steps``: with T = 1000, 4 calls for 3, 7 for 6, 8 for 7.
    """
    if not 1 <= steps <= num_timesteps:
        raise ValueError(f"steps is {steps}, expected 1 to {num_timesteps}")
    if spacing == "linspace":
        return np.linspace(-1, num_timesteps - 1, steps + 1).round().astype(int)[::-1].tolist()
    if spacing == "leading":
        return [*reversed(range(0, num_timesteps, num_timesteps // steps)), -1]
    if spacing == "trailing":
        return [round(num_timesteps - i * num_timesteps / steps) - 1 for i in range(steps)] + [-1]
    raise ValueError(f"spacing is {spacing!r}, expected 'linspace', 'leading' or 'trailing'")
