"""Does memory grow with a video's length? Peak of a 30-minute video against that of a 1-minute one.

    python benchmarks/memory.py [--weights compact] [--minutes 30] [--frame-rate 25] [--size 90x160]

Makes both videos with sound, renders each in a process of its own (overlay with sound), and prints both peaks and
their difference. Without ``--weights`` a network of the compact kind but of 64x96 pixels, untrained, stands in: what
could grow is the video's and the sound's, and the whole takes minutes instead of an hour.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import tempfile
import time
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ALLOWED_MEGABYTES = 100
SOUND_RATE = 44_100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--frame-rate", type=int, default=25)
    parser.add_argument("--size", default="90x160", help="HEIGHTxWIDTH")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (1.0, options.minutes):
            path = write_video(Path(folder) / f"{minutes:g}.mp4", minutes, options.frame_rate, height, width)
            began = time.perf_counter()
            frames, peaks[minutes] = in_a_process(path, options.weights)
            seconds = time.perf_counter() - began
            each = 1e3 * seconds / frames
            peak = peaks[minutes]
            print(f"{minutes:5g} min  {frames:6d} frames  peak {peak:7.1f} MB  {each:6.2f} ms/frame", flush=True)
    growth = peaks[options.minutes] - peaks[1.0]
    ratio, machine = peaks[options.minutes] / peaks[1.0], platform.processor() or platform.machine()
    print(f"growth {growth:.1f} MB (allowed {ALLOWED_MEGABYTES}); ratio {ratio:.3f}; "
          f"{options.weights or 'stand-in'}, {options.size}; {machine}, {date.today()}")
    raise SystemExit(growth > ALLOWED_MEGABYTES)


def write_video(path: Path, minutes: float, frame_rate: int, height: int, width: int) -> Path:
    """A moving bar and a warbling tone."""
    rng = np.random.default_rng(0)
    pictures = []
    for i in range(32):
        image = rng.integers(90, 120, (height, width, 3), np.uint8)
        image[:, i * width // 32 : i * width // 32 + 6] = (250, 200, 30)
        pictures.append(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=frame_rate, options={"preset": "ultrafast", "crf": "32"})
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        sound = container.add_stream("aac", rate=SOUND_RATE, layout="stereo")
        samples = 0
        for index in range(round(minutes * 60 * frame_rate)):
            frame = pictures[index % len(pictures)]
            frame.pts, frame.time_base = index, Fraction(1, frame_rate)
            container.mux(video.encode(frame))
            while samples / SOUND_RATE < (index + 1) / frame_rate:
                t = (samples + np.arange(1024)) / SOUND_RATE
                wave = np.tile(0.3 * np.sin(2 * np.pi * (300 + 40 * np.sin(t)) * t), (2, 1)).astype(np.float32)
                chunk = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
                chunk.sample_rate, chunk.pts, chunk.time_base = SOUND_RATE, samples, Fraction(1, SOUND_RATE)
                container.mux(sound.encode(chunk))
                samples += 1024
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def in_a_process(path: Path, weights: str | None) -> tuple[int, float]:
    """Frames rendered and the process's peak resident memory in MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(render_and_measure, (path, weights))


def render_and_measure(path: Path, weights: str | None) -> tuple[int, float]:
    import resource

    from diffsal.outputs.render import Outputs, render
    from diffsal.runtime.loading import load_engine

    model = load_engine(weights) if weights else stand_in()
    result = render(model, str(path), Outputs(overlay=path.with_suffix(".saliency.mp4")))
    scale = 1024 if platform.system() == "Linux" else 1024**2
    return result.frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def stand_in():
    """A network of the compact kind but of 64x96 pixels, untrained."""
    import torch

    from diffsal.networks.diffsal import DiffSal
    from diffsal.training.recipes import compact

    torch.manual_seed(0)
    return DiffSal(replace(compact()[0], height=64, width=96))


if __name__ == "__main__":
    main()
