"""What scores are computed from: the state of a clip's files, and that predictions never take their place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.errors import InputError


def state_of(paths: Iterable[Path]) -> str:
    """A digest that changes with any of the files, and with any file in the folders: by name, size and times."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.absolute()}\n".encode(errors="surrogateescape"))
        for name, stat in _entries(path):
            line = f"{name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _entries(path: Path) -> list[tuple[str, os.stat_result]]:
    try:
        if not path.is_dir():
            return [("", path.stat())]
        with os.scandir(path) as entries:
            return sorted((entry.name, entry.stat()) for entry in entries if entry.is_file())
    except OSError:  # not there, or closed to us: reading it says so
        return []


def state_of_clip(clip: Clip) -> str:
    """Changes with the clip's picture, sound and ground truth."""
    return state_of(clip.inputs)


def check_not_inputs(places: Iterable[Path], clips: Iterable[Clip], option: str) -> None:
    """:class:`InputError` where one of ``places``, files or folders to write, is what a clip is read from, or in it."""
    inputs = {path.resolve() for clip in clips for path in clip.inputs}
    for place in places:
        for part in (place.resolve(), *place.resolve().parents):
            if part in inputs:
                raise InputError(f"{place}: belongs to the data ({part}), which is never overwritten; give another "
                                 f"folder with {option}")
