"""Does the time per frame grow with a video's length, and what do many short clips cost beside a long one?

    python benchmarks/scale.py [--seconds 10,60,300] [--clips 12] [--weights compact]

Videos of 640x360 with sound, one after another through ``diffsal predict`` as a user types it, start-up included; then
``--clips`` clips of five seconds in a folder beside as many seconds in one file, and the maps of both ways of giving
three of them. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from memory import write_video
from realtime import machine

FRAME_RATE, SHORT_SECONDS = 25, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", default="10,60,300")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--weights", default="compact")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seconds in map(float, options.seconds.split(",")):
            video = make(folder / f"{seconds:g}s.mp4", seconds)
            report(f"one video of {seconds:g} s", predict(options, video), seconds)
        clips = [make(folder / f"clips/{i:02d}.mp4", SHORT_SECONDS) for i in range(options.clips)]
        seconds = options.clips * SHORT_SECONDS
        many = predict(options, folder / "clips", "-o", folder / "overlays")
        report(f"{options.clips} clips of {SHORT_SECONDS} s in a folder", many, seconds)
        one = predict(options, make(folder / "long.mp4", seconds))
        report(f"one video of {seconds} s", one, seconds)
        print(f"many short clips take {many[0] / one[0]:.2f} times as long as one long one")
        predict(options, *clips[:3], "--only-maps", "--maps", folder / "together")
        for clip in clips[:3]:
            predict(options, clip, "--only-maps", "--maps", folder / "alone" / clip.stem)
        same = digest(folder / "together") == digest(folder / "alone")
        print(f"maps of three clips given together and one by one: {'the same' if same else 'DIFFERENT'}")
    print(f"{options.weights}; {machine()}; {date.today()}")


def make(path: Path, seconds: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    return write_video(path, seconds / 60, FRAME_RATE, 360, 640)


def predict(options: argparse.Namespace, *arguments: object) -> tuple[float, float, float]:
    """One command: seconds by the clock, processor seconds, peak in MB."""
    command = [sys.executable, "-m", "diffsal.cli", "predict", *map(str, arguments), "--weights", options.weights]
    began = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def report(name: str, measured: tuple[float, float, float], seconds: float) -> None:
    clock, processor, peak = measured
    frames = seconds * FRAME_RATE
    print(f"{name:<28} {clock:7.1f} s = {frames / clock:5.1f} frames per second, {1e3 * clock / frames:6.2f} ms a "
          f"frame ({1e3 * processor / frames:6.2f} of processor time), peak {peak:.0f} MB", flush=True)


def digest(folder: Path) -> dict[str, str]:
    """Name and content of every file below."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
