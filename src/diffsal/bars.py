"""A progress bar on a terminal, nothing elsewhere, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diffsal.errors import printable
from diffsal.files import remove_unfinished

if TYPE_CHECKING:
    from rich.progress import Progress

CLEANING_SECONDS = 10.0  # after a Ctrl-C
ASKS_FOR_BARS = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")  # rich's own: as if there were a terminal


class Silence:
    """What stands for a bar where there is no terminal."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_task(self, description: str, total: float | None = None) -> int:
        return 0

    def update(self, task: int, **_: Any) -> None:
        pass

    def remove_task(self, task: int) -> None:
        pass

    def stop(self) -> None:
        pass


def bar(unit: str = "fps") -> Progress | Silence:
    """rich's bar on standard error; where that is no terminal, rich is not even imported."""
    if not sys.stderr.isatty() and not any(name in os.environ for name in ASKS_FOR_BARS):
        return Silence()
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Frames, or other things, per second so far."""

        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f} {unit}" if task.speed else f"– {unit}")

    console = Console(stderr=True)
    name = TextColumn("{task.description}", markup=False)  # a file's name is no markup
    columns = (name, BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


@contextmanager
def watched(name: str, total: int | None = None, unit: str = "fps") -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal: the function that it gives takes the number done, and a new total if there is one.
    """
    with bar(unit) as progress, interruptible():
        task: Any = progress.add_task(printable(name), total=total)
        yield lambda done, total=total: progress.update(task, completed=done, total=total)


@contextmanager
def interruptible() -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP raises ``KeyboardInterrupt``; a second does not disturb the cleaning up.

    One that comes later than the cleaning should take ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def answer(*_) -> None:
        if not first:
            first.append(time.monotonic())
            raise KeyboardInterrupt
        if time.monotonic() - first[0] > CLEANING_SECONDS:
            remove_unfinished()
            os._exit(1)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, answer) for number in numbers
              if signal.getsignal(number) not in (signal.SIG_IGN, None)}  # nohup ignores SIGHUP, and so do we then
    try:
        yield
    finally:
        for number, handler in before.items():  # once stopped, the process is on its way out
            signal.signal(number, signal.SIG_IGN if first else handler)
