"""S_T, the noise from which Algorithm 2 starts: each frame's own, the same for every engine."""

from __future__ import annotations

import numpy as np

BLOCK = 16  # values that are drawn together: eight radii and eight angles
SEED_STRIDE = 1_000_003  # between two seeds: a prime, beyond any clip's number of frames


def frame_noise(height: int, width: int, seed: int, index: int) -> np.ndarray:
    """float32 (1, height, width) from N(0, 1), drawn for frame ``index`` (0-based) with ``seed``.

    The numbers are those of ``torch.randn(1, height, width, generator=torch.Generator().manual_seed(s))`` on a CPU,
    where s = seed · 1,000,003 + index, to 1e-6: Mersenne Twister's outputs, 24 bits of each as a number in [0, 1), and
    the Box-Muller transform over blocks of 16. Raises ``ValueError`` where height · width is not a multiple of 16.
    """
    if height * width % BLOCK:
        raise ValueError(f"the noise is {height}x{width}, expected a multiple of {BLOCK} values")
    generator = np.random.RandomState((seed * SEED_STRIDE + index) % 2**32)  # torch, too, seeds it with 32 bits
    outputs = np.frombuffer(generator.bytes(4 * height * width), "<u4").reshape(-1, 2, BLOCK // 2) & 0xFFFFFF
    # Apart: on what lies together NumPy is faster
    u, v = (np.ascontiguousarray(outputs[:, i], np.float32) * np.float32(2**-24) for i in range(2))
    radius = np.sqrt(-2 * np.log(1 - u))  # 1 − u lies in (0, 1]
    angle = np.float32(2 * np.pi) * v
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(1, height, width)
