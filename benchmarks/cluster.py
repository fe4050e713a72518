"""What many machines cost and give: scheduling, short clips on two nodes, long videos in spans.

    python benchmarks/cluster.py simulate 100000 [--mixed]
    python benchmarks/cluster.py speed [--clips 200] [--seconds 1] [--kill]
    python benchmarks/cluster.py spans [--seconds 60]

``simulate``: an engine that does nothing, the real ledger and the real Ray. ``--mixed``: sizes from kilobytes to
gigabytes, the large ones split into spans.

``speed``: clips with sound through one process on one core, then through a cluster of two nodes of one core each;
with ``--kill`` the second node is killed when a third is done. The results must be the same bytes. Ideal is a cluster
whose cores, as long as they are there, each work as fast as the one process.

``spans``: one long video whole, and as spans that are drawn and joined, each on one core.

Run it on an idle machine; ``--out FOLDER`` keeps what was made.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from memory import write_video
from realtime import machine

FRAME_RATE, HEIGHT, WIDTH = 25, 180, 320
NODE_CORES = (0, 1)
SEED = 7
WATCH_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("simulate")
    one.add_argument("items", type=int)
    one.add_argument("--mixed", action="store_true")
    two = commands.add_parser("speed")
    two.add_argument("--clips", type=int, default=200)
    two.add_argument("--seconds", type=float, default=1.0)
    two.add_argument("--kill", action="store_true")
    three = commands.add_parser("spans")
    three.add_argument("--seconds", type=float, default=60.0)
    for command in (one, two, three):
        command.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.out or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        {"simulate": simulate, "speed": speed, "spans": spans}[options.command](options, folder)
    print(f"{machine()}; {date.today()}")


def simulate(options: argparse.Namespace, folder: Path) -> None:
    """Seconds, memory of the leading process and of Ray's object store, size of the ledger."""
    from diffsal.cluster.ledger import FILE_NAME, Ledger
    from diffsal.cluster.run import run, start_ray

    watch = Watch(start_ray(None))
    with Ledger(str(folder)) as ledger:
        began = time.perf_counter()
        ledger.add(items(options.items, options.mixed))
        added = time.perf_counter() - began
        began = time.perf_counter()
        with watch:
            run(ledger, nothing, on_progress=watch.look)
        seconds = time.perf_counter() - began
        counts, tasks = ledger.counts(), ledger.totals()[0]
    size = (folder / FILE_NAME).stat().st_size / 2**20
    print(f"{options.items:,} items ({counts}; {tasks:,} tasks of work) in {seconds:.1f} s: "
          f"{options.items / seconds:.0f} items per second, {1e3 * seconds / tasks:.2f} ms a task; adding them "
          f"{added:.1f} s; leading process {watch.leading[0]:.0f} MB at first, {max(watch.leading):.0f} MB at most, "
          f"Ray's object store {max(watch.store):.1f} MB at most; ledger {size:.1f} MB")


def items(count: int, mixed: bool) -> Iterator[Any]:
    """All small; or sizes like those of people's folders, a few videos of an hour among them."""
    import numpy as np

    from diffsal.cluster.manifest import Item

    sizes = np.random.default_rng(SEED).lognormal(15.5, 1.8, count) if mixed else np.full(count, 1e6)
    for number, size in enumerate(sizes):
        yield Item(f"video{number:07d}", f"/videos/{number:07d}.mp4", int(size), "1")


def nothing(tasks: list) -> Iterator[tuple[str, Any]]:
    """As :func:`diffsal.cluster.work.processor`, without media and network: a span for each 100 MB of a large item."""
    from diffsal.cluster.ledger import Record
    from diffsal.cluster.manifest import Span

    for number, item in tasks:
        yield "begun", number
        pieces = item.num_bytes // 100_000_000
        if item.part is None and pieces > 2:
            yield "split", tuple(Span(i * 7500, (i + 1) * 7500 if i < pieces - 1 else None) for i in range(pieces))
        elif isinstance(item.part, Span):
            yield "drawn", (7500, 0.0)
        else:
            done = 1 if item.part is None else len(item.part) + 2
            yield "record", Record(number, "done", "", 0.0, done, hashlib.sha256(item.name.encode()).hexdigest())


class Watch(threading.Thread):
    """Every few seconds the megabytes of this process, and of Ray's object store by its own account."""

    def __init__(self, ray: Any) -> None:
        super().__init__(daemon=True)
        self.address = ray.get_runtime_context().gcs_address
        self.leading: list[float] = []
        self.store: list[float] = []
        self.done, self.ended = 0, threading.Event()

    def look(self, now: Any) -> None:
        self.done = now.done + now.failed

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        import psutil

        while not self.ended.wait(WATCH_SECONDS):
            self.leading.append(psutil.Process().memory_info().rss / 2**20)
            self.store.append(self.object_store())
            print(f"{self.done:>9,} items  leading process {self.leading[-1]:6.1f} MB  object store "
                  f"{self.store[-1]:6.1f} MB", flush=True)

    def object_store(self) -> float:
        program = Path(sys.executable).with_name("ray")
        text = subprocess.run([program, "memory", "--stats-only", "--address", self.address],
                              capture_output=True, text=True, check=False).stdout
        found = [line.split()[3] for line in text.splitlines() if line.startswith("Plasma memory usage")]
        return float(found[0].rstrip(",")) if found else float("nan")


def speed(options: argparse.Namespace, folder: Path) -> None:
    """One process on one core beside a cluster of two nodes of one core each."""
    clips = folder / "clips"
    clips.mkdir(exist_ok=True)
    for number in range(options.clips):
        if not (path := clips / f"{number:04d}.mp4").exists():
            write_video(path, options.seconds / 60, FRAME_RATE, HEIGHT, WIDTH)
    before = busy_seconds()
    alone = one_process(clips, folder / "one")
    others = busy_seconds() - before - alone[1]
    print(f"one process on one core: {alone[0]:.1f} s, of the processor {alone[1]:.1f} s ({others:.1f} s of others)",
          flush=True)
    expected = digest(folder / "one")
    before = busy_seconds()
    seconds, until, at_work = on_two_nodes(clips, folder / "cluster", options.clips, options.kill)
    cores = seconds + (until or seconds)  # core-seconds that there were
    same = digest(folder / "cluster", "ledger.sqlite", ".ledger.sqlite.lock", "report.html", "report.json") == expected
    print(f"two nodes{f', one killed after {until:.1f} s' if until else ''}: {seconds:.1f} s, "
          f"{alone[0] / cores:.3f} of the ideal speed; of {cores:.1f} core-seconds workers were at work on clips that "
          f"came to an end for {at_work:.1f}, {at_work / cores:.3f}; the processors were busy for "
          f"{busy_seconds() - before:.1f} s; results {'the same bytes' if same else 'DIFFERENT'}", flush=True)


def one_process(clips: Path, out: Path) -> tuple[float, float]:
    """``diffsal predict`` of the folder on one core: seconds by the clock and of the processor."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "diffsal.cli", "predict", str(clips), "-o", str(out), "--maps", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                               preexec_fn=lambda: os.sched_setaffinity(0, {NODE_CORES[0]}))
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def on_two_nodes(clips: Path, out: Path, count: int, kill: bool) -> tuple[float, float, float]:
    """Seconds of the run, after how many of them the second node was killed, and those that workers spent on clips.

    The nodes stand before it begins, their workers do not.
    """
    import ray
    from ray.cluster_utils import Cluster

    from diffsal.cluster.ledger import Ledger
    from diffsal.cluster.predict import predict_many

    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {NODE_CORES[0]})  # a node's processes have its core
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    os.sched_setaffinity(0, {NODE_CORES[1]})
    second = cluster.add_node(num_cpus=1)
    os.sched_setaffinity(0, everywhere)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    killed = [0.0]
    began = time.perf_counter()

    def look(now: Any) -> None:
        if kill and not killed[0] and now.done > count / 3:
            killed[0] = time.perf_counter() - began
            threading.Thread(target=cluster.remove_node, args=(second, False)).start()

    settings = {"steps": 1, "seed": 0, "samples": 1, "every": None, "mute": False, "start": None, "end": None,
                "colormap": "inferno", "opacity": 0.7}
    try:
        counts = predict_many([str(clips)], str(out), write=("overlay", "maps"), settings=settings, on_progress=look)
        seconds = time.perf_counter() - began
    finally:
        ray.shutdown()
        cluster.shutdown()
    if counts["done"] != count:
        raise SystemExit(f"{counts}: not all of {count} clips are done")
    with Ledger(str(out)) as ledger:
        return seconds, killed[0], ledger.totals()[1]


def busy_seconds() -> float:
    """Of all processors of this machine, by whomever, since it started."""
    import psutil

    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def spans(options: argparse.Namespace, folder: Path) -> None:
    """Seconds on one core: the whole, each part of the way in spans; and whether the files are the same."""
    from diffsal.config import SamplingConfig
    from diffsal.media.source import open_source
    from diffsal.outputs.render import Outputs, render
    from diffsal.prediction.spans import DrawnMaps, draw_span
    from diffsal.runtime.loading import load_engine

    os.sched_setaffinity(0, {NODE_CORES[0]})
    video = write_video(folder / "long.mp4", options.seconds / 60, FRAME_RATE, 360, 640)
    engine = load_engine("compact")
    num_frames = open_source(str(video)).num_frames or 0
    starts = [i * (num_frames // 4) // 32 * 32 for i in range(4)]
    took = {}

    def measured(name: str, work: Any) -> None:
        began = time.process_time()
        work()
        took[name] = time.process_time() - began
        print(f"{name:<28} {took[name]:7.1f} s, {1e3 * took[name] / num_frames:6.2f} ms a frame", flush=True)

    def made(name: str) -> Outputs:
        (folder / name).mkdir(exist_ok=True)
        return Outputs(folder / name / "long.mp4", folder / name / "maps")

    def drawn() -> DrawnMaps:
        return DrawnMaps([folder / str(start) for start in starts])

    measured("whole", lambda: render(engine, open_source(str(video)), made("whole")))
    measured("four spans drawn", lambda: [
        draw_span(engine, open_source(str(video)), start, stop, folder / str(start), sampling=SamplingConfig())
        for start, stop in zip(starts, [*starts[1:], None], strict=True)])
    measured("joined", lambda: render(engine, open_source(str(video)), made("joined"), drawn=drawn()))
    same = digest(folder / "whole") == digest(folder / "joined")
    size = sum(path.stat().st_size for path in folder.glob("*.maps")) / 2**20
    ratio = (took["four spans drawn"] + took["joined"]) / took["whole"]
    print(f"files {'the same' if same else 'DIFFERENT'}; maps between take {size / options.seconds * 60:.1f} MB a "
          f"minute; spans and joining take {ratio:.2f} times the whole's processor time")


def digest(folder: Path, *but: str) -> dict[str, str]:
    """Name and content of every file below."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in but)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
