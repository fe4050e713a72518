"""A frozen video encoder's features on disk, so that it runs once per window and not once per window and epoch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diffsal.config import ModelConfig
from diffsal.data.clip import Clip
from diffsal.training.window_examples import Window
from diffsal.weights.files import save_tensors


@dataclass(frozen=True)
class FeatureCache:
    """Half-precision files, one per window and side, that runs with the same encoder and picture size share.

    Processor seconds of a training step on one core (``benchmarks/training.py --threads 1 --steps 1``, 2026-11-24),
    from the second epoch on: compact, batch 2, 0.19 instead of 7.97; full size, batch 1, 8.98 instead of 31.50.

    A full-size window (three scales of MViTv2-S at 224x384) takes 7.2 MB, a compact one 1.1 MB. The folder's name
    holds a digest of the encoder's weights, so features of other weights are never taken.
    """

    folder: Path

    @classmethod
    def of(cls, root: Path, encoder: nn.Module, config: ModelConfig) -> FeatureCache:
        settings = (config.height, config.width, config.num_frames, config.preprocessing)
        return cls(root / f"{config.video_encoder}-{digest(encoder, settings)[:12]}")

    def path(self, clip: Clip, window: Window) -> Path:
        side = "m" if window.mirrored else ""
        return self.folder / clip.dataset / clip.name / f"{window.index:06d}{side}.safetensors"

    def find(self, clip: Clip, window: Window) -> list[Tensor] | None:
        """float32 scales (c, slots, h, w), fine to coarse; None where they are not there, or not whole."""
        try:
            tensors = load_file(self.path(clip, window))
        except (FileNotFoundError, SafetensorError):
            return None
        return [tensors[name].float() for name in sorted(tensors)]

    def keep(self, clip: Clip, window: Window, scales: list[Tensor]) -> list[Tensor]:
        """Write ``scales`` (c, slots, h, w); what comes back is what :meth:`find` will give."""
        half = [scale.half() for scale in scales]
        save_tensors({f"scale{i}": x for i, x in enumerate(half)}, self.path(clip, window), {})
        return [x.float() for x in half]


def digest(network: nn.Module, settings: tuple) -> str:
    """SHA-256 of what features depend on: a network's weights, and ``settings``."""
    found = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
