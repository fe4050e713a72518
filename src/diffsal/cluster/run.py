"""The run: items from the ledger to Ray's workers, their records back, whatever dies in between.

The loop holds a few batches for each processor and no more, so memory does not grow with the number of items. A worker
streams back, for each item of its batch, first that it has begun and then its record: what was finished when a worker
dies is not done again, and the item that it was at is known.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from diffsal.cluster.ledger import Ledger, Record
from diffsal.cluster.manifest import Item, Span
from diffsal.errors import InputError

Task = tuple[int, Item]  # an item and its number in the ledger
# Yields ("begun", id), then ("record", Record); or ("split", spans) of an item, ("drawn", (frames, seconds)) of a span
Processor = Callable[[list[Task]], Iterator[tuple[str, Any]]]

BATCH_BYTES = 4 << 20  # small files go together up to this size …
BATCH_ITEMS = 16  # … and this number
TASKS_PER_CPU = 2  # one at work, one that waits for it: a worker is never idle, and little is held
WRITE_SECONDS = 2.0  # between two writes to the ledger
IDLE_SECONDS = 0.5  # how long to wait for an answer before time limits are looked at


@dataclass
class Progress:
    """How far a run is. ``frames`` counts those of this run; ``left_seconds`` is None until something is done."""

    total: int
    done: int
    failed: int
    frames: int
    elapsed_seconds: float
    left_seconds: float | None
    last_line: str = ""


class Batch:
    """Items that one worker has: which are left, which it is at and since when."""

    def __init__(self, tasks: list[Task]) -> None:
        self.left = {number: (number, item) for number, item in tasks}
        self.at: int | None = None
        self.since = 0.0
        self.late = False


def run(
    ledger: Ledger,
    process: Processor,
    *,
    address: str | None = None,
    limit_seconds: float = 3600.0,
    on_progress: Callable[[Progress], None] | None = None,
    on_joined: Callable[[Item], None] = lambda item: None,
    options: dict[str, Any] | None = None,
) -> None:
    """Do every item that waits in ``ledger``; its records are written as they come.

    ``process`` runs in Ray's workers, one processor each, on a list of tasks. ``address``: a running Ray cluster
    (``auto``, ``HOST:PORT``, ``ray://…``); None starts one on this machine. An item that takes longer than
    ``limit_seconds``, or that ends two processes, fails alone. ``on_joined`` is called with a
    split item when its record is written. Raises :class:`InputError` where Ray is not installed or the cluster cannot
    be reached.
    """
    ray = start_ray(address)
    remote = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming", **(options or {}))(process)
    loop = Loop(ledger, remote, ray, limit_seconds, on_progress, on_joined)
    try:
        loop.run()
    finally:
        loop.stop()


def start_ray(address: str | None) -> Any:
    """Ray, connected; a Ray that is connected already is used."""
    try:
        import ray
    except ImportError:
        raise InputError('--cluster needs Ray: pip install "diffsal[ray]"') from None
    if not ray.is_initialized():
        where = address or "local"  # without one Ray would take whatever was last started on this machine
        try:
            ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True,
                     include_dashboard=False if where == "local" else None)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise InputError(f"{address or 'this machine'}: no Ray cluster can be reached ({error})") from None
    return ray


class Loop:
    """One run's state: what is in flight, what is to be written."""

    def __init__(
        self, ledger: Ledger, remote: Any, ray: Any, limit_seconds: float,
        on_progress: Callable[[Progress], None] | None, on_joined: Callable[[Item], None],
    ) -> None:
        self.ledger, self.remote, self.ray, self.limit_seconds = ledger, remote, ray, limit_seconds
        self.on_progress, self.on_joined = on_progress, on_joined
        self.in_flight: dict[Any, Batch] = {}
        self.again: deque[list[Task]] = deque()  # what a worker that died has left, and spans
        self.split: dict[int, set[Span]] = {}  # items that are split: spans that are not drawn
        self.records: list[Record] = []
        self.joined: list[Item] = []  # split items whose records are not written yet
        self.counts = ledger.counts()
        self.total = sum(self.counts.values())
        self.frames, self.began, self.written, self.begun_with = 0, time.monotonic(), 0.0, dict(self.counts)
        self.last_line = ""

    def run(self) -> None:
        for number, (item, spans) in self.ledger.spans().items():
            self.give_out(number, item, spans)
        batches = make_batches(task for task in self.ledger.waiting() if task[0] not in self.split)
        more = True
        while more or self.in_flight or self.again:
            while len(self.in_flight) < self.room() and (more or self.again):
                tasks = self.again.popleft() if self.again else next(batches, None)
                if tasks is None:
                    more = False
                    break
                if not self.is_closed(*tasks[0]):
                    self.in_flight[self.remote.remote(tasks)] = Batch(tasks)
            if not self.in_flight:
                continue
            ready, _ = self.ray.wait(list(self.in_flight), num_returns=1, timeout=IDLE_SECONDS, fetch_local=False)
            for stream in ready:
                self.take(stream)
            self.look_at_limits()
            self.write(WRITE_SECONDS)

    def room(self) -> int:
        """How many batches may be in flight: it follows the cluster as nodes come and go."""
        return max(1, TASKS_PER_CPU * int(self.ray.cluster_resources().get("CPU", 1)))

    def take(self, stream: Any) -> None:
        """The next answer of a batch, or its end."""
        batch = self.in_flight[stream]
        try:
            kind, value = self.ray.get(next(stream))
        except StopIteration:
            del self.in_flight[stream]
            if batch.left:  # it ended early without an error: those left are done again
                self.again.append(list(batch.left.values()))
            return
        except self.ray.exceptions.RayError as error:
            del self.in_flight[stream]
            self.buried(batch, error)
            return
        if kind == "begun":
            batch.at, batch.since = value, time.monotonic()
            return
        if batch.at is None:
            return
        number, item = batch.left.pop(batch.at)
        batch.at = None
        if self.is_closed(number, item):
            return
        if kind == "split":
            self.ledger.split(number, value)
            self.give_out(number, item, dict.fromkeys(value, False))
        elif kind == "drawn":
            self.drawn(number, item, *value)
        else:
            self.keep(value, item)

    def give_out(self, number: int, item: Item, spans: dict[Span, bool]) -> None:
        """A split item's spans as tasks before all others, or, where all are drawn, the joining of them."""
        missing = [span for span, is_drawn in spans.items() if not is_drawn]
        self.split[number] = set(missing)
        self.again.extend([(number, replace(item, part=span))] for span in missing)
        if not missing:
            self.again.appendleft([(number, replace(item, part=tuple(spans)))])

    def drawn(self, number: int, item: Item, num_frames: int, seconds: float) -> None:
        assert isinstance(item.part, Span)
        self.ledger.span_drawn(number, item.part, seconds)
        self.frames += num_frames
        self.split[number].discard(item.part)
        if not self.split[number]:
            self.give_out(number, item, self.ledger.spans()[number][1])

    def is_closed(self, number: int, item: Item) -> bool:
        """Whether this is a part of an item that has failed by another part of it."""
        return item.part is not None and number not in self.split

    def keep(self, record: Record, item: Item) -> None:
        if self.split.pop(record.id, None) is None:
            self.frames += record.frames
        else:  # its spans have counted its frames
            self.joined.append(item)
        self.records.append(record)
        self.counts["waiting"] -= 1
        self.counts[record.state] += 1
        if record.state == "failed":
            self.last_line = record.line

    def buried(self, batch: Batch, error: Exception) -> None:
        """A worker is gone: the item that it was at fails or waits, the others are given to another, one by one."""
        item = batch.left.get(batch.at) if batch.at is not None else None
        if item is not None and not self.is_closed(*item):
            number, what = item
            span = what.part if isinstance(what.part, Span) else None
            took = f"{what.address}: took longer than {self.limit_seconds:g} s and was stopped"
            if batch.late:
                self.fail(batch, number, took)
            elif not is_node_loss(error) and not self.ledger.died(number, span):
                self.fail(batch, number, f"{what.address}: ended the process that read it, twice: {first_line(error)}")
        self.again.extend([task] for task in batch.left.values())

    def fail(self, batch: Batch, number: int, line: str) -> None:
        self.keep(Record(number, "failed", line), batch.left.pop(number)[1])

    def look_at_limits(self) -> None:
        now = time.monotonic()
        for stream, batch in self.in_flight.items():
            if batch.at is not None and not batch.late and now - batch.since > self.limit_seconds:
                batch.late = True
                self.ray.cancel(stream, force=True)

    def write(self, every_seconds: float) -> None:
        if time.monotonic() - self.written < every_seconds:
            return
        if self.records:
            self.ledger.write(self.records)
            self.records = []
            for item in self.joined:
                self.on_joined(item)
            self.joined = []
        self.written = time.monotonic()
        if self.on_progress:
            self.on_progress(self.progress())

    def progress(self) -> Progress:
        elapsed = time.monotonic() - self.began
        now = self.counts["done"] + self.counts["failed"]
        new = now - self.begun_with["done"] - self.begun_with["failed"]
        left = elapsed / new * self.counts["waiting"] if new else None
        return Progress(self.total, self.counts["done"], self.counts["failed"], self.frames, elapsed, left,
                        self.last_line)

    def stop(self) -> None:
        """Write what is known; end what is still at work."""
        self.write(0.0)
        for stream in self.in_flight:
            self.ray.cancel(stream, force=True)


def make_batches(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Large items alone, small ones together; of unknown size (0 bytes) alone, too."""
    batch: list[Task] = []
    size = 0
    for number, item in tasks:
        alone = item.num_bytes == 0 or item.num_bytes >= BATCH_BYTES
        if batch and (alone or size + item.num_bytes > BATCH_BYTES or len(batch) == BATCH_ITEMS):
            yield batch
            batch, size = [], 0
        batch.append((number, item))
        size += item.num_bytes
        if alone:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def is_node_loss(error: Exception) -> bool:
    """Whether a whole node went away, for which no item is to blame."""
    text = str(error).lower()
    return "node" in type(error).__name__.lower() or "node it was running on" in text or "node failure" in text or (
        "the node" in text and "died" in text)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
