"""Algorithm 1's schedule and Algorithm 2's sampler, against the goldens and diffusers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from diffsal.diffusion.samplers import ddim, ddim_step
from diffsal.diffusion.schedule import NoiseSchedule, timestep_grid


def test_cosine_schedule_equals_golden(golden):
    ours = NoiseSchedule.cosine().alphas_cumprod.numpy()
    np.testing.assert_allclose(ours, golden("cosine_schedule")["alphas_cumprod"], rtol=2e-5, atol=1e-9)


def test_add_noise_is_one_timestep_per_sample():
    schedule, x_0, noise = NoiseSchedule.cosine(), torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 3.0)
    x_t = schedule.add_noise(x_0, noise, torch.tensor([0, 999]))
    alpha = schedule.alphas_cumprod
    for i, t in enumerate((0, 999)):
        assert x_t[i].mean().item() == pytest.approx((alpha[t].sqrt() + 3 * (1 - alpha[t]).sqrt()).item(), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 4, 7, 50, 1000])
def test_algorithm_2_grid_starts_at_the_last_timestep_and_ends_without_noise(steps):
    grid = timestep_grid(steps, "linspace")
    assert len(grid) == steps + 1 and grid[0] == 999 and grid[-1] == -1
    assert all(a > b for a, b in pairwise(grid))


def test_grids_of_four_steps():
    assert timestep_grid(4, "linspace") == [999, 749, 499, 249, -1]
    assert timestep_grid(4, "leading") == [*reversed(range(0, 1000, 250)), -1]
    assert timestep_grid(4, "trailing") == [999, 749, 499, 249, -1]
    assert timestep_grid(1, "leading") == [0, -1]


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}"):
        timestep_grid(steps)


def independent_sampler(spacing: str, steps: int) -> DDIMScheduler:
    scheduler = DDIMScheduler(
        trained_betas=(1 - ratio()).tolist(), prediction_type="sample", clip_sample=False, timestep_spacing=spacing,
        set_alpha_to_one=True, steps_offset=0,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def ratio() -> np.ndarray:
    alpha = NoiseSchedule.cosine().alphas_cumprod.numpy()
    return np.concatenate([alpha[:1], alpha[1:] / alpha[:-1]])


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
def test_ddim_equals_an_independent_sampler(spacing, steps):
    schedule, generator = NoiseSchedule.cosine(), torch.Generator().manual_seed(steps)
    noise = torch.randn(2, 1, 4, 6, generator=generator, dtype=torch.float64)
    weight = torch.rand(4, 6, generator=generator, dtype=torch.float64)

    def denoise(x_t, t):
        return torch.sigmoid(x_t * weight + t.view(-1, 1, 1, 1) / 1000)

    # For these steps Algorithm 2's grid is the independent sampler's "trailing" one.
    scheduler = independent_sampler("trailing" if spacing == "linspace" else spacing, steps)
    x_t = noise
    for t in scheduler.timesteps:
        x_0 = denoise(x_t, t.expand(2))
        x_t = scheduler.step(x_0, t, x_t).prev_sample
    ours = ddim(denoise, noise, schedule, steps, spacing)
    assert (ours - x_t).abs().max() < 1e-5


def test_a_step_to_no_noise_is_the_prediction():
    x_0 = torch.rand(1, 1, 3, 3)
    assert torch.equal(ddim_step(NoiseSchedule.cosine(), torch.randn(1, 1, 3, 3), x_0, 10, -1), x_0)
