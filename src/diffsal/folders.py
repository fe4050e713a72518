"""What a folder holds: files and folders by name, ending or number, without what file systems and programs add."""

from __future__ import annotations

import os
from pathlib import Path

from diffsal.errors import InputError

# Beside every name that begins with a dot (._clip.mp4, .DS_Store, .ipynb_checkpoints): Synology, Windows, macOS
CLUTTER = frozenset((
    "@eadir", "#recycle", "#snapshot", "@tmp", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin",
    "system volume information", "__macosx", "lost+found", "icon\r"))


def is_clutter(name: str) -> bool:
    """Whether a file system or a program put this name there, and no user: hidden files, thumbnails, bins."""
    return name[:1] == "." or name.lower() in CLUTTER


def list_names(folder: Path) -> list[str]:
    """Names in ``folder`` in order, clutter left out; empty where there is no such folder.

    Raises :class:`InputError` for a folder that cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(folder) if not is_clutter(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read ({error.strerror}); check its permissions") from None


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files with one of ``suffixes`` (lower case; in the folder, any case), in the order of their names."""
    return [folder / name for name in list_names(folder) if _ends(name, suffixes) and (folder / name).is_file()]


def list_folders(folder: Path) -> list[Path]:
    """The folders in ``folder``, in the order of their names."""
    return [folder / name for name in list_names(folder) if (folder / name).is_dir()]


def find_file(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    """The file ``STEM.SUFFIX``, the suffix in any case; of several the first of ``suffixes``.

    A name is a name and no pattern: ``Song [x]`` is found, and ``clip`` is not ``clip.small``.
    """
    found = {name[len(stem):].lower(): name for name in list_names(folder) if name.startswith(stem)}
    return next((folder / found[s] for s in suffixes if s in found and (folder / found[s]).is_file()), None)


def stem_of(path: Path, suffixes: tuple[str, ...]) -> str:
    """The name of ``path`` without the longest of ``suffixes`` that it ends in (``.csv.gz`` before ``.gz``)."""
    ends = max((len(s) for s in suffixes if path.name.lower().endswith(s)), default=0)
    return path.name[: len(path.name) - ends]


def trailing_number(stem: str) -> int | None:
    """The number at the end of a file's stem: 42 of ``eyeMap_00042``; None without one."""
    digits = stem[len(stem.rstrip("0123456789")) :]
    return int(digits) if digits and len(digits) < 19 else None


def numbered_names(folder: Path, suffixes: tuple[str, ...], are_maps: bool = False) -> dict[int, str]:
    """Names with one of ``suffixes`` by the number at the end of their stems; empty where there is none.

    Of several with one number the first; with ``are_maps`` that is an :class:`InputError`: overlays lie beside them,
    say. By name only: a database has a million of them, and paths take time and room.
    """
    found: dict[int, str] = {}
    for name in list_names(folder):
        stem, dot, ending = name.rpartition(".")
        number = trailing_number(stem)
        if number is not None and dot + ending.lower() in suffixes:
            first = found.setdefault(number, name)
            if are_maps and first != name:
                raise InputError(f"{folder}: {first} and {name} have one number; leave only the maps there")
    return found


def numbered_files(folder: Path, suffixes: tuple[str, ...], are_maps: bool = False) -> dict[int, Path]:
    """:func:`numbered_names` as paths."""
    return {number: folder / name for number, name in numbered_names(folder, suffixes, are_maps).items()}


def _ends(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes)
