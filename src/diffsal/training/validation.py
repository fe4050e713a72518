"""Scores of a network while it is trained: sampled maps, finished as in prediction, on held-out windows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from diffsal.config import Finish
from diffsal.prediction.finish import finish_map
from diffsal.scoring.metrics import cc, nss, sim
from diffsal.training.examples import Batch, Example, ScoredExamples, quieten
from diffsal.training.shard import Shard

METRICS = ("CC", "SIM", "NSS")


@torch.no_grad()
def validate(
    scored: ScoredExamples, sample: Callable[[Batch], Tensor], finish: Finish, shard: Shard, num_workers: int,
    on_part: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Means of CC, SIM and NSS over each clip's windows, over each set's clips, and over the sets, which is ``CC``, ….

    At the network's size, which is a choice for choosing and no claim. ``sample(batch)`` gives the network's maps
    (b, 1, h, w) at their own stride; ``finish`` is applied to them. Every process scores its part, and all get the
    same result. Raises nothing for what cannot be read: ``skipped`` lists it.
    """
    if not len(scored):
        return {}
    mine, size = range(shard.rank, len(scored), shard.num_processes), shard.micro_batch
    loader = DataLoader(
        scored, batch_sampler=[list(mine[i : i + size]) for i in range(0, len(mine), size)], collate_fn=list,
        num_workers=num_workers, generator=torch.Generator(), worker_init_fn=quieten if num_workers else None,
    )
    rows: list[tuple[str, str, list[float]]] = []  # set, clip, metrics
    skipped: list[str] = []
    for done, answers in enumerate(loader):
        on_part(done, len(loader))
        skipped += [answer for answer in answers if isinstance(answer, str)]
        examples = [answer for answer in answers if isinstance(answer, Example)]
        for example, raw in zip(examples, sample(Batch.of(examples)) if examples else (), strict=True):
            clip = scored.reader.clips[example.view.clip]
            name = clip.split if clip.dataset == "gaze" else clip.dataset
            rows.append((name, clip.name, score(raw[0].float().cpu(), example, finish)))
    rows, skipped = gather_object(rows), gather_object(skipped)
    return {**means_of(rows), "windows": len(rows), **({"skipped": skipped} if skipped else {})}


def score(raw: Float[Tensor, "h w"], example: Example, finish: Finish) -> list[float]:
    """CC, SIM and NSS of a map; NaN for NSS where no fixations are known."""
    target = example.target[0]
    finished = torch.from_numpy(finish_map(raw.numpy(), finish, example.motion, example.sound))
    saliency = F.interpolate(finished[None, None], size=target.shape, mode="bilinear")[0, 0]
    found = [cc(saliency, target).item(), sim(saliency, target).item()]
    return [*found, math.nan if example.fixated is None else nss(saliency, example.fixated[0]).item()]


def means_of(rows: list[tuple[str, str, list[float]]]) -> dict[str, Any]:
    """Per set the mean of its clips' means; ``CC``, ``SIM`` and ``NSS`` are the sets' means. NaN is left out."""
    by_clip: dict[str, dict[str, list[list[float]]]] = {}
    for name, clip, values in rows:
        by_clip.setdefault(name, {}).setdefault(clip, []).append(values)
    sets = {}
    for name, clips in sorted(by_clip.items()):
        means = [[_mean([row[i] for row in rows_of]) for rows_of in clips.values()] for i in range(len(METRICS))]
        values = [_mean(of_clips) for of_clips in means]
        sets[name] = {metric: round(v, 4) for metric, v in zip(METRICS, values, strict=True) if not math.isnan(v)}
    overall = {metric: _mean([scores.get(metric, math.nan) for scores in sets.values()]) for metric in METRICS}
    return {**sets, **{metric: round(v, 5) for metric, v in overall.items() if not math.isnan(v)}}


def _mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan
