"""Algorithm 1's two halves: the noise that an example gets, and what is minimised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffsal.config import Prediction
from diffsal.diffusion.schedule import NoiseSchedule

EPSILON = 1e-7


@dataclass(frozen=True)
class Noising:
    """How S_t is drawn: S_t = √ᾱ_t (S_0 + ``target_noise`` ε′) + √(1 − ᾱ_t) ε.

    t is uniform over 0 … T − 1, but for ``last_timestep_share`` of the examples, whose t is T − 1.
    """

    schedule: NoiseSchedule
    target_noise: float = 0.01
    last_timestep_share: float = 0.0

    def draw(
        self, target: Float[Tensor, "1 h w"], rng: np.random.Generator
    ) -> tuple[Float[Tensor, "1 h w"], Int[Tensor, ""], Float[Tensor, "1 h w"]]:
        """S_t, t and ε of the example whose S_0 is ``target``."""
        t = int(rng.integers(self.schedule.num_timesteps))
        if rng.random() < self.last_timestep_share:
            t = self.schedule.num_timesteps - 1
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        noise = torch.randn(target.shape, generator=generator)
        jittered = target + self.target_noise * torch.randn(target.shape, generator=generator)
        timestep = torch.tensor(t)
        return self.schedule.add_noise(jittered[None], noise[None], timestep[None])[0], timestep, noise


@dataclass(frozen=True)
class Objective:
    """What is minimised, one value for each example: a sum of losses by their weights.

    The squared error is that of what the network ``predicts``: of S_0, or of the noise. With ``relative_error`` it is
    over one plus the sum of squares of what it aims at, so that bright and dark maps count alike.
    """

    predicts: Prediction = "x_0"
    mse_weight: float = 1.0
    relative_error: bool = False
    kl_weight: float = 0.0
    ce_weight: float = 0.0
    cc_weight: float = 0.0
    sim_weight: float = 0.0
    nss_weight: float = 0.0

    def __call__(
        self, prediction: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"], noise: Float[Tensor, "b 1 h w"],
        x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " b"], schedule: NoiseSchedule,
        fixated: Bool[Tensor, "b 1 h w"] | None = None,
    ) -> Float[Tensor, " b"]:
        aim = noise if self.predicts == "noise" else target
        x_0 = schedule.remove_noise(x_t, prediction, t) if self.predicts == "noise" else prediction
        error = squared_error(prediction, aim)
        if self.relative_error:
            error = error / (squared_error(aim, torch.zeros_like(aim)) + 1)
        losses = self.mse_weight * error
        if self.kl_weight:
            losses = losses + self.kl_weight * kl_divergence(x_0, target)
        if self.ce_weight:
            losses = losses + self.ce_weight * cross_entropy(x_0, target)
        if self.cc_weight:
            losses = losses - self.cc_weight * correlation(x_0, target)
        if self.sim_weight:
            losses = losses - self.sim_weight * similarity(x_0, target)
        if self.nss_weight:
            assert fixated is not None, "nss_weight needs fixations"
            losses = losses - self.nss_weight * scanpath_saliency(x_0, fixated)
        return losses


def squared_error(x_0: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """‖S_pred − S_0‖² of Algorithm 1: summed over pixels, one value per example."""
    return (x_0 - target).square().flatten(1).sum(1)


def kl_divergence(x_0: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Σ g log(g / p) of the two maps as distributions over the picture."""
    p, g = x_0.flatten(1) + EPSILON, target.flatten(1) + EPSILON
    p, g = p / p.sum(1, keepdim=True), g / g.sum(1, keepdim=True)
    return (g * (g / p).log()).sum(1)


def cross_entropy(x_0: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """−Σ g log p + (1 − g) log(1 − p): each pixel of the maps as a probability, summed over pixels."""
    p, g = x_0.flatten(1).clamp(EPSILON, 1 - EPSILON), target.flatten(1)
    return -(g * p.log() + (1 - g) * (1 - p).log()).sum(1)


def correlation(x_0: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Pearson's CC of the two maps."""
    p, g = x_0.flatten(1), target.flatten(1)
    p, g = p - p.mean(1, keepdim=True), g - g.mean(1, keepdim=True)
    return (p * g).sum(1) / (p.square().sum(1) * g.square().sum(1) + EPSILON).sqrt()


def similarity(x_0: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """SIM of the two maps, each less its minimum and as a distribution: the sum of the minima."""
    p, g = x_0.flatten(1), target.flatten(1)
    p, g = (y - y.amin(1, keepdim=True) for y in (p, g))
    return (p / (p.sum(1, keepdim=True) + EPSILON)).minimum(g / (g.sum(1, keepdim=True) + EPSILON)).sum(1)


def scanpath_saliency(x_0: Float[Tensor, "b 1 h w"], fixated: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """NSS: the map, less its mean and over its standard deviation, averaged over fixated pixels; 0 without any."""
    p, f = x_0.flatten(1), fixated.flatten(1).to(x_0)
    p = (p - p.mean(1, keepdim=True)) / (p.std(1, keepdim=True, correction=0) + EPSILON)
    return (p * f).sum(1) / f.sum(1).clamp(min=1)
