"""Weights as safetensors that carry their own configuration: read strictly, written whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffsal.config import ModelConfig
from diffsal.errors import InputError
from diffsal.files import whole_file
from diffsal.networks.diffsal import DiffSal
from diffsal.weights.catalogue import find
from diffsal.weights.metadata import CONFIG_KEY, FINISH_KEY, SPACING_KEY, config_of, finish_of, spacing_of

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norm: no parameters


def load(name: str | Path = "compact", device: str = "cpu") -> DiffSal:
    """A network in eval mode: a name of the catalogue, or the path of a ``.safetensors`` that :func:`save` wrote.

    Half-precision files become float32. Raises :class:`InputError` for an unknown name (it lists the names), a file
    that is cut short or of another network (it names the first key that disagrees).
    """
    path = find(name)
    metadata = read_metadata(path)
    config, finish = config_of(metadata, path), finish_of(metadata, path)
    check_shapes(planned(config, path), read_shapes(path), path)
    model = DiffSal(config, finish)
    model.spacing = spacing_of(metadata, path)
    load_strictly(model, read_tensors(path), path)
    return model.to(device).eval()


def planned(config: ModelConfig, path: Path) -> DiffSal:
    """The network of ``config`` on the meta device: its shapes, and no memory."""
    try:
        with torch.device("meta"):
            return DiffSal(config)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: its configuration cannot be built: {error}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself."""
    with _opened(path) as file:
        return file.metadata() or {}


def read_shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of a safetensors file's tensors, from its header alone."""
    with _opened(path) as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  (not a dict)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, as they are stored."""
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)


@contextmanager
def _opened(path: Path) -> Iterator:
    try:
        with safe_open(path, "pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise InputError(
            f"{path}: not a whole safetensors file ({error}); fetch it again, or make one with `diffsal convert`"
        ) from None


def load_strictly(model: nn.Module, state: dict[str, Tensor], path: Path | str) -> None:
    """``state`` into ``model``, every key and shape as expected; else an error that names the first that is not."""
    check_shapes(model, {key: list(value.shape) for key, value in state.items()}, path)
    wanted = model.state_dict()
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in state.items()})


def check_shapes(model: nn.Module, found: dict[str, list[int]], path: Path | str) -> None:
    """:class:`InputError` for the first of ``model``'s tensors that is missing or of another shape, or is no part."""
    wanted = model.state_dict()
    for key, value in wanted.items():
        if key not in found:
            raise InputError(f"{path}: has no {key}, which this network needs: the file is of another network")
        if found[key] != list(value.shape):
            raise InputError(f"{path}: {key} is {found[key]}, this network expects {list(value.shape)}")
    unknown = next((key for key in found if key not in wanted), None)
    if unknown:
        raise InputError(f"{path}: {unknown} has no place in this network: the file is of another network")


def save(model: DiffSal, path: Path, metadata: dict[str, str] | None = None, half: bool = False) -> None:
    """Weights, configuration, preprocessing, finish and spacing in one file, whole or not at all; ``half``: float16.

    What float16 cannot hold (running variances above 65,504) stays float32.
    """
    own = {CONFIG_KEY: json.dumps(model.config.to_dict()), FINISH_KEY: json.dumps(model.finish.to_dict())}
    if model.spacing != "linspace":
        own[SPACING_KEY] = model.spacing
    save_tensors(model.state_dict(), path, {**own, **(metadata or {})}, half)


def _halved(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if bool(half.isfinite().all()) else value


def save_tensors(state: dict[str, Tensor], path: Path, metadata: dict[str, str], half: bool = False) -> None:
    """Tensors and metadata as safetensors, whole or not at all; ``half``: see :func:`save`."""
    path = Path(path)
    if half:
        state = {k: _halved(v) for k, v in state.items()}
    with whole_file(path) as place:
        place.touch()
        mode = place.stat().st_mode
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, place, metadata)
        except SafetensorError as error:  # a full disk arrives as this, too
            raise InputError(f"{path}: cannot be written ({error})") from None
        place.chmod(mode)  # safetensors would leave the file readable by its owner alone
