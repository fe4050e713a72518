"""Predict a folder, a manifest or an address on Ray: list, do what is missing, report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffsal.cluster.ledger import Ledger
from diffsal.cluster.manifest import is_address, list_items
from diffsal.cluster.report import write_report
from diffsal.cluster.run import Progress, run, start_ray
from diffsal.cluster.spans import remove_drawn
from diffsal.cluster.work import SPAN_SECONDS, Job, missing_results, processor, remove_unfinished
from diffsal.errors import InputError
from diffsal.weights.catalogue import entry_of, find
from diffsal.weights.metadata import sha256_of


def predict_many(
    sources: list[str],
    out: str,
    *,
    address: str | None = None,
    weights: str = "compact",
    write: tuple[str, ...] = ("overlay",),
    limit_seconds: float = 3600.0,
    span_seconds: float = SPAN_SECONDS,
    retry_failed: bool = False,
    settings: dict[str, Any] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, int]:
    """Predict every item of ``sources`` (:func:`diffsal.cluster.manifest.list_items`) with results below ``out``.

    ``out`` is a folder or any address that fsspec writes; its ``ledger.sqlite`` says what is done, so the same call
    again does what is missing. ``write``: ``overlay``, ``maps``, ``npz``, ``json``. ``settings`` are
    :func:`diffsal.predict`'s. A video longer than two spans of ``span_seconds`` is split among the workers and joined
    again, with the same results; 0: none is. The counts of items by state come back; ``report.html`` and
    ``report.json`` lie beside the results. Raises :class:`InputError` for a source or an ``out`` that cannot be used,
    or other settings than the ledger's.
    """
    settings = dict(settings or {})
    if not is_address(out):
        Path(out).mkdir(parents=True, exist_ok=True)
        out = str(Path(out).absolute())
    digest = sha256_of(find(weights))
    with Ledger(out) as ledger:
        ledger.settings({"weights": digest, "write": sorted(write), **settings})
        remove_unfinished(out)
        ledger.add(item for source in sources for item in list_items(_absolute(source)))
        ledger.forget(list(missing_results(out, ledger.rows("done"), write)))
        if retry_failed:
            ledger.retry_failed()
        if ledger.counts()["waiting"]:
            ray = start_ray(address)
            found_there = entry_of(weights) is not None or is_address(weights)
            data = None if found_there else ray.put(Path(weights).read_bytes())
            job = Job(out, weights, tuple(write), settings, data, span_seconds)
            run(ledger, processor(job), address=address, limit_seconds=limit_seconds, on_progress=on_progress,
                on_joined=lambda item: remove_drawn(out, item))
        remove_unfinished(out)
        counts = ledger.counts()
        if not counts["waiting"]:
            remove_drawn(out)
        write_report(ledger, out)
    if not sum(counts.values()):
        raise InputError(f"{', '.join(sources)}: holds nothing to predict")
    return counts


def _absolute(source: str) -> str:
    return source if is_address(source) else str(Path(source).absolute())
