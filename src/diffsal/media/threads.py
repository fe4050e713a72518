"""Threads at work side by side: items made ahead in one, calls in several, results in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")
PREFETCHED = 12  # items that wait between two threads, at most
JOIN_SECONDS = 2.0  # a thread that is deep in the network or in a slow address is left behind
WAKE_SECONDS = 0.5  # a signal that comes in the instant before a wait is answered after this, not when the wait ends


@contextmanager
def worker_threads(count: int, initializer: Callable[..., Any] | None = None, *arguments: Any) -> Iterator[Executor]:
    """A pool of ``count`` threads, each of which first calls ``initializer(*arguments)``."""
    pool = ThreadPoolExecutor(count, initializer=initializer, initargs=arguments)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def ahead(futures: Iterator[Future], count: int) -> Iterator:
    """Results in order; up to ``count`` futures beyond the one that is waited for are at work already."""
    waiting: deque[Future] = deque()
    for future in futures:
        waiting.append(future)
        if len(waiting) > count:
            yield result_of(waiting.popleft())
    while waiting:
        yield result_of(waiting.popleft())


def result_of(future: Future):
    """Its result, waited for awake."""
    while not future.done():
        wait([future], WAKE_SECONDS)
    return future.result()


def _next_of(waiting: queue.Queue):
    while True:
        with suppress(queue.Empty):
            return waiting.get(timeout=WAKE_SECONDS)


def prefetch(items: Iterator[T], size: int = PREFETCHED) -> Generator[T]:
    """The same items, made in a thread of their own, at most ``size`` ahead; what fails there is raised here.

    Closing the iterator stops the thread and closes ``items``.
    """
    waiting: queue.Queue = queue.Queue(size)
    stopped = threading.Event()
    end = object()

    def put(item: object, error: BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put(item, None):
                    return
            put(end, None)
        except BaseException as error:
            put(end, error)
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while True:
            item, error = _next_of(waiting)
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
        thread.join(JOIN_SECONDS)
