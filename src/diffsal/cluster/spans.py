"""Spans of a long video on their way: raw maps below the output's ``.spans``, drawn by some workers, joined by one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffsal.cluster.manifest import Item, Span, file_system, is_address
from diffsal.config import SamplingConfig
from diffsal.media.source import Source
from diffsal.prediction.spans import FRAMES, MAPS, DrawnMaps, draw_span, span_starts
from diffsal.runtime.engine import Engine

FOLDER = ".spans"  # below the output: what was drawn and is not joined yet


def spans_of(engine: Engine, source: Source, settings: dict[str, Any], span_seconds: float) -> tuple[Span, ...]:
    """The spans into which a long video is split; () where it stays whole."""
    if settings.get("start") is not None or settings.get("end") is not None:
        return ()
    starts = span_starts(engine, source, settings.get("every"), span_seconds)
    stops = [*starts[1:], None]
    return tuple(Span(*both) for both in zip(starts, stops, strict=True)) if len(starts) > 1 else ()


def draw(engine: Engine, source: Source, settings: dict[str, Any], out: str, item: Item, span: Span) -> int:
    """Draw one span and store it, each of its two files whole; the number of its frames."""
    spacing = settings.get("spacing") or engine.spacing
    sampling = SamplingConfig(settings.get("steps", 1), spacing, settings.get("seed", 0))
    with tempfile.TemporaryDirectory(prefix="diffsal-") as scratch:
        folder = Path(scratch) if is_address(out) else _folder(out, item)
        folder.mkdir(parents=True, exist_ok=True)
        count = draw_span(
            engine, source, span.start, span.stop, folder / str(span.start), sampling=sampling,
            samples=settings.get("samples", 1), every=settings.get("every"), mute=settings.get("mute", False))
        if is_address(out):
            fs, root = file_system(f"{out.rstrip('/')}/{FOLDER}/{_name(item)}")
            fs.makedirs(root, exist_ok=True)
            for ending in (MAPS, FRAMES):
                fs.put_file(str(folder / f"{span.start}{ending}"), f"{root}/{span.start}{ending}")
    return count


@contextmanager
def drawn_maps(out: str, item: Item, spans: tuple[Span, ...]) -> Iterator[DrawnMaps]:
    """What was drawn of ``item``, copied to this machine for the block where it lies elsewhere."""
    if not is_address(out):
        yield DrawnMaps([_folder(out, item) / str(span.start) for span in spans])
        return
    fs, root = file_system(f"{out.rstrip('/')}/{FOLDER}/{_name(item)}")
    with tempfile.TemporaryDirectory(prefix="diffsal-") as scratch:
        for span in spans:
            for ending in (MAPS, FRAMES):
                fs.get_file(f"{root}/{span.start}{ending}", os.path.join(scratch, f"{span.start}{ending}"))
        yield DrawnMaps([Path(scratch) / str(span.start) for span in spans])


def remove_drawn(out: str, item: Item | None = None) -> None:
    """Remove what was drawn of ``item``, or of all items."""
    if not is_address(out):
        shutil.rmtree(Path(out) / FOLDER if item is None else _folder(out, item), ignore_errors=True)
        return
    fs, root = file_system(f"{out.rstrip('/')}/{FOLDER}{'' if item is None else f'/{_name(item)}'}")
    if fs.exists(root):
        fs.rm(root, recursive=True)


def _name(item: Item) -> str:
    """One for each state of each file, so that nothing drawn of an earlier one is ever taken."""
    return hashlib.sha256(f"{item.address}\0{item.version}".encode()).hexdigest()[:24]


def _folder(out: str, item: Item) -> Path:
    return Path(out) / FOLDER / _name(item)
