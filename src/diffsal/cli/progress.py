"""Several inputs one after another: a progress bar on a terminal, one line each elsewhere, errors told as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffsal.bars import bar, interruptible
from diffsal.cli.options import TRACEBACKS, complain, say, unforeseen
from diffsal.errors import InputError, printable
from diffsal.files import words_of
from diffsal.media.source import expand, open_source
from diffsal.outputs.render import Outputs, Rendered, outputs_for, render
from diffsal.runtime.memory import give_back_large_blocks

if TYPE_CHECKING:
    from diffsal.networks.diffsal import DiffSal
    from diffsal.runtime.engine import Engine


def run_all(
    model: DiffSal | Engine, inputs: list[str], wanted: Outputs, only_maps: bool, force: bool, settings: dict
) -> int:
    """Render every input, each on its own; the exit code: 0, or 1 where one failed or could be done only in part."""
    names, problems = _expanded(inputs)
    failed = bool(problems)
    taken: set[Path] = set()
    several = len(names) + len(problems) > 1 or (bool(names) and names != inputs)  # a folder of one counts too
    if several:
        for folder in wanted.files:
            folder.mkdir(parents=True, exist_ok=True)
    _tell(problems)
    done = 0
    with bar() as progress, interruptible():
        for name in names:
            task: Any = progress.add_task(printable(name), total=None)
            try:
                result, outputs = _one(model, name, wanted, only_maps, force, several, taken, settings, progress, task)
            except KeyboardInterrupt:
                progress.stop()
                _tell([f"{name}: stopped; {done} of {len(names)} inputs are done, nothing half-written is left"])
                return 1
            except Exception as error:  # whatever a library raises, the other inputs are still done
                if os.environ.get(TRACEBACKS):
                    raise
                failed = True
                _tell([_line(error, name)])
                continue
            finally:
                progress.remove_task(task)
            done += 1
            failed = failed or bool(result.problems)
            _tell(result.problems)
            where = ", ".join(map(str, [*outputs.files, *([outputs.maps] if outputs.maps else [])]))
            say(f"{name}: {result.frames} frame{'s' * (result.frames != 1)} → {where}")
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
    if source.is_large:
        give_back_large_blocks()
    taken |= files

    def show(done: int, total: int | None) -> None:
        progress.update(task, completed=done, total=total)

    try:
        return render(model, source, outputs, on_frame=show, **settings), outputs
    except OSError as error:
        raise InputError(_line(error, name, outputs)) from None


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


def _line(error: Exception, name: str, outputs: Outputs | None = None) -> str:
    """The error in one line: which file, what is wrong, what to do. A growing file goes by its final name."""
    if isinstance(error, InputError):
        return str(error)
    if not isinstance(error, OSError):
        return unforeseen(error, name)
    wanted = [*outputs.files, *([outputs.maps] if outputs.maps else [])] if outputs else []
    places = "" if error.filename else ", ".join(map(str, wanted)) + ": " if wanted else ""
    return f"{name} → {places}{words_of(error)}" if places or error.filename else f"{name}: {words_of(error)}"


def _tell(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        complain(line)
