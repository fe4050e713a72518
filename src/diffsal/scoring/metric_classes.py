"""The metrics as ``torchmetrics.Metric`` classes: the mean over all maps of all batches, and of all processes.

    score = NSS()
    score.update(saliency, fixations)   # (…, h, w), as often as there are batches
    score.compute()                     # scalar; score.num_nan maps could not be scored

Maps that score NaN (no fixation, all-zero ground truth) are left out of the mean and counted in ``num_nan``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torchmetrics import Metric

from diffsal.scoring import metrics


class MapMetric(Metric):
    """Mean of one function of :mod:`diffsal.scoring.metrics` over maps; ``settings`` are that function's own."""

    score: ClassVar[Callable[..., Tensor]]
    total: Tensor
    num_scored: Tensor
    num_nan: Tensor
    is_differentiable = False
    full_state_update = False

    def __init__(self, **settings) -> None:
        super().__init__()
        self.settings = settings
        for name in ("total", "num_scored", "num_nan"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, saliency: Shaped[Tensor, "*n h w"], *targets: Shaped[Tensor, "*n h w"]) -> None:
        """``targets`` are the function's further maps: ground truth, or fixations (and baseline, or others')."""
        scores = type(self).score(saliency, *targets, **self.settings).to(self.total.dtype)
        scored = ~scores.isnan()
        self.total += scores[scored].sum()
        self.num_scored += scored.sum()
        self.num_nan += (~scored).sum()

    def compute(self) -> Float[Tensor, ""]:
        """The mean over the maps that could be scored; NaN if there were none."""
        return self.total / self.num_scored


class CC(MapMetric):
    score, higher_is_better = staticmethod(metrics.cc), True


class SIM(MapMetric):
    score, higher_is_better = staticmethod(metrics.sim), True


class KLD(MapMetric):
    score, higher_is_better = staticmethod(metrics.kld), False


class NSS(MapMetric):
    score, higher_is_better = staticmethod(metrics.nss), True


class InformationGain(MapMetric):
    score, higher_is_better = staticmethod(metrics.information_gain), True


class AUCJudd(MapMetric):
    score, higher_is_better = staticmethod(metrics.auc_judd), True


class AUCBorji(MapMetric):
    score, higher_is_better = staticmethod(metrics.auc_borji), True


class AUCShuffled(MapMetric):
    score, higher_is_better = staticmethod(metrics.auc_shuffled), True
