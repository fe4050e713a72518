"""Where a model's maps come from: its weights, clip by clip, or a folder of maps that any model wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from diffsal.config import Spacing
from diffsal.data.clip import Clip
from diffsal.data.databases import record_of
from diffsal.errors import InputError
from diffsal.folders import find_file, list_folders, list_names, numbered_files
from diffsal.media.pictures import PICTURE_SUFFIXES, read_map, write_picture
from diffsal.media.shifted_sound import ShiftedSound
from diffsal.media.source import Source
from diffsal.outputs.maps import MapWriter
from diffsal.prediction.maps import Prediction
from diffsal.prediction.pipeline import predict
from diffsal.runtime.engine import Engine
from diffsal.runtime.loading import load_engine
from diffsal.scoring.inputs import state_of
from diffsal.weights.catalogue import find
from diffsal.weights.metadata import sha256_of

Sounds = Literal["own", "muted", "other"]
ARRAY_SUFFIXES = (".npy", ".npz", ".mat", ".pt", ".pth", ".h5", ".exr", ".hdr")  # in which models' maps are kept, too
WORDS = {"own": "", "muted": ", muted", "other": ", moved sound"}


@dataclass(frozen=True)
class MapFolder:
    """``root/VIDEO/*.png`` or ``root/SET/VIDEO/*.png``, for pictures ``root/[SET/]STEM.png``; 8 or 16 bits, or JPEG.

    A video's folder has its name, or its number (``601`` for ``0601``). Files are numbered from 0 if one of them is 0
    or their names are six digits (as ``diffsal predict --maps`` writes them); else as the files of the ground truth.
    """

    name: str
    root: Path
    network_size: tuple[int, int] | None = None  # height and width of the model's own maps, where files are larger

    def maps(
        self, clip: Clip, wanted: list[int], problems: list[str]
    ) -> Iterator[tuple[int, Float[np.ndarray, "h w"] | InputError]]:
        """For each ``wanted`` frame its map in [0, 1], float32 of any size, or what is wrong with it.

        Raises :class:`InputError` where two files have one number.
        """
        found = self._found(clip, are_maps=True)
        size = None
        for index in wanted:
            try:
                if index not in found:
                    raise InputError(self._missing(clip, index))
                saliency = read_map(found[index])
                size = size or saliency.shape
                if saliency.shape != size:
                    raise InputError(f"{found[index]}: is {saliency.shape[1]}x{saliency.shape[0]}, the clip's first "
                                     f"map {size[1]}x{size[0]}; predict it again")
            except InputError as error:
                yield index, error
                continue
            yield index, saliency

    def size(self) -> tuple[int, int] | None:
        """Height and width at which the model makes its maps; None: those of the files."""
        return self.network_size

    def fingerprint(self, clips: list[Clip]) -> list:
        """Changes where the maps do."""
        return [str(self.root), self.network_size, [state_of(self._found(c).values()) for c in clips]]

    def _found(self, clip: Clip, are_maps: bool = False) -> dict[int, Path]:
        return self._picture(clip) if is_single_file(clip) else self._video(clip, are_maps)

    def _place(self, clip: Clip) -> Path:
        return self.root if is_single_file(clip) else self.folder(clip) or self.root / clip.name

    def _missing(self, clip: Clip, index: int) -> str:
        place = self._place(clip)
        others = [name for name in list_names(place) if name.lower().endswith(ARRAY_SUFFIXES)]
        hint = f"maps are pictures, {others[0]} is none: write PNG or float TIFF" if others else "predict it again"
        return f"{place}: no map for frame {index} of {clip.name}; {hint}"

    def _picture(self, clip: Clip) -> dict[int, Path]:
        for place in (self.root / clip.split, self.root):
            found = find_file(place, clip.name, PICTURE_SUFFIXES)
            if found is not None:
                return {0: found}
        return {}

    def folder(self, clip: Clip) -> Path | None:
        """A video's maps; None where there are none."""
        places = (self.root / clip.split / clip.name, self.root / clip.dataset / clip.name, self.root / clip.name)
        folder = next((p for p in places if p.is_dir()), None)
        if folder is None and clip.name.isdecimal():
            folder = _numbered_folders(self.root).get(int(clip.name))
        return folder

    def _video(self, clip: Clip, are_maps: bool) -> dict[int, Path]:
        folder = self.folder(clip)
        files = numbered_files(folder, PICTURE_SUFFIXES, are_maps) if folder else {}
        if 0 in files or all(re.fullmatch(r"\d{6}", p.stem) for p in files.values()):
            return files
        return {i: files[n] for i in range(clip.num_frames) if (n := clip.number(i)) in files}


def is_single_file(clip: Clip) -> bool:
    """A picture by itself, not a shot of one frame in a folder."""
    return clip.video.suffix.lower() in PICTURE_SUFFIXES and not clip.video.is_dir()


@lru_cache(maxsize=4)
def _numbered_folders(root: Path) -> dict[int, Path]:
    return {int(p.name): p for p in list_folders(root) if p.name.isdecimal()}


@dataclass(frozen=True)
class Network:
    """``weights`` (a name or a file) with their sampling; ``maps_out``: the folder into which every map is written.

    ``sound``: the clip's own, none, or its own moved round by half of its length (a control: as loud, but wrong).
    """

    weights: str
    steps: int = 1
    seed: int = 0
    sound: Sounds = "own"
    device: str = "cpu"
    maps_out: Path | None = None
    every: int | None = None  # every Nth frame goes through the network; None: as :func:`predict` does it
    spacing: Spacing | None = None  # of the timesteps; None: the weights' own

    @property
    def name(self) -> str:
        return Path(self.weights).name.removesuffix(".safetensors").removesuffix(".onnx") + WORDS[self.sound]

    def maps(
        self, clip: Clip, wanted: list[int], problems: list[str]
    ) -> Iterator[tuple[int, Float[np.ndarray, "h w"] | InputError]]:
        """For each ``wanted`` frame its map, rounded to the 16 bits in which it is written; or why there is none."""
        if not wanted and self.maps_out is None:
            return
        source, waiting = self._source(clip), iter(wanted)
        writer = None if self.maps_out is None else writer_of(self.maps_out, clip)
        next_index = next(waiting, None)
        predictions = predict(
            _network(self.weights, self.device), source, steps=self.steps, seed=self.seed, device=self.device,
            mute=self.sound == "muted", every=self.every, indices=frozenset(wanted) if writer is None else None,
            spacing=self.spacing)
        for prediction in predictions:
            if writer is not None:
                writer.write(prediction)
            while next_index is not None and next_index <= prediction.index:
                yield next_index, _rounded(prediction.saliency) if next_index == prediction.index else self._missing(
                    clip, next_index)
                next_index = next(waiting, None)
            if next_index is None and writer is None:
                predictions.close()
                break
        problems += source.problems
        while next_index is not None:
            yield next_index, self._missing(clip, next_index)
            next_index = next(waiting, None)

    def size(self) -> tuple[int, int] | None:
        """Height and width at which the network makes its maps."""
        config: Any = _network(self.weights, self.device).config
        return config.height, config.width

    def fingerprint(self, clips: list[Clip]) -> list:
        """Changes where the maps do."""
        return [_digest(self.weights), self.steps, self.seed, self.sound, self.device, str(self.maps_out),
                self.every or "usual", self.spacing or "own"]

    def _source(self, clip: Clip) -> Source:
        source = clip.source()
        if self.sound != "other":
            return source
        length = source.duration_seconds or clip.num_frames / clip.frame_rate
        return ShiftedSound(**{f.name: getattr(source, f.name) for f in fields(Source)}, shift_seconds=length / 2)

    @staticmethod
    def _missing(clip: Clip, index: int) -> InputError:
        return InputError(f"{clip.video}: frame {index} cannot be decoded; fetch the file again")


class OrganisersWriter:
    """8-bit ``folder/0001.png``, counted from 1, as DHF1K's organisers ask for the maps of their test set."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def write(self, prediction: Prediction) -> None:
        """One map, at the video's size."""
        path = self.folder / f"{prediction.index + 1:04d}.png"
        write_picture(path, np.rint(prediction.saliency * 255).astype(np.uint8))


def writer_of(folder: Path, clip: Clip) -> MapWriter | OrganisersWriter:
    """``folder/[SET/]CLIP/NNNNNN.png``, of pictures ``folder/[SET/]STEM.png``; DHF1K's test set as it is asked for."""
    place = folder_of(folder, clip)
    if is_single_file(clip):
        return MapWriter(place, clip.name)
    if record_of(clip.dataset).maps_as_organisers and clip.truth is None:
        return OrganisersWriter(place)
    return MapWriter(place)


def folder_of(folder: Path, clip: Clip) -> Path:
    """The folder that a clip's maps go to."""
    place = folder / clip.split if record_of(clip.dataset).by_set else folder
    return place if is_single_file(clip) else place / clip.name


def _rounded(saliency: np.ndarray) -> np.ndarray:
    return (np.rint(saliency * 65_535) / 65_535).astype(np.float32)


@lru_cache(maxsize=4)
def _network(weights: str, device: str) -> Engine:
    return load_engine(weights, "auto", device)


@lru_cache(maxsize=16)
def _digest(weights: str) -> str:
    return sha256_of(find(weights))
