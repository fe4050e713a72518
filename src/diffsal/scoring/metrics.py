"""The field's metrics as functions over batches of maps, as the MIT saliency benchmark defines them.

Maps are (…, h, w) tensors on any device; results are (…,), in float64 (float32 on MPS, which has no other). What the
definitions leave open is settled here, once (docs/metrics.md compares it with other implementations):

- a constant prediction scores CC 0, NSS 0, every AUC 0.5, and is the uniform distribution in SIM and IG;
- a frame with nothing to predict (no fixation, an all-zero ground truth) scores NaN, to be dropped and counted;
- a fixation map counts each pixel once, however large its value, unless ``counted``;
- ``ValueError`` for shapes that disagree, empty pictures, NaN, infinities, and negative values where a distribution
  is expected. A batch of no maps gives no scores.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

EPSILON = 2.0**-52  # MATLAB's eps, as the MIT code uses it
JITTER = 1e-7
BINS = 1 << 13  # of the values between a map's lowest and highest, in AUC-Judd
LARGEST_SHIFT = 2.0**21  # in bins; from here on float32 could not tell the bins apart
NUM_SPLITS = 100
STEP = 0.1  # between the thresholds of the sampled AUCs


def cc(saliency: Shaped[Tensor, "*n h w"], ground_truth: Shaped[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Pearson's correlation coefficient, in [−1, 1].

    >>> cc(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[0.0, 2.0], [4.0, 6.0]]))
    tensor(1.0000, dtype=torch.float64)
    """
    p, g = _pair(saliency, ground_truth, "ground_truth")
    score = (_standardised(p) * _standardised(g)).sum(-1) / (p.shape[-1] - 1)
    return _nan_where_empty(score, g)


def sim(saliency: Shaped[Tensor, "*n h w"], ground_truth: Shaped[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Similarity: the sum of the minima of the two maps as distributions, in [0, 1].

    >>> sim(torch.tensor([[0.0, 1.0], [1.0, 2.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    tensor(0.7500, dtype=torch.float64)
    """
    p, g = _pair(saliency, ground_truth, "ground_truth")
    return _nan_where_empty(torch.minimum(_distribution(p), _distribution(g)).sum(-1), g)


def kld(saliency: Shaped[Tensor, "*n h w"], ground_truth: Shaped[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Kullback-Leibler divergence, Σ g log(ε + g / (p + ε)) of the maps divided by their sums; lower is better.

    >>> kld(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))  # log 2
    tensor(0.6931, dtype=torch.float64)
    """
    p, g = _pair(saliency, ground_truth, "ground_truth")
    for x, name in ((p, "saliency"), (g, "ground_truth")):
        if x.numel() and x.min() < 0:
            raise ValueError(f"{name} holds negative values (down to {float(x.min()):.3g}): KLD expects distributions")
    p, g = (x / x.sum(-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny) for x in (p, g))
    return _nan_where_empty((g * (EPSILON + g / (p + EPSILON)).log()).sum(-1), g)


def nss(
    saliency: Shaped[Tensor, "*n h w"], fixations: Shaped[Tensor, "*n h w"], counted: bool = False
) -> Float[Tensor, "*n"]:
    """Normalised scanpath saliency: the mean of the standardised map (n − 1) over the fixated pixels.

    ``counted``: a pixel of value k was fixated k times, and weighs k times.

    >>> nss(torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.tensor([[0, 0], [0, 1]]))
    tensor(1.5000, dtype=torch.float64)
    """
    p, f = _pair(saliency, fixations, "fixations")
    weights = f if counted else (f != 0).to(p.dtype)
    return (_standardised(p) * weights).sum(-1) / weights.sum(-1)


def information_gain(
    saliency: Shaped[Tensor, "*n h w"], fixations: Shaped[Tensor, "*n h w"], baseline: Shaped[Tensor, "*n h w"]
) -> Float[Tensor, "*n"]:
    """Bits per fixated pixel that the map says over ``baseline`` (a centre prior), both min-max-ed and summing to 1.

    >>> information_gain(
    ...     torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([[0, 0], [0, 1]]), torch.ones(2, 2))  # 1 over 1/4
    tensor(2.0000, dtype=torch.float64)
    """
    p, f = _pair(saliency, fixations, "fixations")
    b, _ = _pair(baseline, fixations, "fixations", "baseline")
    fixated = f != 0
    bits = [torch.zeros_like(x).masked_scatter_(fixated, (EPSILON + _distribution(x)[fixated]).log2()) for x in (p, b)]
    return (bits[0] - bits[1]).sum(-1) / fixated.sum(-1)


def auc_judd(
    saliency: Shaped[Tensor, "*n h w"],
    fixations: Shaped[Tensor, "*n h w"],
    jitter: bool = False,
    counted: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*n"]:
    """Area under the ROC curve with a threshold at each fixated value; false positives over the other pixels.

    With n fixations among P pixels, the k-th highest fixated value θ_k gives the point (N_k − k) / (P − n), k / n,
    where N_k pixels are at or above θ_k. The trapezoids through (0, 0) and (1, 1) sum to

        1 − (Σ_k (N_k − k) − (N_n − n) / 2) / (n (P − n)),

    so that all one needs is Σ N_k: for each pixel the number of thresholds at or below it. ``jitter`` adds the MIT
    code's uniform noise of 1e-7, in the map's own precision, which breaks ties. ``counted``: a pixel of value k is k
    fixations, each with its own threshold; false positives are still counted over the pixels nobody fixated.

    >>> auc_judd(torch.tensor([[0.1, 0.2], [0.3, 0.9]]), torch.tensor([[0, 1], [0, 1]]))
    tensor(0.8750, dtype=torch.float64)
    """
    if jitter:
        noise = torch.rand(saliency.shape, dtype=_precision(saliency), device=saliency.device, generator=generator)
        saliency = saliency + JITTER * (noise.to(saliency.dtype) if saliency.is_floating_point() else noise)
    p, f = _pair(saliency, fixations, "fixations", cast=False)
    rows = zip(p.reshape(-1, p.shape[-1]), f.reshape(-1, f.shape[-1]), strict=True)
    scores = [_auc_judd_of_one(row, fixated, counted) for row, fixated in rows]
    return torch.tensor(scores, dtype=_precision(p), device=p.device).view(p.shape[:-1])


def auc_borji(
    saliency: Shaped[Tensor, "*n h w"],
    fixations: Shaped[Tensor, "*n h w"],
    num_splits: int = NUM_SPLITS,
    step: float = STEP,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*n"]:
    """Area under the ROC curve of fixated against random pixels, as many, drawn with replacement from the whole map.

    Thresholds are 0, ``step``, 2 ``step`` … on the min-max-ed map; the mean over ``num_splits`` draws. As in the MIT
    code, a single fixation scores NaN. ``generator`` is a CPU generator; without it torch's own is used.

    >>> rows = torch.arange(16.0).view(4, 4)
    >>> auc_borji(rows, rows > 13, generator=torch.Generator().manual_seed(0)) > 0.8
    tensor(True)
    """
    def negatives(num_fixations: int, num_pixels: int, _) -> Tensor:
        return torch.randint(num_pixels, (num_splits, num_fixations), generator=generator)

    return _sampled_auc(saliency, fixations, None, negatives, step, least=2)


def auc_shuffled(
    saliency: Shaped[Tensor, "*n h w"],
    fixations: Shaped[Tensor, "*n h w"],
    other_fixations: Shaped[Tensor, "*n h w"],
    num_splits: int = NUM_SPLITS,
    step: float = STEP,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*n"]:
    """Area under the ROC curve of the fixated pixels against pixels that were fixated on other pictures.

    Of the pixels where ``other_fixations`` is not zero, each draw takes as many as there are fixations (or all, where
    there are fewer), without replacement. Otherwise as :func:`auc_borji`; NaN where there are no others.

    >>> auc_shuffled(torch.tensor([[0.0, 0.2], [0.5, 1.0]]), torch.tensor([[0, 0], [0, 1]]),
    ...              torch.tensor([[1, 0], [0, 0]]))
    tensor(1., dtype=torch.float64)
    """
    def negatives(num_fixations: int, _, other: Tensor) -> Tensor:
        candidates = other.nonzero()[:, 0].cpu()
        count = min(num_fixations, len(candidates))
        return candidates[draw_distinct(len(candidates), count, num_splits, generator)]

    return _sampled_auc(saliency, fixations, other_fixations, negatives, step, least=1)


def draw_distinct(
    population: int, count: int, num_draws: int, generator: torch.Generator | None = None
) -> Int[Tensor, "{num_draws} {count}"]:
    """``num_draws`` times ``count`` different numbers below ``population``, each set as likely as any other."""
    if count * count > population:
        return torch.rand(num_draws, population, generator=generator).argsort(-1)[:, :count]
    drawn = torch.randint(population, (num_draws, count), generator=generator)
    while True:  # drawing a row again until its numbers differ keeps every set as likely; few rows need it
        ordered = drawn.sort(-1).values
        again = (ordered[:, 1:] == ordered[:, :-1]).any(-1)
        if not again.any():
            return drawn
        drawn[again] = torch.randint(population, (int(again.sum()), count), generator=generator)


def _precision(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


def _pair(
    saliency: Tensor, other: Tensor, name: str, saliency_name: str = "saliency", cast: bool = True
) -> tuple[Tensor, Tensor]:
    """Both checked and flattened over the picture; with ``cast`` both in the precision of the scores."""
    if saliency.shape != other.shape or saliency.dim() < 2:
        raise ValueError(
            f"{saliency_name} is {tuple(saliency.shape)}, {name} {tuple(other.shape)}: expected equal (…, h, w)")
    if 0 in saliency.shape[-2:]:
        raise ValueError(f"{saliency_name} is {tuple(saliency.shape)}: expected at least one pixel")
    for x, what in ((saliency, saliency_name), (other, name)):
        if x.is_floating_point() and x.numel() and not all(v.isfinite() for v in x.aminmax()):
            raise ValueError(f"{what} holds {'NaN' if x.isnan().any() else 'infinite values'}")
    p, q = saliency.flatten(-2), other.flatten(-2)
    return (p.to(_precision(p)), q.to(_precision(q))) if cast else (p, q)


def _nan_where_empty(score: Tensor, g: Float[Tensor, "*n p"]) -> Tensor:
    return torch.where((g == 0).all(-1), torch.nan, score)


def _standardised(x: Float[Tensor, "*n p"]) -> Float[Tensor, "*n p"]:
    """Zero mean, unit deviation (n − 1); zero where the map is constant."""
    low, high = x.aminmax(dim=-1, keepdim=True)
    centred = x - x.mean(-1, keepdim=True)
    deviation = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / max(1, x.shape[-1] - 1) ** 0.5
    return centred * torch.where(low == high, 0.0, 1 / deviation)


def _distribution(x: Float[Tensor, "*n p"]) -> Float[Tensor, "*n p"]:
    """Min-max-ed, then normalised to a sum of 1 (which undoes the division by the maximum); uniform where constant."""
    low, high = x.aminmax(dim=-1, keepdim=True)
    above = x - low
    constant = low == high
    if constant.any():
        above = torch.where(constant, 1.0, above)
    return above / above.sum(-1, keepdim=True)


def _auc_judd_of_one(p: Shaped[Tensor, " p"], fixations: Shaped[Tensor, " p"], counted: bool) -> float:
    p = p if p.dtype in (torch.float32, torch.float64) else p.to(_precision(p))
    values, marks = p.detach().cpu().numpy(), fixations.detach().cpu().numpy()
    at = np.flatnonzero(marks)
    if not len(at):
        return float("nan")
    low, high = float(values.min()), float(values.max())
    if len(at) == len(values) or low == high:
        return 0.5
    thresholds = values[at]
    order = thresholds.argsort()
    thresholds = thresholds[order]
    times = marks[at][order].astype(np.int64) if counted else np.ones(len(at), np.int64)
    n = int(times.sum())
    fixated_above = len(at) - thresholds.searchsorted(thresholds) if counted else np.arange(n, 0, -1)  # or: k
    false_positives = _sum_at_or_above(values, thresholds, times, low, high) - int(fixated_above @ times)
    last = int(np.count_nonzero(values >= thresholds[0])) - len(at)
    return 1 - (false_positives - last / 2) / (n * (len(values) - len(at)))


def _sum_at_or_above(
    values: np.ndarray, thresholds: np.ndarray, times: np.ndarray, low: float, high: float
) -> int:
    """Σ over thresholds (ascending, each counted ``times``) of the number of values at or above it.

    Values fall into ``BINS`` equal bins, and a look-up says how many thresholds lie below a bin; only in a bin that
    holds a threshold are the values themselves compared. Binning rounds but never swaps two values: the sum is exact.
    """
    passed = np.zeros(len(times) + 1, np.int64)
    passed[1:] = times.cumsum()
    scale, shift = (BINS - 1) / (high - low), -low * (BINS - 1) / (high - low)
    if not (scale < 1e30 and abs(shift) < LARGEST_SHIFT and max(-low, high) < 1e30):
        return int(passed[thresholds.searchsorted(values, "right")].sum())
    held = np.bincount(_bins(thresholds, scale, shift), times, BINS + 1)
    small = bool(passed[-1] < 255)
    table: np.ndarray = held.cumsum().astype(np.uint8 if small else np.uint32)
    unclear = (1 << 8 if small else 1 << 32) - 1
    table[held > 0] = unclear
    found = table.take(_bins(values, scale, shift), mode="wrap")
    near = values[np.flatnonzero(found == unclear)]
    total = cv2.sumElems(found)[0] if small else found.sum(dtype=np.int64)
    return int(total) - int(unclear) * len(near) + int(passed[thresholds.searchsorted(near, "right")].sum())


def _bins(values: np.ndarray, scale: float, shift: float) -> np.ndarray:
    scaled = np.multiply(values, np.float32(scale), dtype=np.float32, casting="same_kind")
    scaled += np.float32(shift)
    return scaled.astype(np.uint16).astype(np.intp)


def _sampled_auc(saliency, fixations, other, negatives, step: float, least: int) -> Float[Tensor, "*n"]:
    """The mean AUC over the draws of ``negatives(num_fixations, num_pixels, other) -> (draws, m)`` pixel numbers."""
    if not 0 < step <= 1:
        raise ValueError(f"step is {step}, expected more than 0 and at most 1")
    p, f = _pair(saliency, fixations, "fixations")
    o = f if other is None else _pair(saliency, other, "other_fixations")[1]
    rows = zip(*(x.reshape(-1, p.shape[-1]) for x in (p, f, o)), strict=True)
    scores = [_sampled_auc_of_one(one, fixated, others, negatives, step, least) for one, fixated, others in rows]
    return torch.tensor(scores, dtype=p.dtype, device=p.device).view(p.shape[:-1])


def _sampled_auc_of_one(p: Tensor, f: Tensor, other: Tensor, negatives, step: float, least: int) -> float:
    num_fixations = int(f.count_nonzero())
    if num_fixations < least or not other.any():
        return float("nan")
    low, high = p.aminmax()
    if low == high:
        return 0.5
    p = ((p - low) / (high - low)).cpu()
    thresholds = torch.arange(int(1 / step + 1e-9), -1, -1, dtype=p.dtype)[:, None, None] * step  # 1 … 0
    hits = (p[f.cpu() != 0] >= thresholds).to(p.dtype).mean(-1)  # (thresholds, 1)
    alarms = (p[negatives(num_fixations, len(p), other)] >= thresholds).to(p.dtype).mean(-1)  # (thresholds, draws)
    hits, alarms = (torch.cat([x.new_zeros(1, x.shape[1]), x, x.new_ones(1, x.shape[1])]) for x in (hits, alarms))
    return float(torch.trapezoid(hits.expand_as(alarms), alarms, dim=0).mean())
