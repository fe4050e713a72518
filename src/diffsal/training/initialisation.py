"""Weights to start from: a whole network of ours, or a pretrained encoder in any layout that ``convert`` reads."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from diffsal.config import Finish
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.weights.convert import load_encoder
from diffsal.weights.files import read_metadata, read_tensors
from diffsal.weights.metadata import CONFIG_KEY, finish_of
from diffsal.weights.torch_files import is_safetensors

SOUND_PARTS = ("audio_encoder.", ".align.", ".join.")  # what a network without sound has nothing for
STAGE_PART = re.compile(r"(?:unet\.stages|unet\.fusion\.norms|unet\.fusion\.reduce|adapters)\.(\d)\.")


def initialise(model: DiffSal, path: Path, keeps_centre: bool = False) -> str:
    """Load ``path`` into ``model``; what it was, in words.

    The weights of a whole network must fit part by part. What may be missing, or have no place, is what hears (a
    network with sound starts from one without, as the paper's audio-visual training does), and whole stages: the
    coarser ones that both have are taken. With ``keeps_centre`` the finish of weights that have one keeps its centre,
    so that a centre that older weights carry in their learned prior is not added again. Raises :class:`InputError`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file: --init takes pretrained encoders and weights of a whole network")
    if not is_whole_network(path):
        return load_encoder(model, path)
    metadata = read_metadata(path)
    state, wanted = read_tensors(path), model.state_dict()
    for name, value in wanted.items():
        if name not in state and not _may_differ(name, state):
            raise InputError(f"{path}: has no {name}, which this network needs: trained with other settings")
        if name in state and state[name].shape != value.shape:
            raise InputError(f"{path}: {name} is {list(state[name].shape)}, this network expects {list(value.shape)}")
    unknown = next((n for n in state if n not in wanted and not _may_differ(n, wanted)), None)
    if unknown is not None:
        raise InputError(f"{path}: {unknown} has no place in this network: trained with other settings")
    model.load_state_dict({n: state.get(n, v).to(v.dtype) for n, v in wanted.items()})
    finish = finish_of(metadata, path)
    if keeps_centre and finish != Finish() and model.finish.centre_gain:
        model.finish = replace(model.finish, centre=finish.centre, centre_gain=finish.centre_gain)
    return "a network of diffsal's"


def is_whole_network(path: Path) -> bool:
    """Whether the file holds a network of ours, and not an encoder alone."""
    return is_safetensors(path) and CONFIG_KEY in read_metadata(path)


def _may_differ(name: str, others: dict[str, Tensor]) -> bool:
    """Whether a network may lack the part: it hears, or belongs to a stage of which ``others`` has nothing."""
    stage = STAGE_PART.match(name)
    return any(part in name for part in SOUND_PARTS) or (
        stage is not None and not any(other.startswith(f"unet.stages.{stage[1]}.") for other in others))
