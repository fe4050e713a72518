"""The full-size network on a CPU: its plain formulation against the copy that predicts, side by side in one process.

    python benchmarks/full_size.py [--threads 2] [--repeats 2] [--no-sound] [--bfloat16] [--try-int8] [--try-compile]

Weights are random: time does not depend on them. Plain: attention matrices made, one depth-wise Conv3d per projection,
every slot at every step. ``--bfloat16`` is for machines whose CPU computes in it (AVX512-BF16, AMX); dynamic int8 and
``torch.compile`` are tried on request. Both clocks are printed: on a busy machine, processor time is the one to read.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import date

import torch
from diffsal.runtime.fused import for_inference
from realtime import machine
from torch import nn

from diffsal.config import ModelConfig
from diffsal.networks.diffsal import DiffSal

TARGET, MOST_FOUR_STEPS = 2.0, 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--no-sound", action="store_true")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--try-int8", action="store_true")
    parser.add_argument("--try-compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = DiffSal(ModelConfig(audio_encoder=None if options.no_sound else "vggish")).eval()
    model.video_encoder.use_plain(True)
    video, noise = torch.randn(1, 3, 16, 224, 384), torch.randn(1, 1, 224, 384)
    mel = None if options.no_sound else torch.randn(1, 1, 9, 112, 192)
    with torch.inference_mode():
        plain = measure("plain", model, video, mel, noise, options.repeats)
        model.video_encoder.use_plain(False)
        fast = measure("fast", for_inference(model), video, mel, noise, options.repeats)
        difference = (plain["map"] - fast["map"]).abs().max().item()
        for clock in ("wall", "processor"):
            one, four = (plain[n][clock] / fast[n][clock] for n in (1, 4))
            steps = fast[4][clock] / fast[1][clock]
            print(f"{clock}: one window {plain[1][clock]:.2f} s -> {fast[1][clock]:.2f} s, {one:.2f} times as fast "
                  f"(target {TARGET}); four steps {four:.2f} times, and {steps:.2f} times one step "
                  f"(at most {MOST_FOUR_STEPS})")
        print(f"largest difference of the maps {difference:.1e}")
        if options.bfloat16:
            low = for_inference(model).bfloat16()
            cast = [x if x is None else x.bfloat16() for x in (video, mel, noise)]
            measure("bfloat16", low, *cast, options.repeats)
        if options.try_int8:
            names = {n for n, m in model.named_modules() if isinstance(m, nn.Linear)
                     and n.startswith(("video_encoder.", "unet.stages.")) and not n.endswith(".qkv")}
            config = dict.fromkeys(names, torch.ao.quantization.default_dynamic_qconfig)  # Q, K, V read their weights
            int8 = torch.ao.quantization.quantize_dynamic(model, config)
            found = measure("dynamic int8 of the linear layers", int8, video, mel, noise, options.repeats)
            both = torch.stack([found["map"].flatten(), fast["map"].flatten()])
            print(f"  correlation with float32: {torch.corrcoef(both)[0, 1]:.4f}")
        if options.try_compile:
            compiled = for_inference(model)
            compiled.video_encoder = torch.compile(compiled.video_encoder)
            measure("torch.compile of the encoder", compiled, video, mel, noise, options.repeats)
    print(f"{'video' if options.no_sound else 'video and sound'}; {machine()}; {date.today()}")


def measure(name: str, model: DiffSal, video, mel, noise, repeats: int) -> dict:
    """Seconds of both clocks for one step and four, encoding included; and the map after one step."""
    seconds, features = best(lambda: model.encode(video, mel), repeats)
    print(f"{name}: encode {seconds['wall']:.2f} s wall, {seconds['processor']:.2f} s processor", flush=True)
    found: dict = {}
    for steps in (1, 4):
        denoise, x_0 = best(lambda n=steps: model.sample(features, noise, n), repeats)
        print(f"{name}: {steps} step(s) {denoise['wall']:.2f} s wall, {denoise['processor']:.2f} s processor",
              flush=True)
        found[steps] = {clock: seconds[clock] + denoise[clock] for clock in seconds}
        found.setdefault("map", x_0)
    return found


def best(action: Callable, repeats: int) -> tuple[dict[str, float], object]:
    """The least seconds of ``repeats`` runs after one to warm up, by both clocks, and the result."""
    result, least = action(), {"wall": float("inf"), "processor": float("inf")}
    for _ in range(repeats):
        began = time.perf_counter(), time.process_time()
        result = action()
        least["wall"] = min(least["wall"], time.perf_counter() - began[0])
        least["processor"] = min(least["processor"], time.process_time() - began[1])
    return least, result


if __name__ == "__main__":
    main()
