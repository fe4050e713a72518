"""Algorithm 1 by hand: what S_t is, how t is drawn, what is aimed at, and every loss."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diffsal.diffusion.schedule import NoiseSchedule
from diffsal.scoring.metrics import cc, kld, nss, sim
from diffsal.training.objective import (
    Noising,
    Objective,
    correlation,
    cross_entropy,
    kl_divergence,
    scanpath_saliency,
    similarity,
    squared_error,
)

COSINE = NoiseSchedule.cosine()


def maps(seed: int, b: int = 2) -> torch.Tensor:
    return torch.rand(b, 1, 6, 8, generator=torch.Generator().manual_seed(seed))


def drawn(noising: Noising, target: torch.Tensor, seed: int) -> tuple[torch.Tensor, int, torch.Tensor]:
    x_t, t, noise = noising.draw(target, np.random.default_rng(seed))
    return x_t, int(t), noise


@pytest.mark.parametrize("seed", range(5))
def test_s_t_is_the_jittered_target_and_noise_weighed_by_the_signal_level(seed):
    """x_t = √ᾱ (S_0 + 0.01 ε′) + √(1 − ᾱ) ε, each number from generators that are made here again."""
    target = maps(seed)[0]
    x_t, t, noise = drawn(Noising(COSINE), target, seed)
    rng = np.random.default_rng(seed)
    assert t == int(rng.integers(1000))
    rng.random()  # whether it is a last timestep
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    epsilon, jitter = torch.randn(target.shape, generator=generator), torch.randn(target.shape, generator=generator)
    # Nichol & Dhariwal's ᾱ in closed form: the product telescopes, up to its clipped last beta
    f = [math.cos(math.pi / 2 * (u / 1001 * 1001 / 1001 + 0.008) / 1.008) ** 2 for u in (0, (t + 1) * 1001 / 1000)]
    alpha = f[1] / f[0]
    expected = math.sqrt(alpha) * (target + 0.01 * jitter) + math.sqrt(1 - alpha) * epsilon
    torch.testing.assert_close(noise, epsilon, rtol=0, atol=0)
    torch.testing.assert_close(x_t, expected, rtol=1e-5, atol=2e-6)


def test_the_target_is_in_s_t_at_the_start_and_not_at_the_end():
    class First:
        def integers(self, high):
            return 0

        def random(self):
            return 1.0

    class Last(First):
        def integers(self, high):
            return high - 1

    bright, dark = torch.ones(1, 6, 8), torch.zeros(1, 6, 8)
    first = [Noising(COSINE, 0.0).draw(target, First())[0] for target in (bright, dark)]
    last = [Noising(COSINE, 0.0).draw(target, Last())[0] for target in (bright, dark)]
    assert (first[0] - first[1]).mean() == pytest.approx(1, abs=1e-3)
    assert abs((last[0] - last[1]).mean()) < 0.01


def test_jitter_is_as_wide_as_asked():
    zeros = torch.zeros(1, 100, 100)

    class First:
        def integers(self, high):
            return 0

        def random(self):
            return 1.0

    wide, none = (Noising(COSINE, width).draw(zeros, First())[0] for width in (0.5, 0.0))
    assert (wide - none).std().item() == pytest.approx(0.5, rel=0.03)


def test_timesteps_are_uniform():
    rng, noising, target = np.random.default_rng(0), Noising(COSINE), torch.zeros(1, 1, 1)
    times = np.array([int(noising.draw(target, rng)[1]) for _ in range(5000)])
    assert times.min() == 0 or times.min() < 5
    assert times.max() > 994 and len(np.unique(times)) > 950
    tenths = np.bincount(times // 100, minlength=10) / len(times)
    assert np.abs(tenths - 0.1).max() < 0.02  # 4.7 standard deviations
    assert (times == 999).mean() < 0.01


@pytest.mark.parametrize("share", [0.25, 0.7, 1.0])
def test_the_share_of_last_timesteps(share):
    rng, noising, target = np.random.default_rng(1), Noising(COSINE, 0.01, share), torch.zeros(1, 1, 1)
    times = np.array([int(noising.draw(target, rng)[1]) for _ in range(2000)])
    assert (times == 999).mean() == pytest.approx(share, abs=0.04)
    others = times[times != 999]
    assert share == 1.0 or abs(others.mean() - 499) < 40


def test_the_squared_error_is_summed_over_pixels_and_of_what_is_predicted():
    prediction, target, noise = maps(0), maps(1), torch.randn(2, 1, 6, 8)
    t = torch.tensor([10, 900])
    x_t = COSINE.add_noise(target, noise, t)
    found = Objective()(prediction, target, noise, x_t, t, COSINE)
    by_hand = [sum((p - g) ** 2 for p, g in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
               for a, b in zip(prediction, target, strict=True)]
    assert found.shape == (2,) and found.tolist() == pytest.approx(by_hand, rel=1e-5)
    of_noise = Objective(predicts="noise")(prediction, target, noise, x_t, t, COSINE)
    assert of_noise.tolist() == pytest.approx((prediction - noise).square().sum((1, 2, 3)).tolist(), rel=1e-5)
    at_once = Objective(predicts="map")(prediction, target, noise, x_t, t, COSINE)
    assert torch.equal(at_once, found)


def test_relative_error_is_over_one_and_the_sum_of_squares():
    prediction, target = maps(0), maps(1)
    t = torch.tensor([10, 900])
    for predicts, aim in (("x_0", target), ("noise", torch.randn(2, 1, 6, 8))):
        noise = aim if predicts == "noise" else torch.zeros_like(target)
        found = Objective(predicts, relative_error=True)(prediction, target, noise, target, t, COSINE)
        wanted = (prediction - aim).square().sum((1, 2, 3)) / (1 + aim.square().sum((1, 2, 3)))
        torch.testing.assert_close(found, wanted)


def test_every_loss_counts_by_its_weight_and_its_sign():
    prediction, target = maps(0), maps(1)
    fixated = maps(2) > 0.8
    t, noise = torch.tensor([10, 900]), torch.zeros(2, 1, 6, 8)
    none = Objective(mse_weight=0.0)
    parts = {
        "mse_weight": squared_error(prediction, target), "kl_weight": kl_divergence(prediction, target),
        "ce_weight": cross_entropy(prediction, target), "cc_weight": -correlation(prediction, target),
        "sim_weight": -similarity(prediction, target), "nss_weight": -scanpath_saliency(prediction, fixated),
    }
    for name, part in parts.items():
        found = replace(none, **{name: 0.5})(prediction, target, noise, target, t, COSINE, fixated)
        torch.testing.assert_close(found, 0.5 * part)
    everything = replace(none, **dict.fromkeys(parts, 2.0))
    found = everything(prediction, target, noise, target, t, COSINE, fixated)
    torch.testing.assert_close(found, 2 * sum(parts.values()))


def test_losses_of_a_noise_prediction_are_those_of_the_map_that_it_means():
    target, noise, t = maps(1), torch.randn(2, 1, 6, 8), torch.tensor([100, 500])
    x_t = COSINE.add_noise(target, noise, t)
    found = Objective("noise", mse_weight=0.0, kl_weight=1.0, cc_weight=1.0)(noise, target, noise, x_t, t, COSINE)
    assert found.tolist() == pytest.approx([-1, -1], abs=1e-3)  # the true noise means the true map


def test_losses_are_the_metrics():
    prediction, target, fixated = maps(3).double(), maps(4).double(), maps(5) > 0.7
    for loss, metric, second in ((correlation, cc, target), (similarity, sim, target), (kl_divergence, kld, target),
                                 (scanpath_saliency, nss, fixated)):
        # the metrics of evaluation are written apart; NSS divides by n - 1 there
        torch.testing.assert_close(loss(prediction, second), metric(prediction, second)[:, 0], rtol=2e-2, atol=1e-5)


def test_cross_entropy_is_torchs():
    prediction, target = maps(6), maps(7)
    wanted = F.binary_cross_entropy(prediction, target, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(cross_entropy(prediction, target), wanted)
    edges = cross_entropy(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]]]]))
    assert edges.isfinite().all() and edges.item() > 20


def test_a_map_without_fixations_or_without_contrast_gives_a_finite_loss():
    flat, target = torch.full((1, 1, 6, 8), 0.5), maps(8, 1)
    none, some = torch.zeros(1, 1, 6, 8, dtype=torch.bool), target > 0.5
    assert scanpath_saliency(target, none).item() == 0
    for loss in (correlation(flat, target), similarity(flat, target), kl_divergence(flat, target),
                 scanpath_saliency(flat, some), kl_divergence(torch.zeros_like(flat), target)):
        assert loss.isfinite().all()


def test_scanpath_saliency_by_hand():
    """The deviation is that of the population, and one fixation is enough."""
    saliency = torch.tensor([0.0, 1.0, 2.0, 5.0]).view(1, 1, 2, 2)
    fixated = torch.tensor([False, False, False, True]).view(1, 1, 2, 2)
    assert scanpath_saliency(saliency, fixated).item() == pytest.approx(3 / 3.5**0.5, rel=1e-5)
    assert scanpath_saliency(saliency, ~fixated).item() == pytest.approx(-1 / 3.5**0.5, rel=1e-5)


def test_the_divergence_of_maps_with_zeros_is_small_where_both_have_them():
    saliency = torch.tensor([0.0, 1.0, 0.0, 3.0]).view(1, 1, 2, 2)
    assert abs(kl_divergence(saliency, saliency)) < 1e-6
    assert kl_divergence(saliency, 2 * saliency) == pytest.approx(0, abs=1e-5)


def test_losses_fall_towards_the_target():
    target, fixated = maps(9), maps(9) > 0.8
    t, noise = torch.tensor([10, 900]), torch.zeros(2, 1, 6, 8)
    for name in ("mse_weight", "kl_weight", "ce_weight", "cc_weight", "sim_weight", "nss_weight"):
        objective = replace(Objective(mse_weight=0.0), **{name: 1.0})
        x = maps(10).requires_grad_()
        before = objective(x, target, noise, target, t, COSINE, fixated).sum()
        before.backward()
        step = (x - 1e-3 * x.grad / x.grad.norm()).detach()
        assert objective(step, target, noise, target, t, COSINE, fixated).sum() < before
