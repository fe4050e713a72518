"""Plain folders of maps and fixations, of any data: ``VIDEO/maps/*.png`` with ``VIDEO/fixation/*.png``."""

from __future__ import annotations

from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases.record import Database
from diffsal.data.map_files import MapFiles
from diffsal.folders import list_folders

NAME = "folders"


def read(root: Path, split: str = "all", fold: int | None = None) -> list[Clip]:
    """One clip for each folder that holds ``maps``; fixations in ``fixation/maps``, ``fixation`` or ``fixations``."""
    return [
        Clip(folder.name, NAME, "all", folder / "maps", MapFiles(folder / "maps", (
            folder / "fixation" / "maps", folder / "fixation", folder / "fixations")))
        for folder in list_folders(root) if (folder / "maps").is_dir()]


def recognise(root: Path) -> bool:
    """Whether there is such a folder under ``root``."""
    return any((folder / "maps").is_dir() for folder in list_folders(root))


DATABASE = Database(NAME, read, scored_split="all", recognise=recognise)
