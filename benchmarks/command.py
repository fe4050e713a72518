"""``diffsal predict`` as a user types it, beside an earlier revision's: start-up, speed, memory.

    python benchmarks/command.py [--before CHECKOUT] [--seconds 60] [--repeats 2] [--large]

Videos of 640x360 with sound, a second and ``--seconds`` long, and with ``--large`` three seconds of 4K; each through
the command in a process of its own, this revision and that of ``--before`` (a checkout with an environment in .venv)
in turn. Reported: seconds by the clock, processor seconds, and the peak of resident memory. The clock is worth reading
on an idle machine only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from multiprocessing import get_context
from pathlib import Path

from memory import write_video
from realtime import machine

FRAME_RATE = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    commands = {"now": Path(sys.executable).with_name("diffsal")}
    if options.before:
        commands = {"before": options.before / ".venv/bin/diffsal", **commands}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = [("1 s, 640x360", 1.0, (360, 640)), (f"{options.seconds:g} s, 640x360", options.seconds, (360, 640))]
        videos += [("3 s, 3840x2160", 3.0, (2160, 3840))] if options.large else []
        for label, seconds, size in videos:
            path = folder / "video.mp4"
            # In a process of its own: a command that is started here counts this process's peak as its own
            writer = get_context("spawn").Process(target=write_video, args=(path, seconds / 60, FRAME_RATE, *size))
            writer.start()
            writer.join()
            for which, command in [*commands.items()] * options.repeats:
                clock, processor, peak = run([command, "predict", path, "-o", folder / "overlay.mp4", "--force"])
                frames = seconds * FRAME_RATE
                print(f"{label:16} {which:7} {clock:7.2f} s by the clock = {frames / clock:5.1f} frames per second; "
                      f"{processor:7.2f} s of processor time, {1e3 * processor / frames:6.1f} ms a frame; "
                      f"peak {peak:5.0f} MB", flush=True)
        for which, command in [*commands.items()] * options.repeats:
            print(f"--help           {which:7} {run([command, '--help'])[0]:7.2f} s by the clock")
    print(f"{machine()}; {date.today()}")


def run(command: list[object]) -> tuple[float, float, float]:
    """One command: seconds by the clock, processor seconds, peak in MB."""
    began = time.perf_counter()
    process = subprocess.Popen([str(x) for x in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    assert process.stderr is not None
    if status:
        raise SystemExit(f"{command} failed: {process.stderr.read().decode()}")
    scale = 1024**2 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale


if __name__ == "__main__":
    main()
