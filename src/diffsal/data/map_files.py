"""Ground truth in files, one map and one set of fixations per frame, found by the number in their names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from diffsal.data.clip import Clip
from diffsal.data.matlab import read_matrix
from diffsal.errors import InputError
from diffsal.folders import numbered_names
from diffsal.media.pictures import PICTURE_SUFFIXES, read_grey, read_map


@dataclass(frozen=True, eq=False)
class MapFiles:
    """``maps``: a folder of grey pictures. ``fixation_folders``: ``.mat`` or pictures, the first not empty counts."""

    maps: Path
    fixation_folders: tuple[Path, ...] = ()

    @cached_property
    def map_names(self) -> dict[int, str]:
        return numbered_names(self.maps, PICTURE_SUFFIXES)

    @cached_property
    def _fixations(self) -> tuple[Path, dict[int, str]]:
        for folder in self.fixation_folders:
            found = numbered_names(folder, (".mat",)) or numbered_names(folder, PICTURE_SUFFIXES)
            if found:
                return folder, found
        return self.fixation_folders[-1] if self.fixation_folders else self.maps, {}

    @property
    def fixation_folder(self) -> Path:
        return self._fixations[0]

    @property
    def fixation_names(self) -> dict[int, str]:
        return self._fixations[1]

    def annotated(self, clip: Clip) -> list[int]:
        return [i for i in range(clip.num_frames) if clip.number(i) in self.map_names]

    def inputs(self, clip: Clip) -> list[Path]:
        return [self.maps, *self.fixation_folders]

    def map_path(self, clip: Clip, index: int) -> Path:
        number = clip.number(index)
        if number in self.map_names:
            return self.maps / self.map_names[number]
        example = Path(next(iter(self.map_names.values()), "0001.png"))
        width = len(example.stem) - len(example.stem.rstrip("0123456789"))
        return self.maps / f"{example.stem[:-width]}{number:0{width}d}{example.suffix}"

    def saliency_map(self, clip: Clip, index: int) -> np.ndarray:
        path = self.map_path(clip, index)
        if clip.number(index) not in self.map_names:
            raise InputError(f"{path}: no such map for frame {index} of {clip.name}; fetch it, or make maps from "
                             "fixations with `diffsal prepare`")
        return read_map(path)

    def fixations(self, clip: Clip, index: int) -> np.ndarray | None:
        if not self.fixation_names:
            return None
        name = self.fixation_names.get(clip.number(index))
        if name is None:
            raise InputError(f"{self.fixation_folder}: no fixations for frame {index} of {clip.name} (number "
                             f"{clip.number(index)}); fetch the file")
        return read_fixations(self.fixation_folder / name)

    def points(self, clip: Clip, index: int) -> np.ndarray | None:
        fixated = self.fixations(clip, index)
        return None if fixated is None else np.argwhere(fixated)[:, ::-1].astype(np.int64)

    def observers(self, clip: Clip, index: int) -> None:
        return None


def read_fixations(path: Path) -> np.ndarray:
    """bool (h, w), from a picture or the matrix ``I`` or ``eyeMap`` of a ``.mat`` file: above 0 is fixated."""
    return (read_matrix(path) if path.suffix.lower() == ".mat" else read_grey(path)) > 0
