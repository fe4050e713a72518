"""Algorithm 1's schedule and Algorithm 2's sampler, against the goldens and diffusers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from diffsal.diffusion.samplers import ddim, ddim_step
from diffsal.diffusion.schedule import NoiseSchedule, timestep_grid, timesteps


def test_cosine_schedule_equals_golden(golden):
    ours = NoiseSchedule.cosine().alphas_cumprod
    np.testing.assert_allclose(ours, golden("cosine_schedule")["alphas_cumprod"], rtol=2e-5, atol=1e-9)


def test_add_noise_is_one_timestep_per_sample():
    schedule, x_0, noise = NoiseSchedule.cosine(), torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 3.0)
    x_t = schedule.add_noise(x_0, noise, torch.tensor([0, 999]))
    alpha = torch.from_numpy(schedule.alphas_cumprod)
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


@pytest.mark.parametrize(("steps", "calls"), [(3, [999, 666, 333, 0]), (6, [*range(996, -1, -166)]), (7, 8)])
def test_leading_makes_a_call_more_where_the_steps_do_not_divide_t_as_the_released_code_does(steps, calls):
    *times, last = timestep_grid(steps, "leading")
    assert last == -1 and times == [*range(0, 1000, 1000 // steps)][::-1]
    assert (len(times) if isinstance(calls, int) else times) == calls and len(times) == steps + 1


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
    alpha = NoiseSchedule.cosine().alphas_cumprod
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


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_arrays_and_tensors_are_sampled_alike(spacing):
    rng = np.random.default_rng(0)
    noise, weight = rng.normal(size=(2, 1, 4, 6)).astype(np.float32), rng.random((4, 6)).astype(np.float32)
    for schedule in (NoiseSchedule.cosine(), NoiseSchedule.linear()):
        def denoise(x_t, t):
            assert len(t) == 2 and "int64" in str(t.dtype)
            x = x_t * (torch.from_numpy(weight) if isinstance(x_t, torch.Tensor) else weight)
            return 1 / (1 + (-x - t.reshape(-1, 1, 1, 1) / 1000) * 0.1)

        ours = ddim(denoise, noise, schedule, 3, spacing)
        assert isinstance(ours, np.ndarray)
        np.testing.assert_allclose(ours, ddim(denoise, torch.from_numpy(noise), schedule, 3, spacing), atol=1e-6)
        x_t = schedule.add_noise(weight[None].repeat(2, 0), noise[:, 0], np.array([3, 900]))
        assert x_t.dtype == np.float32
        theirs = schedule.add_noise(*(torch.from_numpy(x) for x in (
            weight[None].repeat(2, 0), noise[:, 0], np.array([3, 900]))))
        np.testing.assert_allclose(x_t, theirs, rtol=1e-6)
        back = schedule.remove_noise(x_t, noise[:, 0], np.array([3, 900]))
        np.testing.assert_allclose(back[0], weight, atol=1e-5)


def test_small_predictions_are_enlarged_before_they_are_fed_back():
    noise = np.random.default_rng(0).normal(size=(1, 1, 4, 4)).astype(np.float32)
    seen = []

    def denoise(x_t, t):
        seen.append(x_t.shape)
        return x_t[..., ::2, ::2]

    found = ddim(denoise, noise, NoiseSchedule.cosine(), 3, enlarge=lambda x: x.repeat(2, -1).repeat(2, -2))
    assert seen == [(1, 1, 4, 4)] * 3 and found.shape == (1, 1, 2, 2)


def test_one_step_is_the_default_and_begins_at_the_last_timestep():
    seen = []
    ddim(lambda x_t, t: seen.append(int(t[0])) or x_t, np.zeros((1, 1, 4, 4), np.float32), NoiseSchedule.cosine())
    assert seen == [999]


def test_signal_levels_are_those_of_the_timesteps_and_of_no_noise():
    schedule = NoiseSchedule.linear(10)
    assert schedule.signal_level(-1) == 1 and schedule.signal_level(9) == schedule.alphas_cumprod[9]
    for t in (-2, 10):
        with pytest.raises(ValueError, match=f"t is {t}, expected -1 to 9"):
            schedule.signal_level(t)


def test_a_map_from_which_noise_is_taken_lies_between_0_and_1():
    x_t = np.array([[-3.0, 0.0, 3.0]], np.float32)
    back = NoiseSchedule.cosine().remove_noise(x_t, np.zeros_like(x_t), np.array([100]))
    np.testing.assert_array_equal(back, [[0, 0, 1]])


def test_the_linear_schedule_is_ho_et_als():
    alpha = NoiseSchedule.linear().alphas_cumprod
    theirs = DDIMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02).alphas_cumprod
    np.testing.assert_allclose(alpha, theirs, rtol=1e-4)
    assert alpha[0] == pytest.approx(1 - 1e-4) and alpha[-1] == pytest.approx(4.04e-5, rel=0.01)
    assert NoiseSchedule.named("linear").alphas_cumprod[5] == alpha[5]


def test_timesteps_survive_half_precision():
    for dtype in (torch.float16, torch.bfloat16):
        assert timesteps(999, torch.zeros(2, 1, 1, 1, dtype=dtype)).tolist() == [999, 999]


def test_a_step_to_no_noise_is_the_prediction():
    x_0 = torch.rand(1, 1, 3, 3)
    assert torch.equal(ddim_step(NoiseSchedule.cosine(), torch.randn(1, 1, 3, 3), x_0, 10, -1), x_0)
