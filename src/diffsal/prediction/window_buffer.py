"""The frames that windows still need, by their position in the stream."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class WindowBuffer(Generic[T]):
    """Holds the last ``length`` items that were added; windows reach over the stream's ends by repeating its ends.

    Positions count all items from 0, in the order in which they are added.
    """

    def __init__(self, length: int) -> None:
        self._items: deque[T] = deque(maxlen=length)
        self.count = 0

    def add(self, item: T) -> None:
        """The next item; the oldest is forgotten."""
        self._items.append(item)
        self.count += 1

    def replace_last(self, item: T) -> None:
        """Another item in the place of the last one."""
        self._items[-1] = item

    def window(self, first: int, length: int, step: int = 1) -> list[T]:
        """The items at positions ``first``, ``first + step``, …, below ``first + length``, kept inside the stream.

        Raises ``IndexError`` for an item that is forgotten.
        """
        oldest, last = self.count - len(self._items), self.count - 1
        places = [min(max(position, 0), last) - oldest for position in range(first, first + length, step)]
        if not self._items or min(places) < 0:
            raise IndexError(f"the window from {first} begins before {oldest}, the oldest frame that is kept")
        return [self._items[place] for place in places]
