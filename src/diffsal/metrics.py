"""The field's metrics as functions over batches of maps, as the MIT saliency benchmark defines them.

Maps are (…, h, w) tensors on any device, results (…,) in float64. A constant map scores CC 0, NSS 0 and AUC 0.5; a
frame without fixations NSS and AUC NaN. NaN in a map or shapes that disagree raise ``ValueError``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def _pair(saliency: Tensor, other: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both flattened over the picture, the first in float64."""
    if saliency.shape != other.shape or saliency.dim() < 2:
        raise ValueError(f"saliency is {tuple(saliency.shape)}, {name} {tuple(other.shape)}: expected equal (…, h, w)")
    saliency = saliency.double().flatten(-2)
    if saliency.isnan().any():
        raise ValueError("the saliency map holds NaN")
    return saliency, other.flatten(-2)


def _standardised(x: Float[Tensor, "*n p"]) -> Float[Tensor, "*n p"]:
    """Zero mean, unit deviation (n − 1); zero where the map is constant."""
    deviation = x.std(-1, keepdim=True)
    constant = x.amax(-1, keepdim=True) == x.amin(-1, keepdim=True)
    return torch.where(constant, 0.0, (x - x.mean(-1, keepdim=True)) / deviation)


def _distribution(x: Float[Tensor, "*n p"]) -> Float[Tensor, "*n p"]:
    """Min-max-ed, then normalised to a sum of 1; uniform where the map is constant."""
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    x = torch.where(high == low, 1.0, (x - low) / (high - low))
    return x / x.sum(-1, keepdim=True)


def cc(saliency: Float[Tensor, "*n h w"], ground_truth: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Pearson's correlation coefficient."""
    p, g = _pair(saliency, ground_truth, "ground_truth")
    return (_standardised(p) * _standardised(g.double())).sum(-1) / (p.shape[-1] - 1)


def sim(saliency: Float[Tensor, "*n h w"], ground_truth: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Similarity: the sum of the minima of the two maps as distributions."""
    p, g = _pair(saliency, ground_truth, "ground_truth")
    return torch.minimum(_distribution(p), _distribution(g.double())).sum(-1)


def nss(saliency: Float[Tensor, "*n h w"], fixations: Shaped[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Normalised scanpath saliency: the mean of the standardised map where ``fixations`` is not zero."""
    p, f = _pair(saliency, fixations, "fixations")
    fixated = f != 0
    return (_standardised(p) * fixated).sum(-1) / fixated.sum(-1)
