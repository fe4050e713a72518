"""What a worker does with an item: fetch it, predict, store the results whole, and say what came of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffsal.cluster.ledger import Record
from diffsal.cluster.manifest import Item, Span, file_system, is_address
from diffsal.cluster.run import Processor, Task
from diffsal.errors import InputError

if TYPE_CHECKING:
    from diffsal.media.source import Source
    from diffsal.prediction.spans import DrawnMaps
    from diffsal.runtime.engine import Engine

KINDS = ("overlay", "maps", "npz", "json")
SPAN_SECONDS = 300.0
PARTIAL_FOLDER = ".partial"  # below a local output: results grow here


@dataclass(frozen=True)
class Job:
    """What is the same for all items: ``write`` are some of ``KINDS``, ``settings`` those of :func:`diffsal.predict`.

    ``weights`` is a name of the catalogue, or a file that every machine can read, or one given along as
    ``weights_data`` (its bytes in Ray's store).
    A video that is longer than two spans of ``span_seconds`` is split; 0: none is.
    """

    out: str
    weights: str = "compact"
    write: tuple[str, ...] = ("overlay",)
    settings: dict[str, Any] = field(default_factory=dict)
    weights_data: Any = None
    span_seconds: float = SPAN_SECONDS

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.write if kind not in KINDS]
        if unknown or not self.write:
            raise ValueError(f"write is {self.write}, expected some of {', '.join(KINDS)}")


def processor(job: Job) -> Processor:
    """``job`` as a function for :func:`diffsal.cluster.run.run`."""

    def process(tasks: list[Task]) -> Iterator[tuple[str, Any]]:
        for number, item in tasks:
            yield "begun", number
            yield do(job, number, item)

    return process


def do(job: Job, number: int, item: Item) -> tuple[str, Any]:
    """Predict one item and store its results: ``("record", Record)``; errors that a user can mend become its record.

    A long video is not predicted but ``("split", spans)``. Of a span: ``("drawn", (number of frames, seconds))``.
    """
    began = time.monotonic()
    try:
        kind, value = _done(job, item)
    except (InputError, OSError) as error:
        return "record", Record(number, "failed", _line(item, error), time.monotonic() - began)
    except Exception as error:  # of a library: the item fails, the others go on
        line = f"{item.address}: {type(error).__name__}: {error}"
        return "record", Record(number, "failed", " ".join(line.split()), time.monotonic() - began)
    seconds = time.monotonic() - began
    if kind == "split":
        return kind, value
    if kind == "drawn":
        return kind, (value, seconds)
    frames, problems, digest = value
    return "record", Record(number, "done", "; ".join(problems), seconds, frames, digest)


def _done(job: Job, item: Item) -> tuple[str, Any]:
    """("split", spans), ("drawn", number of frames), or ("done", (frames, problems, SHA-256))."""
    from diffsal.cluster.spans import draw, drawn_maps, spans_of
    from diffsal.media.source import open_source
    from diffsal.prediction.spans import SpansDiffer

    with fetched(item) as path:
        source, model = open_source(str(path)), model_of(job)
        if isinstance(item.part, Span):
            return "drawn", draw(model, source, job.settings, job.out, item, item.part)
        if isinstance(item.part, tuple):
            try:
                with drawn_maps(job.out, item, item.part) as drawn:
                    return "done", _rendered(job, item, model, source, drawn)
            except InputError:
                raise
            except (SpansDiffer, FileNotFoundError, ValueError):  # of a damaged file, or removed: in one piece, then
                return "done", _rendered(job, item, model, open_source(str(path)), None)
        spans = spans_of(model, source, job.settings, job.span_seconds)
        return ("split", spans) if spans else ("done", _rendered(job, item, model, source, None))


def _rendered(
    job: Job, item: Item, model: Engine, source: Source, drawn: DrawnMaps | None
) -> tuple[int, list[str], str]:
    from diffsal.outputs.render import render

    with results(job.out, item) as folder:
        outputs = outputs_in(folder, Path(item.name).name, source.is_picture, job.write)
        rendered = render(model, source, outputs, drawn=drawn, **job.settings)
        return rendered.frames, [*rendered.problems], publish(job.out, item, folder)


def outputs_in(folder: Path, stem: str, is_picture: bool, write: tuple[str, ...]) -> Any:
    """An item's files below ``folder``, named as ``diffsal predict`` names them."""
    from diffsal.outputs.render import Outputs

    return Outputs(
        overlay=folder / f"{stem}.saliency{'.png' if is_picture else '.mp4'}" if "overlay" in write else None,
        maps=(folder if is_picture else folder / stem) if "maps" in write else None,
        npz=folder / f"{stem}.npz" if "npz" in write else None,
        json=folder / f"{stem}.json" if "json" in write else None,
    )


class fetched:
    """The item as a file of this machine: itself, or a copy that is removed in the end."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.folder: str | None = None

    def __enter__(self) -> Path:
        if not is_address(self.item.address):
            return Path(self.item.address)
        self.folder = tempfile.mkdtemp(prefix="diffsal-")
        fs, path = file_system(self.item.address)
        room, size = shutil.disk_usage(self.folder).free, fs.size(path) or 0
        if size > room:
            raise InputError(f"{self.item.address}: has {size:,} bytes, and {room:,} are free here")
        copy = Path(self.folder) / Path(path).name
        fs.get_file(path, str(copy))
        return copy

    def __exit__(self, *_: object) -> None:
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class results:
    """A private folder in which an item's results grow, on the disk that they will stay on where that is local."""

    def __init__(self, out: str, item: Item) -> None:
        self.parent = None if is_address(out) else Path(out) / PARTIAL_FOLDER

    def __enter__(self) -> Path:
        if self.parent:
            self.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="item-", dir=self.parent))
        self.folder.chmod(0o755)
        return self.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def publish(out: str, item: Item, folder: Path) -> str:
    """Move the results in ``folder`` to where they belong below ``out``; the SHA-256 (hex) of their bytes."""
    digest, parent = hashlib.sha256(), Path(item.name).parent
    fs, root = file_system(out)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = parent / path.relative_to(folder)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        if is_address(out):
            target = f"{root.rstrip('/')}/{relative.as_posix()}"
            fs.makedirs(os.path.dirname(target), exist_ok=True)
            fs.put_file(str(path), target)
        else:
            place = Path(out) / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
    return digest.hexdigest()


def model_of(job: Job) -> Any:
    """The job's network; a worker keeps it."""
    return _model(job.weights if job.weights_data is None else _delivered(job))


@lru_cache(maxsize=2)
def _model(weights: str) -> Any:
    import cv2

    from diffsal.runtime.loading import load_engine

    cv2.setNumThreads(1)  # a worker has one processor
    engine = load_engine(weights)
    engine.num_workers = 1
    return engine


def _delivered(job: Job) -> str:
    """A weights file of the driver's machine, written where this worker can read it."""
    import ray

    data = ray.get(job.weights_data)
    name = hashlib.sha256(data).hexdigest()[:16] + Path(job.weights).suffix
    path = Path(tempfile.gettempdir()) / f"diffsal-weights-{os.getuid()}-{name}"
    if not path.exists() or path.stat().st_size != len(data):
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
    return str(path)


def _line(item: Item, error: Exception) -> str:
    text = str(error) if isinstance(error, InputError) else f"{error.strerror or error}"  # type: ignore[attr-defined]
    return " ".join((text if item.address in text else f"{item.address}: {text}").split())


def remove_unfinished(out: str) -> None:
    """Results that a run which ended before has left half made."""
    if not is_address(out):
        shutil.rmtree(Path(out) / PARTIAL_FOLDER, ignore_errors=True)


def missing_results(out: str, rows: Iterator[dict[str, Any]], write: tuple[str, ...]) -> Iterator[int]:
    """Items that are done and whose results are no longer below ``out`` (on this machine's disks only)."""
    if is_address(out):
        return
    exists: Callable[[str], bool] = os.path.exists
    for row in rows:
        base = f"{out}/{row['name']}"
        suffixes = {"overlay": (".saliency.mp4", ".saliency.png"), "maps": ("", ".png"), "npz": (".npz",),
                    "json": (".json",)}
        if not all(any(exists(base + suffix) for suffix in suffixes[kind]) for kind in write):
            yield row["id"]
