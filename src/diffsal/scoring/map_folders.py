"""Saliency maps that some model wrote, found again by clip and frame whatever their folders and names look like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from diffsal.data.clip import Clip
from diffsal.data.truth import numbered_files, read_map
from diffsal.errors import InputError
from diffsal.media.source import PICTURE_SUFFIXES


@dataclass(frozen=True)
class MapFolder:
    """``root/VIDEO/*.png`` or ``root/SET/VIDEO/*.png``, for pictures ``root/[SET/]STEM.png``; 8 or 16 bits, or JPEG.

    A video's folder has its name, or its number (``601`` for ``0601``). Files are numbered from 0 if one of them is 0
    or their names are six digits (as ``diffsal predict --maps`` writes them); else as the files of the ground truth.
    """

    name: str
    root: Path

    def maps(
        self, clip: Clip, wanted: list[int], problems: list[str]
    ) -> Iterator[tuple[int, Float[np.ndarray, "h w"] | InputError]]:
        """For each ``wanted`` frame its map in [0, 1], float32 of any size, or what is wrong with it."""
        found = self._found(clip)
        size = None
        for index in wanted:
            try:
                if index not in found:
                    raise InputError(f"{self._place(clip)}: no map for frame {index} of {clip.name}; predict it again")
                saliency = read_map(found[index])
                size = size or saliency.shape
                if saliency.shape != size:
                    raise InputError(f"{found[index]}: is {saliency.shape[1]}x{saliency.shape[0]}, the clip's first "
                                     f"map {size[1]}x{size[0]}; predict it again")
            except InputError as error:
                yield index, error
                continue
            yield index, saliency

    def fingerprint(self, clips: list[Clip]) -> list:
        """Changes where the maps do."""
        newest = [max((p.stat().st_mtime for p in self._found(c).values()), default=0.0) for c in clips]
        return [str(self.root), newest]

    def _found(self, clip: Clip) -> dict[int, Path]:
        return self._picture(clip) if is_single_file(clip) else self._video(clip)

    def _place(self, clip: Clip) -> Path:
        return self.root if is_single_file(clip) else self._folder(clip) or self.root / clip.name

    def _picture(self, clip: Clip) -> dict[int, Path]:
        places = (self.root / clip.split / clip.name, self.root / clip.name)
        return next(({0: p} for place in places for s in PICTURE_SUFFIXES
                     if (p := place.with_name(f"{place.name}{s}")).is_file()), {})

    def _folder(self, clip: Clip) -> Path | None:
        places = (self.root / clip.split / clip.name, self.root / clip.dataset / clip.name, self.root / clip.name)
        folder = next((p for p in places if p.is_dir()), None)
        if folder is None and clip.name.isdigit():
            folder = _numbered_folders(self.root).get(int(clip.name))
        return folder

    def _video(self, clip: Clip) -> dict[int, Path]:
        folder = self._folder(clip)
        files = numbered_files(folder, PICTURE_SUFFIXES) if folder else {}
        if 0 in files or all(re.fullmatch(r"\d{6}", p.stem) for p in files.values()):
            return files
        return {i: files[n] for i in range(clip.num_frames) if (n := clip.number(i)) in files}


def is_single_file(clip: Clip) -> bool:
    """A picture by itself, not a shot of one frame in a folder."""
    return clip.video.suffix.lower() in PICTURE_SUFFIXES and not clip.video.is_dir()


@lru_cache(maxsize=4)
def _numbered_folders(root: Path) -> dict[int, Path]:
    return {int(p.name): p for p in root.iterdir() if p.is_dir() and p.name.isdigit()} if root.is_dir() else {}
