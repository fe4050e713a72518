"""`diffsal predict … --cluster` and `evaluate … --cluster`: from the command line to :mod:`diffsal.cluster`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffsal.scoring.jobs import Pool

LOCAL = "local"


def with_address(arguments: list[str]) -> list[str]:
    """``--cluster`` alone as ``--cluster=local``: it may stand without an address."""
    done = []
    for index, argument in enumerate(arguments):
        after = arguments[index + 1] if index + 1 < len(arguments) else ""
        names_one = after == "auto" or after == LOCAL or after.startswith("ray://") or _is_host(after)
        done.append(f"--cluster={LOCAL}" if argument == "--cluster" and not names_one else argument)
    return done


def _is_host(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(colon and host and port.isdigit() and "/" not in text)


def pool_at(cluster: str) -> Pool:
    """What shares the clips of an evaluation among the machines of a cluster."""
    from diffsal.cluster.evaluate import pool_on_ray

    return pool_on_ray(None if cluster == LOCAL else cluster)


def predict_on_cluster(
    inputs: list[str], out: str, cluster: str, weights: str, write: list[str], retry_failed: bool,
    limit_seconds: float, span_seconds: float, settings: dict[str, Any],
) -> int:
    """Run it with a line of progress; the exit code: 1 where an item failed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from diffsal.cluster import run
    from diffsal.cluster.predict import predict_many
    from diffsal.cluster.report import plain

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn(),
               TextColumn("{task.fields[failed]} failed", markup=False))
    said: list[float] = [0.0, 0.0]  # failed so far, seconds at the last line
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("items", total=None, speed="", failed=0)

        def show(now: run.Progress) -> None:
            speed = f"{now.frames / max(now.elapsed_seconds, 1e-9):.0f} frames/s"
            bar.update(task, total=now.total, completed=now.done + now.failed, speed=speed, failed=now.failed)
            if now.failed > said[0] and now.last_line:
                print(f"diffsal: {plain(now.last_line)}", file=sys.stderr)
                said[0] = now.failed
            if not console.is_terminal and now.elapsed_seconds - said[1] > 30:
                print(f"{now.done + now.failed} of {now.total} items, {now.failed} failed, {speed}", file=sys.stderr)
                said[1] = now.elapsed_seconds

        counts = predict_many(
            inputs, out, address=None if cluster == LOCAL else cluster, weights=weights, write=tuple(write),
            limit_seconds=limit_seconds, span_seconds=span_seconds, retry_failed=retry_failed, settings=settings,
            on_progress=show)
    print(f"{counts['done']} items done, {counts['failed']} failed → {out}; see report.html there")
    return int(counts["failed"] > 0 or counts["waiting"] > 0)
