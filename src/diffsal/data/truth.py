"""Ground truth in files, one map and one set of fixations per frame, found by the number in their names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from diffsal.data.clip import Clip
from diffsal.errors import InputError
from diffsal.media.pictures import PICTURE_SUFFIXES, read_grey, read_map

FIXATION_VARIABLES = ("I", "eyeMap")  # DHF1K's and STAViS's names in their .mat files


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


def numbered_files(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """The files of ``folder`` with such an ending, by the number at the end of their names; empty if there is none."""
    return {number: folder / name for number, name in numbered_names(folder, suffixes).items()}


def numbered_names(folder: Path, suffixes: tuple[str, ...]) -> dict[int, str]:
    """:func:`numbered_files` by name only: a database has a million of them, and paths take time and room."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read ({error.strerror}); check its permissions") from None
    found: dict[int, str] = {}
    for name in names:
        stem, dot, ending = name.rpartition(".")
        digits = stem[len(stem.rstrip("0123456789")) :]
        if digits and name[0] != "." and dot + ending.lower() in suffixes:
            found[int(digits)] = name
    return found


def read_fixations(path: Path) -> np.ndarray:
    """bool (h, w), from a picture or the matrix ``I`` or ``eyeMap`` of a ``.mat`` file: above 0 is fixated."""
    return (read_matrix(path) if path.suffix.lower() == ".mat" else read_grey(path)) > 0


def read_matrix(path: Path) -> np.ndarray:
    """The fixation matrix (h, w) of a MATLAB file up to version 7. :class:`InputError` for anything else."""
    from scipy.io import loadmat  # slow to import, and only some databases need it

    try:
        variables = loadmat(path, variable_names=FIXATION_VARIABLES)
    except NotImplementedError:
        raise InputError(f"{path}: MATLAB 7.3 file, expected 7 or older; save it again with '-v7'") from None
    except Exception as error:  # a broken file may raise almost anything there
        raise InputError(f"{path}: not a MATLAB file that can be read ({error}); fetch it again") from None
    found = next((variables[name] for name in FIXATION_VARIABLES if name in variables), None)
    if found is None:
        raise InputError(f"{path}: no variable {' or '.join(FIXATION_VARIABLES)} in it; is it a fixation map?")
    matrix = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    if matrix.ndim != 2 or matrix.dtype.kind not in "buif":
        raise InputError(f"{path}: {matrix.dtype} of shape {matrix.shape}, expected a matrix; fetch it again")
    return matrix


@dataclass(frozen=True)
class Sigma:
    """The blur that makes a map of fixations: ``px`` of the picture, ``deg`` of visual angle, ``w`` times its width."""

    value: float
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in ("px", "deg", "w") or not 0 < self.value < np.inf:
            raise InputError(f"sigma {self.value}{self.unit}: expected a number above 0 and px, deg or w: 12.74px, "
                             "1deg, 0.025w (of the width)")

    @classmethod
    def parse(cls, text: str) -> Sigma:
        number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
        try:
            return cls(float(number), text[len(number) :])
        except ValueError:
            raise InputError(f"sigma {text!r}: expected such as 12.74px, 1deg or 0.025w (of the width)") from None

    def fraction(self, width: int, degrees_wide: float | None = None) -> float:
        """As a fraction of a picture's width, which is ``width`` pixels or ``degrees_wide``."""
        if self.unit == "deg" and degrees_wide is None:
            raise InputError(f"sigma {self.value}deg: needs --pixels-per-degree, or a sigma in px or w")
        return {"px": self.value / width, "w": self.value, "deg": self.value / (degrees_wide or 1)}[self.unit]


def blur(fixated: np.ndarray, sigma: float) -> np.ndarray:
    """Fixations (h, w) → uint8 (h, w): blurred with ``sigma`` pixels, 255 where it is highest; 0 without fixations."""
    grid = cv2.GaussianBlur(fixated.astype(np.float32), (0, 0), sigma)
    return np.rint(grid * (255 / grid.max()) if grid.max() > 0 else grid).astype(np.uint8)
