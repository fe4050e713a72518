"""The same work on many items, several at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """``function`` of each item, in their order. Whoever stops asking, or is stopped, leaves no work behind.

    By threads: decoding and encoding of pictures, video and archives let others run meanwhile.
    """
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
