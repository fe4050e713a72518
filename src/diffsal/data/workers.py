"""The same work on many items, several at a time; and what a worker process does when its parent is gone."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def end_with_parent() -> None:
    """This worker process ends when its parent does: one that was killed cannot end it, and it would wait for ever."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def in_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Result]:
    """``function`` of each item, in their order. Whoever stops asking, or is stopped, leaves no work behind.

    By threads: decoding and encoding of pictures, video and archives let others run meanwhile. ``stop`` is set when
    no result is wanted any more; a long ``function`` looks at it now and then.
    """
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        yield from pool.map(function, items)
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
