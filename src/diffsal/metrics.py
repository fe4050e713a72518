"""The field's metrics as functions over batches of maps, as the MIT saliency benchmark defines them.

Maps are (…, h, w) tensors on any device, results (…,) in float64. A constant map scores CC 0, NSS 0 and AUC 0.5; a
frame without fixations NSS and AUC NaN. NaN in a map or shapes that disagree raise ``ValueError``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

EPSILON = 2.0**-52  # MATLAB's eps, as the MIT code uses it

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


def kld(saliency: Float[Tensor, "*n h w"], ground_truth: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Kullback-Leibler divergence, Σ g log(ε + g / (p + ε)) of the maps divided by their sums; lower is better."""
    p, g = _pair(saliency, ground_truth, "ground_truth")
    p, g = (x / x.sum(-1, keepdim=True) for x in (p, g.double()))
    return (g * (EPSILON + g / (p + EPSILON)).log()).sum(-1)


def information_gain(
    saliency: Float[Tensor, "*n h w"], fixations: Shaped[Tensor, "*n h w"], baseline: Float[Tensor, "*n h w"]
) -> Float[Tensor, "*n"]:
    """Bits per fixation that the map says over ``baseline`` (a centre prior), both min-max-ed and summing to 1."""
    p, f = _pair(saliency, fixations, "fixations")
    b, _ = _pair(baseline, fixations, "fixations")
    gain = (EPSILON + _distribution(p)).log2() - (EPSILON + _distribution(b)).log2()
    fixated = f != 0
    return (gain * fixated).sum(-1) / fixated.sum(-1)


def auc_judd(
    saliency: Float[Tensor, "*n h w"], fixations: Shaped[Tensor, "*n h w"], jitter: bool = False
) -> Float[Tensor, "*n"]:
    """Area under the ROC curve with a threshold at each fixated value; false positives over the other pixels.

    The k-th highest fixated value gives the point (pixels at or above it, less k, over all unfixated ones; k over the
    number of fixations). ``jitter`` adds the MIT code's uniform noise of 1e-7, which breaks ties.
    """
    p, f = _pair(saliency, fixations, "fixations")
    if jitter:
        p = p + torch.rand_like(p) * 1e-7
    rows = zip(p.reshape(-1, p.shape[-1]), f.reshape(-1, f.shape[-1]), strict=True)
    scores = [_auc_judd_of_one(one, fixated != 0) for one, fixated in rows]
    return torch.stack(scores).view(p.shape[:-1])


def _auc_judd_of_one(p: Float[Tensor, " p"], fixated: Shaped[Tensor, " p"]) -> Float[Tensor, ""]:
    count = int(fixated.sum())
    if count == 0:
        return p.new_tensor(float("nan"))
    if count == p.numel() or p.max() == p.min():
        return p.new_tensor(0.5)
    thresholds = p[fixated].sort(descending=True).values
    ranks = torch.arange(1, count + 1, device=p.device, dtype=p.dtype)
    at_or_above = p.numel() - torch.searchsorted(p.sort().values, thresholds, right=False)
    zero, one = p.new_zeros(1), p.new_ones(1)
    true_positives = torch.cat([zero, ranks / count, one])
    false_positives = torch.cat([zero, (at_or_above - ranks) / (p.numel() - count), one])
    return torch.trapezoid(true_positives, false_positives)
