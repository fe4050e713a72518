"""Throughput of a full-size training step on one NVIDIA GPU, and its share of the chip's peak. NOT RUN YET.

    python benchmarks/training_gpu.py [--batch 16] [--peak 989e12]

Written for a machine with a GPU; none was at hand, so no figure of it stands anywhere. It times Algorithm 1 on random
pixels in float32, bfloat16, bfloat16 with ``torch.compile``, and that with channels-last convolutions; each line gives
milliseconds per step, clips per second, peak memory, and the share of ``--peak`` (dense bfloat16 operations per second;
989e12 is an H100's, 312e12 an A100's) that the step's multiply-accumulates, forward and backward, come to. These are
counted by torch's FlopCounterMode: convolutions and all matrix products.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext

import torch
from torch.utils.flop_counter import FlopCounterMode

from diffsal.config import ModelConfig
from diffsal.media.mel import window_shape
from diffsal.networks.diffsal import DiffSal
from diffsal.training.objective import squared_error
from diffsal.training.phase import Denoiser
from diffsal.training.recipes import RECIPES
from diffsal.training.trainable import freeze, train_mode

WARM_UP, STEPS = 5, 20
ROWS = (("float32", False, False, False), ("bfloat16", True, False, False), ("bfloat16, compiled", True, True, False),
        ("bfloat16, compiled, channels last", True, True, True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--recipe", default="dhf1k", choices=("dhf1k", "audio_visual", "compact"))
    parser.add_argument("--peak", type=float, default=989e12, help="dense bfloat16 operations per second of the chip")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no NVIDIA GPU here: this benchmark needs one (benchmarks/training.py measures the CPU)")
    config = RECIPES[options.recipe]()[0]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {options.recipe}, batch {options.batch}")
    print(f"{'':36} {'ms/step':>8} {'clips/s':>8} {'GiB':>6} {'peak':>6}")
    for name, half, compiled, channels_last in ROWS:
        milliseconds, operations = measure(config, options.batch, half, compiled, channels_last)
        share = operations / (milliseconds / 1000) / options.peak
        memory = torch.cuda.max_memory_allocated() / 2**30
        clips = options.batch / milliseconds * 1000
        print(f"{name:36} {milliseconds:8.1f} {clips:8.1f} {memory:6.1f} {share:6.1%}", flush=True)


def measure(config: ModelConfig, batch: int, half: bool, compiled: bool, channels_last: bool) -> tuple[float, int]:
    """Milliseconds of a step, mean of ``STEPS``, and its operations (two per multiply-accumulate)."""
    torch.manual_seed(0)
    torch.cuda.reset_peak_memory_stats()
    model = DiffSal(config).cuda()
    freeze(model, ())
    train_mode(model, (), "batch")
    if channels_last:
        model.unet.to(memory_format=torch.channels_last)
    denoiser = Denoiser(model)
    network = torch.compile(denoiser) if compiled else denoiser
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    shape = (batch, config.num_frames, config.height, config.width, 3)
    frames = torch.randint(0, 255, shape, dtype=torch.uint8, device="cuda")
    mel = torch.randn(batch, *window_shape(config.audio_encoder), device="cuda") if config.audio_encoder else None
    target = torch.rand(batch, 1, config.height, config.width, device="cuda")
    heard, t = torch.ones(batch, dtype=torch.bool, device="cuda"), torch.full((batch,), 500, device="cuda")

    def step(called: torch.nn.Module) -> None:
        x_t = model.schedule.add_noise(target, torch.randn_like(target), t)
        with torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
            x_0 = called(x_t, t, frames, None, mel, heard, heard)
        squared_error(x_0.float(), target).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    counter = FlopCounterMode(display=False)
    with counter:
        step(denoiser)
    for _ in range(WARM_UP):
        step(network)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(STEPS):
        step(network)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / STEPS, counter.get_total_flops()


if __name__ == "__main__":
    main()
