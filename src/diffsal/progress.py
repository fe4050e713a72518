"""Several inputs one after another: a progress bar on a terminal, one line each elsewhere, errors told as they come."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from diffsal.errors import InputError
from diffsal.media import expand, open_source
from diffsal.model import DiffSal
from diffsal.render import Outputs, Rendered, outputs_for, render
from diffsal.writers import partial_path

CLEANING_SECONDS = 10.0  # after a Ctrl-C


class Rate(ProgressColumn):
    """Frames, or other things, per second so far."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} {self.unit}" if task.speed else f"– {self.unit}")


def _bar(console: Console, unit: str = "fps") -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(unit), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


@contextmanager
def watched(name: str, total: int | None = None, unit: str = "fps") -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal: the function that it gives takes the number done, and a new total if there is one.
    """
    with _bar(Console(stderr=True), unit) as progress, interruptible():
        task = progress.add_task(name, total=total)
        yield lambda done, total=total: progress.update(task, completed=done, total=total)


def run_all(
    model: DiffSal, inputs: list[str], wanted: Outputs, only_maps: bool, force: bool, settings: dict
) -> int:
    """Render every input, each on its own; the exit code: 0, or 1 where one failed or could be done only in part."""
    console = Console(stderr=True)
    names, problems = _expanded(inputs)
    failed, taken = bool(problems), set()
    several = len(names) + len(problems) > 1 or (bool(names) and names != inputs)  # a folder of one counts too
    if several:
        for folder in wanted.files:
            folder.mkdir(parents=True, exist_ok=True)
    _tell(problems)
    done = 0
    with _bar(console) as progress, interruptible():
        for name in names:
            task = progress.add_task(name, total=None)
            try:
                result, outputs = _one(model, name, wanted, only_maps, force, several, taken, settings, progress, task)
            except KeyboardInterrupt:
                progress.stop()
                _tell([f"{name}: stopped; {done} of {len(names)} inputs are done, nothing half-written is left"])
                return 1
            except (InputError, OSError) as error:
                failed = True
                _tell([_line(error, name)])
                continue
            finally:
                progress.remove_task(task)
            done += 1
            failed = failed or bool(result.problems)
            _tell(result.problems)
            where = ", ".join(map(str, [*outputs.files, *([outputs.maps] if outputs.maps else [])]))
            print(f"{name}: {result.frames} frame{'s' * (result.frames != 1)} → {where}")
    return int(failed)


def _one(
    model, name, wanted, only_maps, force, several, taken: set[Path], settings, progress, task
) -> tuple[Rendered, Outputs]:
    source = open_source(name)
    outputs = outputs_for(name, source, wanted, only_maps, several)
    files = {p.resolve() for p in outputs.files}
    if not source.is_picture and outputs.maps:
        files.add(outputs.maps.resolve())
    if files & taken:
        raise InputError(f"{name}: another input has written {sorted(files & taken)[0]}; rename one of the two")
    outputs.check(source, force)
    taken |= files

    def show(done: int, total: int | None) -> None:
        progress.update(task, completed=done, total=total)

    try:
        return render(model, source, outputs, on_frame=show, **settings), outputs
    except KeyboardInterrupt:  # it may have come between the making of a file and the knowing of it
        for path in outputs.files:
            partial_path(path).unlink(missing_ok=True)
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """The first Ctrl-C (or a polite kill) raises ``KeyboardInterrupt``; a second does not disturb the cleaning up.

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
            os._exit(1)

    before = {number: signal.signal(number, answer) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():  # once stopped, the process is on its way out
            signal.signal(number, signal.SIG_IGN if first else handler)


def _expanded(inputs: list[str]) -> tuple[list[str], list[str]]:
    """Folders of videos as their videos; beside them, what could not be read."""
    names: list[str] = []
    problems: list[str] = []
    for given in inputs:
        try:
            names.extend(expand(given))
        except (InputError, OSError) as error:
            problems.append(_line(error, given))
    return names, problems


def _line(error: InputError | OSError, name: str) -> str:
    """The error in one line: which file, what is wrong, what to do."""
    if isinstance(error, InputError):
        return str(error)
    where = f"{name} → {error.filename}" if error.filename else name
    full = "; make room there, or write elsewhere with -o" if error.errno == errno.ENOSPC else ""
    return f"{where}: {error.strerror or error}{full}"


def _tell(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        print(f"diffsal: {line}", file=sys.stderr)
