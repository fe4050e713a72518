"""What a step takes: arithmetic, from which hours follow, and disk. Counted, not measured: docs/paper.md says how"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from diffsal.config import ModelConfig
from diffsal.data.databases import find, root_of
from diffsal.errors import InputError
from diffsal.training.config import DatabaseConfig
from diffsal.training.recipes import configure
from diffsal.weights.describe import count_parts

BACKWARD = 3  # times the arithmetic of a forward pass: the gradients of inputs and of weights cost one each
SAVED_COPIES = 6  # of the parameters: in last.pt weights, average and Adam's two moments; best and last weights
BYTES = 4  # of a parameter
MAP_BYTES = 150_000  # of a 16-bit map at 640x360, about
COUNTED_CLIPS = 30  # whose frames are counted; the others are taken to be as long
PUBLISHED_FRAMES = {("dhf1k", "train"): 346_140}  # TASED-Net's counts
CPU_SPEED, GPU_SPEED = 0.04, 25.0  # 10^12 multiply-accumulates a second: measured on two cores; a guess for one GPU


@dataclass(frozen=True)
class Cost:
    """10^12 multiply-accumulates and bytes on disk; None where the data that would tell are not there."""

    tera: float | None
    disk_bytes: float | None

    def hours(self, speed: float) -> float | None:
        """At ``speed`` 10^12 multiply-accumulates a second; arithmetic alone, without reading frames."""
        return None if self.tera is None else self.tera / speed / 3600

    def words(self, speed: float) -> str:
        hours = self.hours(speed)
        time = "hours unknown (the data are not there)" if hours is None else f"{hours:.2g} h"
        disk = "" if self.disk_bytes is None else f", {self.disk_bytes / 1e9:.2g} GB"
        return time + disk


UNKNOWN = Cost(None, None)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of those that are known; unknown where none is."""
    listed = list(costs)
    teras = [c.tera for c in listed if c.tera is not None]
    disks = [c.disk_bytes for c in listed if c.disk_bytes is not None]
    return Cost(sum(teras) if teras else None, sum(disks) if disks else None)


def training_cost(recipe: str, settings: tuple[str, ...], data: Path) -> Cost:
    """Every window of every epoch forward and backward; validation is left out."""
    begun = configure(recipe, list(settings))
    parameters, macs = counted(begun.model)
    assert isinstance(begun.train, DatabaseConfig)
    counts = [frames_of(data, name, "train", begun.train.fold) for name in begun.train.databases]
    windows = sum(n for n in counts if n) / begun.train.window_stride * begun.train.epochs
    return Cost(windows * macs * BACKWARD / 1e12 if windows else None, parameters * SAVED_COPIES * BYTES)


def evaluation_cost(
    config: ModelConfig, dataset: str, data: Path, fold: int | None, keeps_maps: bool
) -> Cost:
    """Every frame once through the network."""
    frames = frames_of(data, dataset, find(dataset).scored_split, fold)
    if frames is None:
        return UNKNOWN
    return Cost(frames * counted(config)[1] / 1e12, frames * (MAP_BYTES if keeps_maps else 0))


@lru_cache(maxsize=32)
def counted(config: ModelConfig) -> tuple[int, int]:
    """Parameters, and multiply-accumulates of one window and one step."""
    parts = count_parts(config)
    return sum(p.parameters for p in parts), sum(p.multiply_accumulates for p in parts)


@lru_cache(maxsize=64)
def frames_of(data: Path, dataset: str, split: str, fold: int | None) -> int | None:
    """Frames of a split, from what its lists or some of its clips say; else the published number, or None."""
    database = find(dataset)
    try:
        clips = database(root_of(data, dataset), split, fold if database.num_test else None)
        chosen = clips[:: -(-len(clips) // COUNTED_CLIPS)]
        return round(sum(c.listed_frames or c.num_frames for c in chosen) * len(clips) / len(chosen))
    except (InputError, OSError):
        return PUBLISHED_FRAMES.get((dataset, split))
