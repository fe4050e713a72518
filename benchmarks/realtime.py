"""End-to-end frames per second of ``diffsal predict``, and where each millisecond goes.

    python benchmarks/realtime.py [CLIP] [--weights compact] [--steps 1] [--repeats 3]

The default clip is ``examples/bigbuckbunny.mp4``: 640x360, 125 frames, sound. The first table is each part on its own,
in processor time on one thread; then everything overlaps as in the command. Run it on an idle machine: of a busy one,
processor time alone is worth reading.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch
from diffsal.runtime.fused import for_inference

from diffsal.media.mel import MelTrack
from diffsal.media.source import open_source
from diffsal.outputs.overlay import Overlayer, VideoWriter
from diffsal.outputs.render import Outputs, render
from diffsal.prediction.pipeline import frame_noise, usual_every
from diffsal.weights.files import load

TARGET_FPS = 25
BATCH = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=Path(__file__).parents[1] / "examples/bigbuckbunny.mp4")
    parser.add_argument("--weights", default="compact")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    began = time.perf_counter()
    model = load(options.weights)
    print(f"imports and weights: {time.perf_counter() - began:.2f} s after this script's own imports")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        plain = measure_parts(model, options.clip, options.steps)
        parts = measure_parts(for_inference(model), options.clip, options.steps)
    torch.set_num_threads(num_threads)
    print(f"{'':<30}{'plain':>9}{'ours':>9}")
    total = sum(parts.values())
    for name, milliseconds in parts.items():
        print(f"  {name:<28}{plain[name]:9.2f}{milliseconds:9.2f} ms/frame {100 * milliseconds / total:5.1f} %")
    print(f"  {'sum of the parts':<28}{sum(plain.values()):9.2f}{total:9.2f} ms/frame, "
          f"ratio {sum(plain.values()) / total:.2f}")
    every = usual_every(model, open_source(options.clip))
    network = sum(ms for name, ms in parts.items() if name.startswith(("encode", "mix", "mel", "noise", "denoise")))
    print(f"  of every {every} frames one through the network: {total - network + network / every:.2f} ms/frame")
    runs = [end_to_end(model, options.clip, options.steps) for _ in range(options.repeats)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    best, processor = min(r[0] for r in runs), min(r[1] for r in runs)
    print(f"end to end, best of {options.repeats}: {1e3 * best:.2f} ms/frame = {1 / best:.1f} frames per second; "
          f"{1 / best / TARGET_FPS:.2f} times the target of {TARGET_FPS}; "
          f"{1e3 * processor:.2f} ms/frame of processor time; peak {peak:.0f} MB")
    print(f"{options.clip.name}, {options.weights}, {options.steps} step(s); {machine()}; {date.today()}")


def measure_parts(model, clip: Path, steps: int) -> dict[str, float]:
    """Milliseconds per frame of each part, alone."""
    config, parts = model.config, {}
    source = open_source(clip)
    frames = []
    parts["decode"] = timed(lambda: frames.extend(source.frames()), 1)
    images = [f.image for f in frames]
    count = len(frames)
    parts["decode"] /= count
    sounds = []
    parts["decode sound"] = timed(lambda: sounds.append(source.sound()), 1) / count
    small = []
    size = (config.width, config.height)
    parts["resize"] = timed(
        lambda: small.extend(cv2.resize(i, size, interpolation=cv2.INTER_AREA) for i in images), 1) / count
    pixels = torch.from_numpy(np.stack(small[:BATCH])).permute(0, 3, 1, 2).float().div(255)
    parts["normalise"] = timed(
        lambda: torch.from_numpy(np.stack(small[:BATCH])).permute(0, 3, 1, 2).float().div(255), 5) / BATCH
    if model.encodes_frames:
        parts["encode frames"] = timed(lambda: model.encode_frames(pixels), 5) / BATCH
        held = [torch.cat([x] * 16) for x in model.encode_frames(pixels)]
        windows = [x[: BATCH + 15].unfold(0, 16, 1).movedim(-1, 2) for x in held]
        parts["mix windows"] = timed(lambda: model.encode_window(windows, None), 5) / BATCH
        features = model.encode_window(windows, None)
    else:
        video = torch.stack([pixels.repeat(2, 1, 1, 1).transpose(0, 1)] * BATCH)
        parts["encode windows"] = timed(lambda: model.encode(video, None), 2) / BATCH
        features = model.encode(video, None)
    mels = MelTrack(config, sounds[0])
    if sounds[0] is not None and model.audio_encoder is not None:
        parts["mel"] = timed(lambda: [mels.window(f.seconds, source.frame_rate, f.index) for f in frames], 1) / count
        mel = torch.from_numpy(np.stack([mels.window(f.seconds, source.frame_rate, f.index) for f in frames[:BATCH]]))
        parts["encode sound"] = timed(lambda: model.audio_encoder(mel), 5) / BATCH
        features = model.encode_window(windows, mel) if model.encodes_frames else model.encode(video, mel)
    parts["noise"] = timed(lambda: [frame_noise(config.height, config.width, 0, i) for i in range(BATCH)], 5) / BATCH
    noise = torch.stack([frame_noise(config.height, config.width, 0, i) for i in range(BATCH)])
    parts[f"denoise, {steps} step(s)"] = timed(lambda: model.sample(features, noise, steps), 5) / BATCH
    small_map = model.sample(features, noise, steps)[0, 0].numpy()
    shape = images[0].shape[1::-1]
    parts["enlarge the map"] = timed(lambda: [cv2.resize(small_map, shape) for _ in images], 1) / count
    saliency = cv2.resize(small_map, shape)
    overlayer, drawn = Overlayer(), []
    parts["colour"] = timed(lambda: drawn.extend(overlayer.draw(i, saliency) for i in images), 1) / count
    parts["write video and sound"] = timed(lambda: write_all(source, frames, drawn), 1) / count
    return parts


def write_all(source, frames, drawn) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = VideoWriter(Path(folder) / "a.mp4", source)
        for frame, image in zip(frames, drawn, strict=True):
            writer.write(frame, image)
        writer.close()


def end_to_end(model, clip: Path, steps: int) -> tuple[float, float]:
    """Seconds per frame of everything together, overlay with sound included; by the wall clock and the processor's."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter(), time.process_time()
        result = render(model, str(clip), Outputs(overlay=Path(folder) / "a.mp4"), steps=steps)
        return (time.perf_counter() - began[0]) / result.frames, (time.process_time() - began[1]) / result.frames


def timed(action: Callable[[], object], repeats: int) -> float:
    """Milliseconds, best of ``repeats`` (after one to warm up, where there are several)."""
    best = float("inf")
    for _ in range(repeats + (repeats > 1)):
        began = time.process_time()
        action()
        best = min(best, time.process_time() - began)
    return 1e3 * best


def machine() -> str:
    """The processor's name, as far as the system tells, and how torch uses it."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
             ] if info.exists() else []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {name}, torch {torch.__version__} with {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
