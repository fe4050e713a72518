"""Weights by name: what the package carries, and where the files are. No torch here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from diffsal.errors import InputError
from diffsal.weights.hub import fetch, is_address
from diffsal.weights.metadata import APART_KEYS, told


@dataclass(frozen=True)
class Weights:
    """One entry of the catalogue: weights that the package carries, ``pretrained/NAME.safetensors`` and its graphs.

    Configuration, preprocessing and finish stand in the files themselves. ``scores`` are (what, value) pairs.
    """

    name: str
    summary: str
    licence: str = ""
    source: str = ""
    scores: tuple[tuple[str, float], ...] = ()


CATALOGUE = (
    Weights(
        "compact",
        "MobileNetV2 and YAMNet; trained on eye tracking of pictures, web pages, HEVC's clips and FIND (MODEL_CARD.md)",
        licence="Apache-2.0",
        source="trained by `diffsal train compact`, from ImageNet (torchvision) and AudioSet (YAMNet) encoders",
        scores=(
            ("CC, FIND 021", 0.867), ("SIM, FIND 021", 0.647), ("NSS, FIND 021", 6.08),
            ("CC, 5 held-out HEVC clips", 0.619), ("SIM, 5 held-out HEVC clips", 0.525),
            ("NSS, 5 held-out HEVC clips", 3.62), ("CC, MIT1003 (200 pictures)", 0.689),
            ("SIM, MIT1003 (200 pictures)", 0.581), ("NSS, MIT1003 (200 pictures)", 2.25),
        ),
    ),
)


def entry_of(name: str | Path) -> Weights | None:
    """The catalogue's entry of that name, if there is one."""
    return next((w for w in CATALOGUE if w.name == str(name)), None)


def provenance(name: str | Path, metadata: Mapping[str, str]) -> tuple[dict[str, str], dict[str, float]]:
    """Where weights come from and their scores: what their file says of itself, beside its entry in the catalogue."""
    origin = {k.removeprefix("diffsal."): v for k, v in metadata.items() if k not in APART_KEYS}
    with told(name, "scores"):
        scores = {what: float(score) for what, score in json.loads(origin.pop("scores", "{}")).items()}
    entry = entry_of(name)
    if entry is None:
        return origin, scores
    origin = {"summary": entry.summary, "source": entry.source, "licence": entry.licence, **origin}
    return origin, {**dict(entry.scores), **scores}


def find(name: str | Path, graphs: bool = False) -> Path:
    """The file of a catalogue name, of an address on a hub (:mod:`diffsal.weights.hub`), or of a path.

    With ``graphs``, of a name or address the ``.onnx``. Raises :class:`InputError` for what is none of them.
    """
    if is_address(name):
        return fetch(name, graphs)
    entry = entry_of(name)
    if entry is not None:
        ending = ".onnx" if graphs else ".safetensors"
        return Path(str(files("diffsal") / "weights" / "pretrained" / f"{entry.name}{ending}"))
    path = Path(name)
    if path.is_file():
        return path
    raise InputError(f"{name}: no such weights: known are {', '.join(w.name for w in CATALOGUE)}, or give a file "
                     "or hf://OWNER/NAME")


def cache_folder() -> Path:
    """``$DIFFSAL_CACHE``, by default ``~/.cache/diffsal``."""
    return Path(os.environ.get("DIFFSAL_CACHE") or Path.home() / ".cache" / "diffsal").expanduser()
