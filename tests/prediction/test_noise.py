"""The noise is each frame's own, normal, and the very numbers of torch's generator."""

import numpy as np
import pytest
import torch

from diffsal.prediction.noise import frame_noise


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (0, 1), (3, 7), (12_345, 40_000), (2**40, 999)])
@pytest.mark.parametrize("size", [(224, 384), (32, 32), (4, 4)])
def test_the_numbers_are_those_of_torchs_generator(seed, index, size):
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
    noise = frame_noise(*size, seed, index)
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise, torch.randn(1, *size, generator=generator).numpy(), rtol=0, atol=1e-6)


def test_it_is_each_frames_own():
    assert np.array_equal(frame_noise(4, 8, 3, 7), frame_noise(4, 8, 3, 7))
    assert not np.array_equal(frame_noise(4, 8, 3, 7), frame_noise(4, 8, 3, 8))
    assert not np.array_equal(frame_noise(4, 8, 3, 7), frame_noise(4, 8, 4, 7))
    values = np.stack([frame_noise(32, 32, 0, i) for i in range(64)])
    assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.02


def test_a_size_that_it_cannot_draw():
    with pytest.raises(ValueError, match="the noise is 3x5, expected a multiple of 16 values"):
        frame_noise(3, 5, 0, 0)
