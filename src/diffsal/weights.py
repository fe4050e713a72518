"""Weights as safetensors that carry their own configuration: bundled, downloaded with a checksum, or your own file."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.request
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diffsal.config import ModelConfig
from diffsal.errors import InputError
from diffsal.model import DiffSal

CONFIG_KEY = "diffsal.config"
DOWNLOAD_BLOCK = 1 << 20


@dataclass(frozen=True)
class Weights:
    """One entry of the catalogue. ``bundled`` is a file of the package; else ``url`` and its ``sha256`` (hex)."""

    name: str
    summary: str
    bundled: str | None = None
    url: str | None = None
    sha256: str | None = None


CATALOGUE = (
    Weights("compact", "MobileNetV2 and YAMNet, trained on the gaze pack: see MODEL_CARD.md", "compact.safetensors"),
)


def load(name: str | Path = "compact", device: str = "cpu") -> DiffSal:
    """A network in eval mode: a name of the catalogue, or the path of a ``.safetensors`` that :func:`save` wrote.

    Half-precision files become float32. Raises :class:`InputError` for an unknown name (it lists the names), a file
    that is cut short or of another network (it names the first key that disagrees).
    """
    path = find(name)
    try:
        with safe_open(path, "pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if CONFIG_KEY not in metadata:
                raise InputError(f"{path}: holds no diffsal configuration; `diffsal convert` makes a file that does")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); fetch or convert it again") from None
    model = DiffSal(ModelConfig.from_dict(json.loads(metadata[CONFIG_KEY])))
    load_strictly(model, state, path)
    return model.to(device).eval()


def load_strictly(model: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """``state`` into ``model``, every key and shape as expected; else an error that names the first that is not."""
    wanted = model.state_dict()
    for key, value in wanted.items():
        if key not in state:
            raise InputError(f"{path}: has no {key}, which this network needs: the file is of another network")
        if state[key].shape != value.shape:
            raise InputError(f"{path}: {key} is {list(state[key].shape)}, this network expects {list(value.shape)}")
    unknown = next((key for key in state if key not in wanted), None)
    if unknown:
        raise InputError(f"{path}: {unknown} has no place in this network: the file is of another network")
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in state.items()})


def save(model: DiffSal, path: Path, metadata: dict[str, str] | None = None, half: bool = False) -> None:
    """Weights, configuration and preprocessing in one file, written beside and renamed; ``half``: float16."""
    state = {k: v.half() if half and v.is_floating_point() else v for k, v in model.state_dict().items()}
    config = json.dumps(model.config.to_dict())
    partial = path.with_name(f".{path.name}.partial")
    save_file({k: v.contiguous() for k, v in state.items()}, partial, {CONFIG_KEY: config, **(metadata or {})})
    os.replace(partial, path)


def find(name: str | Path) -> Path:
    """The file of a catalogue name (downloaded where needed) or of a path."""
    entry = next((w for w in CATALOGUE if w.name == str(name)), None)
    if entry is None:
        path = Path(name)
        if path.is_file():
            return path
        raise InputError(f"{name}: no such weights: known are {', '.join(w.name for w in CATALOGUE)}, or give a file")
    if entry.bundled:
        return Path(str(files("diffsal") / "pretrained" / entry.bundled))
    return download(entry, cache_folder())


def cache_folder() -> Path:
    """``$DIFFSAL_CACHE``, by default ``~/.cache/diffsal``."""
    return Path(os.environ.get("DIFFSAL_CACHE", Path.home() / ".cache" / "diffsal"))


def download(entry: Weights, folder: Path) -> Path:
    """``entry``'s file in ``folder``, fetched once; it gets its name only after its SHA-256 is right."""
    path = folder / f"{entry.name}.safetensors"
    if path.exists() and _sha256(path) == entry.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with urllib.request.urlopen(entry.url, timeout=30) as answer, partial.open("wb") as file:
            while block := answer.read(DOWNLOAD_BLOCK):
                file.write(block)
        found = _sha256(partial)
        if found != entry.sha256:
            raise InputError(f"{entry.url}: SHA-256 is {found}, expected {entry.sha256}; nothing was kept, try again")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{entry.url}: cannot be fetched ({error}); is the network up?") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(DOWNLOAD_BLOCK):
            digest.update(block)
    return digest.hexdigest()
