"""End-to-end frames per second of ``diffsal predict``, and where each millisecond goes.

    python benchmarks/realtime.py [CLIP] [--weights compact] [--engine auto] [--steps 1] [--repeats 3]

The default clip is ``examples/bigbuckbunny.mp4``: 640x360, 125 frames, sound. The first table is each part on its own,
in processor time on one thread; then everything overlaps as in the command. Run it on an idle machine: of a busy one,
processor time alone is worth reading. ``benchmarks/command.py`` compares the command with an earlier revision's.
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

from diffsal.config import SamplingConfig
from diffsal.media.source import open_source
from diffsal.outputs.overlay import Overlayer, VideoWriter
from diffsal.outputs.render import Outputs, render
from diffsal.prediction.finish import brightness
from diffsal.prediction.hearing import Hearing
from diffsal.prediction.maps import FinishedMaps, enlarge
from diffsal.prediction.noise import frame_noise
from diffsal.prediction.pipeline import Stream, Window, sound_for, usual_every
from diffsal.prediction.plan import Plan
from diffsal.runtime.loading import load_engine

TARGET_FPS = 60
BATCH = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=Path(__file__).parents[1] / "examples/bigbuckbunny.mp4")
    parser.add_argument("--weights", default="compact")
    parser.add_argument("--engine", default="auto", choices=("auto", "onnx", "torch"))
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    began = time.perf_counter()
    engine = load_engine(options.weights, options.engine)
    print(f"weights: {time.perf_counter() - began:.2f} s after this script's own imports")
    parts = measure_parts(engine, options.clip, options.steps)
    total = sum(parts.values())
    for name, milliseconds in parts.items():
        print(f"  {name:<28}{milliseconds:9.2f} ms/frame {100 * milliseconds / total:5.1f} %")
    every = usual_every(engine, open_source(options.clip))
    per_map = sum(ms for name, ms in parts.items() if name.endswith("*"))
    print(f"  {'sum, every frame predicted':<28}{total:9.2f} ms/frame")
    print(f"  {f'sum, * for one frame of {every}':<28}{total - per_map + per_map / every:9.2f} ms/frame")
    runs = [end_to_end(engine, options.clip, options.steps) for _ in range(options.repeats)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    best, processor = min(r[0] for r in runs), min(r[1] for r in runs)
    print(f"end to end, best of {options.repeats}: {1e3 * best:.2f} ms/frame = {1 / best:.1f} frames per second, "
          f"target {TARGET_FPS}; {1e3 * processor:.2f} ms/frame of processor time; peak {peak:.0f} MB")
    print(f"{options.clip.name}, {options.weights}, {options.steps} step(s), {type(engine).__name__}; {machine()}; "
          f"{date.today()}")


def measure_parts(engine, clip: Path, steps: int) -> dict[str, float]:
    """Milliseconds per frame of each part, alone; an asterisk marks what only predicted frames need."""
    config, parts, source = engine.config, {}, open_source(clip)
    frames: list = []
    parts["decode"] = timed(lambda: frames.extend(source.frames()), 1)
    count = len(frames)
    parts["decode"] /= count
    sounds: list = []
    parts["decode sound"] = timed(lambda: sounds.append(sound_for(engine, source)), 1) / count
    size, small, change = (config.width, config.height), [], []
    preprocessing = config.preprocessing
    parts["resize"] = timed(
        lambda: small.extend(cv2.resize(f.image, size, interpolation=cv2.INTER_AREA) for f in frames), 1) / count
    parts["brightness"] = timed(
        lambda: change.extend(brightness(x, preprocessing.mean, preprocessing.std) for x in small), 1) / count
    hearing = Hearing(config, engine.finish, sounds[0], source.frame_rate, count)
    parts["change against loudness"] = timed(
        lambda: [hearing.add(f, b) for f, b in zip(frames, change, strict=True)], 1) / count
    images = np.stack(small[:BATCH])
    parts["encode frames *"] = timed(lambda: engine.encode_frames(images), 8) / BATCH
    numbers = range(40, 40 + BATCH) if count > 60 else range(BATCH)
    heard = []
    parts["sound of windows *"] = timed(lambda: heard.extend(hearing.of(frames[i], i + 7) for i in numbers), 1) / BATCH
    stream = Stream(engine, source, Plan(config.num_frames), [None], BATCH)
    slots = list(engine.encode_frames(np.stack(small[: config.num_frames : engine.frame_step])))
    window_change = np.stack((change * config.num_frames)[: config.num_frames])
    windows = [Window(frames[i], slots, window_change, (h,)) for i, h in zip(numbers, heard, strict=True)]
    if heard[0].mel is not None:
        mels = np.stack([h.mel for h in heard])
        parts["encode sound *"] = timed(lambda: engine.encode_sound(mels), 8) / BATCH
    both = np.stack([window_change] * BATCH) if engine.encodes_frames else None
    parts["mix windows *"] = timed(
        lambda: engine.encode_windows([slots] * BATCH, both, None), 8) / BATCH
    parts["noise *"] = timed(lambda: [frame_noise(config.height, config.width, 0, i) for i in range(BATCH)], 5) / BATCH
    sampling, raw = SamplingConfig(steps), []
    everything = timed(lambda: raw.append(stream.draw(windows, sampling)), 8) / BATCH
    done = ("encode sound *", "mix windows *", "noise *")
    parts[f"denoise, {steps} step(s) *"] = everything - sum(parts.get(name, 0) for name in done)
    finished = []
    parts["finish *"] = timed(
        lambda: finished.extend(stream.finished(w, raw[0][0], w.heard[0]) for w in windows * 5), 1) / (5 * BATCH)
    shape = frames[0].image.shape[:2]
    maps = stream.enlarged(FinishedMaps(frames[0], finished[0])).maps
    parts["enlarge the map"] = timed(lambda: [enlarge(maps[0], shape) for _ in frames], 1) / count
    saliency = enlarge(maps[0], shape)
    overlayer, drawn = Overlayer(), []
    parts["colour"] = timed(lambda: drawn.extend(overlayer.draw(f.image, saliency) for f in frames), 1) / count
    parts["write video and sound"] = timed(lambda: write_all(source, frames, drawn), 1) / count
    return parts


def write_all(source, frames, drawn) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = VideoWriter(Path(folder) / "a.mp4", source)
        for frame, image in zip(frames, drawn, strict=True):
            writer.write(frame, image)
        writer.close()


def end_to_end(engine, clip: Path, steps: int) -> tuple[float, float]:
    """Seconds per frame of everything together, overlay with sound included; by the wall clock and the processor's."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter(), time.process_time()
        result = render(engine, str(clip), Outputs(overlay=Path(folder) / "a.mp4"), steps=steps)
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
    """The processor's name, as far as the system tells."""
    import onnxruntime

    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
             ] if info.exists() else []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {name}, onnxruntime {onnxruntime.__version__}"


if __name__ == "__main__":
    main()
