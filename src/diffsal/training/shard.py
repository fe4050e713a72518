"""This process's part of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Shard:
    """This process among all: which, of how many, on which device, and how many examples its micro-batch has."""

    rank: int
    num_processes: int
    device: torch.device
    micro_batch: int
    accumulation: int
