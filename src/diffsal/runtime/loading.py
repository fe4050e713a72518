"""Weights by name or file, ready to predict: graphs run by ONNX Runtime, or the torch network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from diffsal.errors import InputError
from diffsal.runtime.engine import Engine
from diffsal.weights.catalogue import entry_of, find
from diffsal.weights.hub import is_address

if TYPE_CHECKING:
    from diffsal.networks.diffsal import DiffSal

EngineName = Literal["auto", "onnx", "torch"]
TORCH_NEEDED = 'needs torch: pip install "diffsal[torch]"'


def load(name: str | Path = "compact", device: str = "cpu", engine: EngineName = "auto") -> DiffSal | Engine:
    """A network: a name, a ``.safetensors`` that diffsal wrote, an ``.onnx`` that it exported, or ``hf://OWNER/NAME``.

    Of the catalogue's and of an ``.onnx`` the graphs as an engine, on the CPU, without torch; of the rest, on another
    ``device`` and with ``engine`` "torch" the torch network in eval mode, which can also be trained, explained and
    called step by step. :func:`diffsal.predict` takes both. ``hf://OWNER/NAME[@REVISION]`` is fetched from a hub, by
    huggingface_hub: its ``.onnx`` where graphs can run, else its ``.safetensors``. Raises :class:`InputError` for what
    cannot be loaded.
    """
    name = _here(name, device, engine)
    if engine == "onnx" or is_graphs(name) or (engine == "auto" and entry_of(name) is not None and device == "cpu"):
        return load_engine(name, engine, device)
    if not has_torch():
        raise InputError(f"{name}: {TORCH_NEEDED}")
    from diffsal.weights.files import load as load_network

    return load_network(name, device)


def load_engine(name: str | Path = "compact", engine: EngineName = "auto", device: str = "cpu") -> Engine:
    """What predicts: with ``auto`` graphs on the CPU where there are any, else torch on ``device``.

    Raises :class:`InputError` where there are no graphs, no torch or no such device.
    """
    name = _here(name, device, engine)
    graphs = is_graphs(name) or entry_of(name) is not None
    if engine == "onnx" or (engine == "auto" and graphs and (device == "cpu" or is_graphs(name))):
        if not graphs:
            raise InputError(f"{name}: holds no graphs; make some with `diffsal export {name} OUT.onnx`")
        if device != "cpu":
            raise InputError(f"device {device}: graphs run on the CPU; give --engine torch and weights that are no "
                             ".onnx for other devices")
        from diffsal.runtime.onnx import OnnxEngine

        return OnnxEngine(find(name, graphs=True))
    if is_graphs(name):
        raise InputError(f"{name}: graphs are not run by torch; give the .safetensors that they were made of")
    if not has_torch():
        raise InputError(f"{name}: {TORCH_NEEDED}")
    from diffsal.runtime.torch import TorchEngine
    from diffsal.weights.files import load as load_network

    return TorchEngine(load_network(name), device)


def _here(name: str | Path, device: str, engine: EngineName) -> str | Path:
    """An address on a hub as a file of this computer; other names as they are."""
    return find(name, graphs=engine != "torch" and device == "cpu") if is_address(name) else name


def is_graphs(name: str | Path) -> bool:
    """Whether ``name`` is a file of ONNX graphs, by its ending."""
    return entry_of(name) is None and Path(name).suffix.lower() == ".onnx"


def has_torch() -> bool:
    """Whether torch is installed; it is not imported."""
    return find_spec("torch") is not None
