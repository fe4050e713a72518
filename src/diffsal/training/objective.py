"""What training minimises: Algorithm 1's squared error, and the field's KL divergence and correlation beside it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-7


def squared_error(x_0: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """‖S_pred − S_0‖² of Algorithm 1: summed over pixels, one value per sample."""
    return (x_0 - target).square().flatten(1).sum(1)


def kl_divergence(x_0: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Σ g log(g / p) of the two maps as distributions over the picture."""
    p, g = x_0.flatten(1) + EPSILON, target.flatten(1) + EPSILON
    p, g = p / p.sum(1, keepdim=True), g / g.sum(1, keepdim=True)
    return (g * (g / p).log()).sum(1)


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
