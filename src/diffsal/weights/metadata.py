"""What a file of weights or graphs says about itself: configuration, finish, provenance. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from diffsal.config import Finish, ModelConfig, Spacing
from diffsal.errors import InputError

CONFIG_KEY = "diffsal.config"
FINISH_KEY = "diffsal.finish"
# What files before the finish had a key of its own hold in the configuration, and its names now
OLD_FINISH = {"sharpness": "exponent", "motion_prior": "motion_gain", "sound_prior": "sound_gain"}
KIND_KEY = "diffsal.kind"  # "encoder" where a file holds a pretrained encoder and no whole network
ENCODER_KEY = "diffsal.encoder"  # the name of that encoder, as in ModelConfig
PREPROCESSING_KEY = "diffsal.preprocessing"  # of an encoder alone; a network's stands in its configuration
SPACING_KEY = "diffsal.spacing"  # of the timesteps, as in SamplingConfig; without it linspace
UNUSED_KEY = "diffsal.unused"  # a JSON list: what the source had and this file has not, with parameters and the reason
FORMAT_KEY = "diffsal.format"  # of graphs alone
APART_KEYS = (CONFIG_KEY, FINISH_KEY, PREPROCESSING_KEY, UNUSED_KEY, FORMAT_KEY)  # read by name, not shown as they are
HASH_BLOCK = 1 << 20


@dataclass(frozen=True)
class Unused:
    """Parameters of the checkpoint that this file was converted from which no output depends on."""

    name: str
    parameters: int
    why: str


@contextmanager
def told(path: Path | str, what: str) -> Iterator[None]:
    """JSON of any kind, used in the block: what is wrong with it becomes an :class:`InputError` that names the file."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: its {what} cannot be used: {error}") from None


def config_of(metadata: Mapping[str, str], path: Path) -> ModelConfig:
    """The configuration that a file's metadata hold."""
    if metadata.get(KIND_KEY) == "encoder":
        raise InputError(f"{path}: holds an encoder only, no whole network: it is for `diffsal train --init`")
    if CONFIG_KEY not in metadata:
        raise InputError(f"{path}: holds no diffsal configuration; `diffsal convert` makes a file that does")
    with told(path, "configuration"):
        values = json.loads(metadata[CONFIG_KEY])
        return ModelConfig.from_dict({k: v for k, v in values.items() if k not in OLD_FINISH})


def finish_of(metadata: Mapping[str, str], path: Path) -> Finish:
    """What is done to the maps of a file's network.

    Older files hold it in their configuration, and their added centre in the network's learned prior, where it stays.
    """
    with told(path, "finish"):
        if FINISH_KEY in metadata:
            return Finish.from_dict(json.loads(metadata[FINISH_KEY]))
        values = json.loads(metadata.get(CONFIG_KEY, "{}"))
        return Finish(**{new: values[old] for old, new in OLD_FINISH.items() if old in values})


def spacing_of(metadata: Mapping[str, str], path: Path) -> Spacing:
    """How the weights' timesteps are spaced: ``leading`` for a released network, which runs its one step at t = 0."""
    spacing = metadata.get(SPACING_KEY, "linspace")
    if spacing not in get_args(Spacing):
        raise InputError(f"{path}: its spacing is {spacing[:40]!r}, expected one of {', '.join(get_args(Spacing))}")
    return cast(Spacing, spacing)


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
