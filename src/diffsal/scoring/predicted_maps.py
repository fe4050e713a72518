"""Saliency maps as a network predicts them, clip by clip: with the clip's own sound, muted, or another moment's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from diffsal.data.clip import Clip
from diffsal.errors import InputError
from diffsal.media.pictures import write_picture
from diffsal.media.shifted_sound import ShiftedSound
from diffsal.media.source import Source
from diffsal.networks.diffsal import DiffSal
from diffsal.outputs.writers import MapWriter
from diffsal.prediction.pipeline import Prediction, predict
from diffsal.scoring.map_folders import is_single_file
from diffsal.weights.files import find, load, sha256_of

Sounds = Literal["own", "muted", "other"]
WORDS = {"own": "", "muted": ", muted", "other": ", moved sound"}


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
    every: int | None = None  # of so many frames one goes through the network; None: as :func:`predict` does it

    @property
    def name(self) -> str:
        return Path(self.weights).name.removesuffix(".safetensors") + WORDS[self.sound]

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
            mute=self.sound == "muted", every=self.every, indices=frozenset(wanted) if writer is None else None)
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

    def fingerprint(self, clips: list[Clip]) -> list:
        """Changes where the maps do."""
        return [_digest(self.weights), self.steps, self.seed, self.sound, self.device, str(self.maps_out),
                self.every or "usual"]

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
    place = folder / clip.split if clip.dataset == "gaze" else folder
    if is_single_file(clip):
        return MapWriter(place, clip.name)
    if clip.dataset == "dhf1k" and clip.truth is None:
        return OrganisersWriter(place / clip.name)
    return MapWriter(place / clip.name)


def _rounded(saliency: np.ndarray) -> np.ndarray:
    return (np.rint(saliency * 65_535) / 65_535).astype(np.float32)


@lru_cache(maxsize=4)
def _network(weights: str, device: str) -> DiffSal:
    return load(weights, device)


@lru_cache(maxsize=16)
def _digest(weights: str) -> str:
    return sha256_of(find(weights))
