"""Clips per second of a training step on this machine's CPU: the compact and the full-size network.

    python benchmarks/training.py [--threads 2] [--steps 3]

One step is Algorithm 1 on random pixels: encoders, Saliency-UNet, backward pass, clipping, optimiser; no reading of
files. "frozen" leaves out the video encoder, whose features come from the disk (``frozen=video jitter=false
cache_features=true``), from the second epoch on. Prints the best of ``steps``: seconds per step and clips per second,
and the processor's seconds, which hold on a machine that others use too.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from diffsal.config import ModelConfig
from diffsal.media.mel import window_shape
from diffsal.networks.diffsal import DiffSal
from diffsal.training.config import DatabaseConfig
from diffsal.training.objective import squared_error
from diffsal.training.phase import Denoiser
from diffsal.training.recipes import RECIPES
from diffsal.training.trainable import checkpoint_gradients, freeze, train_mode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", help="one row, by the beginning of its name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compact, dhf1k = RECIPES["compact"]()[0], RECIPES["dhf1k"]()[0]
    rows = (
        ("compact, batch 2", compact, 2, False, False), ("compact, batch 2, frozen", compact, 2, True, False),
        ("full size, batch 1", dhf1k, 1, False, False), ("full size, batch 1, checkpointed", dhf1k, 1, False, True),
        ("full size, batch 1, frozen", dhf1k, 1, True, False),
    )
    print(f"{options.threads} threads, torch {torch.__version__}, best of {options.steps} steps")
    print(f"{'network':34} {'s/step':>8} {'clips/s':>8} {'CPU s/step':>11}")
    for name, config, batch, frozen, checkpointed in rows:
        if options.only and not name.startswith(options.only):
            continue
        seconds, cpu = measure(config, batch, frozen, checkpointed, options.steps)
        print(f"{name:34} {seconds:8.2f} {batch / seconds:8.3f} {cpu:11.2f}", flush=True)


def measure(config: ModelConfig, batch: int, frozen: bool, checkpointed: bool, steps: int) -> tuple[float, float]:
    """Seconds, by the clock and the processor, of the quickest of ``steps`` steps, after one that is not counted."""
    torch.manual_seed(0)
    parts = ("video", "audio") if frozen else ()
    model = DiffSal(config)
    freeze(model, parts)
    train_mode(model, parts, "batch")
    if checkpointed:
        checkpoint_gradients(model.video_encoder)
    denoiser = Denoiser(model)
    training = DatabaseConfig()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=training.learning_rate)
    frames = torch.randint(0, 255, (batch, config.num_frames, config.height, config.width, 3), dtype=torch.uint8)
    mel = torch.randn(batch, *window_shape(config.audio_encoder)) if config.audio_encoder else None
    target, heard = torch.rand(batch, 1, config.height, config.width), torch.ones(batch, dtype=torch.bool)
    with torch.no_grad():
        scales = kept(denoiser, frames) if frozen else None
    times = []
    for _ in range(steps + 1):
        began = time.perf_counter(), time.process_time()
        t = torch.randint(0, model.schedule.num_timesteps, (batch,))
        x_t = model.schedule.add_noise(target, torch.randn_like(target), t)
        x_0 = denoiser(x_t, t, None if frozen else frames, scales, mel, heard, heard)
        squared_error(x_0, target).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return min(t for t, _ in times[1:]), min(t for _, t in times[1:])


def kept(denoiser: Denoiser, frames: Tensor) -> list[Tensor]:
    """What the cache keeps of a window: its scales, or its frames' features."""
    if not denoiser.model.encodes_frames:
        return denoiser.encode(frames)
    of_frames = denoiser.model.encode_frames(denoiser.normalise(frames).flatten(0, 1).movedim(3, 1))
    return [x.unflatten(0, frames.shape[:2]).transpose(1, 2) for x in of_frames]


if __name__ == "__main__":
    main()
