"""Windows per second of both networks on one GPU in bfloat16, eager, compiled, and as a share of the chip's peak.

    python benchmarks/full_size_gpu.py [--peak-tflops 989] [--batch 8] [--repeats 20]

``--peak-tflops`` is the chip's dense bfloat16 peak (989: H100 SXM). Random weights; decoding is not in the figure.
"""

from __future__ import annotations

import argparse
import time
from datetime import date

import torch
from torch.utils.flop_counter import FlopCounterMode

from diffsal.config import ModelConfig
from diffsal.media.mel import window_shape
from diffsal.networks.diffsal import DiffSal
from diffsal.training.recipes import compact

TARGET_SHARE = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peak-tflops", type=float, default=989)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU here: nothing was measured")
    measure("full-size", ModelConfig(), options)
    measure("compact", compact().model, options)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {date.today()}")


@torch.inference_mode()
@torch.autocast("cuda", torch.bfloat16)
def measure(name: str, config: ModelConfig, options: argparse.Namespace) -> None:
    model = DiffSal(config).cuda().eval()
    encoder, batch = model.video_encoder, options.batch
    video = torch.randn(batch, 3, 16, config.height, config.width, device="cuda")
    mel = torch.randn(batch, *window_shape(config.audio_encoder), device="cuda")
    noise = torch.randn(batch, 1, config.height, config.width, device="cuda")
    with FlopCounterMode(display=False) as counter:
        encoder(video)
    for how in ("eager", "compiled"):
        if how == "compiled":
            encoder.forward = torch.compile(encoder.forward, mode="max-autotune")
        seconds = timed(lambda: encoder(video), options.repeats)
        share = counter.get_total_flops() / seconds / options.peak_tflops / 1e12
        print(f"{name}, encoder, {how}: {batch / seconds:.1f} windows/s, {100 * share:.1f} % of the peak "
              f"(target {100 * TARGET_SHARE:.0f} %)", flush=True)
        torch.cuda.reset_peak_memory_stats()
        seconds = timed(lambda: model.sample(model.encode(video, mel), noise), options.repeats)
        print(f"{name}, one step, {how}: {batch / seconds:.1f} windows/s, "
              f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB at most", flush=True)


def timed(action, repeats: int) -> float:
    """Seconds per call, after three to warm up."""
    for _ in range(3):
        action()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        action()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats


if __name__ == "__main__":
    main()
