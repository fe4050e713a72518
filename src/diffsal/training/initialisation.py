"""Weights to start from: a whole network of ours, or a pretrained encoder in any layout that ``convert`` reads."""

from __future__ import annotations

from pathlib import Path

from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.weights.convert import load_encoder
from diffsal.weights.files import read_metadata, read_tensors
from diffsal.weights.metadata import CONFIG_KEY
from diffsal.weights.torch_files import is_safetensors

SOUND_PARTS = ("audio_encoder.", ".align.")  # what a network without sound has nothing for


def initialise(model: DiffSal, path: Path) -> str:
    """Load ``path`` into ``model``; what it was, in words.

    The weights of a whole network must fit part by part; only the parts that hear may be missing, so a network with
    sound can start from one without (the paper's audio-visual training does). Raises :class:`InputError`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file: --init takes pretrained encoders and weights of a whole network")
    if not (is_safetensors(path) and CONFIG_KEY in read_metadata(path)):
        return load_encoder(model, path)
    state, wanted = read_tensors(path), model.state_dict()
    for name, value in wanted.items():
        if name not in state and not any(part in name for part in SOUND_PARTS):
            raise InputError(f"{path}: has no {name}, which this network needs: trained with other settings")
        if name in state and state[name].shape != value.shape:
            raise InputError(f"{path}: {name} is {list(state[name].shape)}, this network expects {list(value.shape)}")
    unknown = next((n for n in state if n not in wanted and not any(part in n for part in SOUND_PARTS)), None)
    if unknown is not None:
        raise InputError(f"{path}: {unknown} has no place in this network: trained with other settings")
    model.load_state_dict({n: state.get(n, v).to(v.dtype) for n, v in wanted.items()})
    return "a network of diffsal's"
