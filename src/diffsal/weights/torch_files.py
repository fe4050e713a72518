"""Checkpoints of others, read without running anything in them: safetensors, or PyTorch's pickles of tensors alone."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffsal.errors import InputError
from diffsal.weights.files import read_tensors
from diffsal.weights.pickles import Refused, read_pickle

STATE_NAMES = ("state_dict", "model_state_dict", "model")  # under which training scripts keep the weights
WRAPPERS = ("module.", "_orig_mod.", "model.")  # that DataParallel, torch.compile and training scripts put in front
MOST_NESTED = 4  # of those names, one inside the other


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint: what stands beside it (optimiser state …) and wrappers' prefixes are left out.

    Raises :class:`InputError` for a file that is missing, damaged or of another kind, and for a pickle that asks for
    more than tensors and plain values: it is refused, none of it is run.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    state = read_tensors(path) if is_safetensors(path) else state_of(_unpickle(path), path)
    return strip_wrappers(state)


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _unpickle(path: Path) -> Any:
    try:
        return read_pickle(path)
    except Refused as refused:
        raise InputError(
            f"{path}: refused: loading it would run {refused}, and a checkpoint may hold only tensors and plain "
            "values. If you trust it, keep only its state dict where it was made: "
            "torch.save(checkpoint['state_dict'], 'weights.pth')"
        ) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning, which a damaged zip names
            raise
        raise InputError(f"{path}: damaged; fetch it again") from None
    except (pickle.UnpicklingError, KeyError) as error:
        raise InputError(f"{path}: no PyTorch checkpoint and no safetensors, or damaged ({error}); get it again"
                         ) from None
    except (Exception, MemoryError) as error:  # a damaged file fails in as many ways as there are bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: no checkpoint, or cut short or damaged ({reason}); fetch it again") from None


def state_of(checkpoint: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside what a training script saved."""
    for _ in range(MOST_NESTED):
        inner = next((checkpoint[name] for name in STATE_NAMES if isinstance(checkpoint, Mapping)
                      and isinstance(checkpoint.get(name), Mapping)), None)
        if inner is None:
            break
        checkpoint = inner
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise InputError(f"{path}: holds {type(checkpoint).__name__}, expected a state dict, alone or as 'state_dict'")
    for key, value in checkpoint.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{path}: {str(key)[:80]} is {type(value).__name__}, expected a state dict of tensors")
        if not isinstance(key, str):
            raise InputError(f"{path}: {str(key)[:80]} is no name, expected a state dict of tensors")
    return dict(checkpoint)


def strip_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that every one of them shares."""
    for wrapper in WRAPPERS:
        if state and all(key.startswith(wrapper) for key in state):
            return strip_wrappers({key.removeprefix(wrapper): value for key, value in state.items()})
    return state
