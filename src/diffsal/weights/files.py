"""Weights as safetensors that carry their own configuration: bundled, downloaded with a checksum, or your own file."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffsal.config import Finish, ModelConfig
from diffsal.errors import InputError
from diffsal.files import whole_file
from diffsal.networks.diffsal import DiffSal

CONFIG_KEY = "diffsal.config"
FINISH_KEY = "diffsal.finish"
# What files before the finish had a key of its own hold in the configuration, and its names now
OLD_FINISH = {"sharpness": "exponent", "motion_prior": "motion_gain", "sound_prior": "sound_gain"}
KIND_KEY = "diffsal.kind"  # "encoder" where a file holds a pretrained encoder and no whole network
ENCODER_KEY = "diffsal.encoder"  # the name of that encoder, as in ModelConfig
PREPROCESSING_KEY = "diffsal.preprocessing"  # of an encoder alone; a network's stands in its configuration
UNUSED_KEY = "diffsal.unused"  # a JSON list: what the source had and this file has not, with parameters and the reason
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norm: no parameters
DOWNLOAD_BLOCK = 1 << 20
DOWNLOAD_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Unused:
    """Parameters of the checkpoint that this file was converted from which no output depends on."""

    name: str
    parameters: int
    why: str


@dataclass(frozen=True)
class Weights:
    """One entry of the catalogue. ``bundled`` is a file of the package; else ``url`` and its ``sha256`` (hex).

    Configuration and preprocessing stand in the file itself. ``scores`` are (what, value) pairs.
    """

    name: str
    summary: str
    bundled: str | None = None
    url: str | None = None
    sha256: str | None = None
    licence: str = ""
    source: str = ""
    scores: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.bundled is None and not (self.url and self.sha256):
            raise ValueError(f"{self.name}: weights need a bundled file, or a url and its sha256")


CATALOGUE = (
    Weights(
        "compact",
        "MobileNetV2 and YAMNet; trained on eye tracking of OSIE, EyeCrowd, HEVC and FIND (MODEL_CARD.md)",
        "compact.safetensors",
        licence="Apache-2.0",
        source="trained by `diffsal train compact`, from ImageNet (torchvision) and AudioSet (YAMNet) encoders",
        scores=(
            ("CC, FIND 021", 0.848), ("SIM, FIND 021", 0.629), ("NSS, FIND 021", 5.828),
            ("CC, 5 held-out HEVC clips", 0.617), ("SIM, 5 held-out HEVC clips", 0.528),
            ("NSS, 5 held-out HEVC clips", 3.594), ("CC, MIT1003 (200 pictures)", 0.659),
        ),
    ),
)


def load(name: str | Path = "compact", device: str = "cpu") -> DiffSal:
    """A network in eval mode: a name of the catalogue, or the path of a ``.safetensors`` that :func:`save` wrote.

    Half-precision files become float32. Raises :class:`InputError` for an unknown name (it lists the names), a file
    that is cut short or of another network (it names the first key that disagrees).
    """
    path = find(name)
    metadata = read_metadata(path)
    model = DiffSal(config_of(metadata, path), finish_of(metadata, path))
    load_strictly(model, read_tensors(path), path)
    return model.to(device).eval()


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself."""
    with _opened(path) as file:
        return file.metadata() or {}


def read_tensors(path: Path) -> dict[str, Tensor]:
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


def config_of(metadata: dict[str, str], path: Path) -> ModelConfig:
    """The configuration that a file's metadata hold."""
    if metadata.get(KIND_KEY) == "encoder":
        raise InputError(f"{path}: holds an encoder only, no whole network: it is for `diffsal train --init`")
    if CONFIG_KEY not in metadata:
        raise InputError(f"{path}: holds no diffsal configuration; `diffsal convert` makes a file that does")
    try:
        values = json.loads(metadata[CONFIG_KEY])
        return ModelConfig.from_dict({k: v for k, v in values.items() if k not in OLD_FINISH})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: its configuration cannot be used: {error}") from None


def finish_of(metadata: dict[str, str], path: Path) -> Finish:
    """What is done to the maps of a file's network.

    Older files hold it in their configuration, and their added centre in the network's learned prior, where it stays.
    """
    try:
        if FINISH_KEY in metadata:
            return Finish.from_dict(json.loads(metadata[FINISH_KEY]))
        values = json.loads(metadata.get(CONFIG_KEY, "{}"))
        return Finish(**{new: values[old] for old, new in OLD_FINISH.items() if old in values})
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: its finish cannot be used: {error}") from None


def load_strictly(model: nn.Module, state: dict[str, Tensor], path: Path | str) -> None:
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
    """Weights, configuration, preprocessing and finish in one file, whole or not at all; ``half``: float16.

    What float16 cannot hold (running variances above 65,504) stays float32.
    """
    own = {CONFIG_KEY: json.dumps(model.config.to_dict()), FINISH_KEY: json.dumps(model.finish.to_dict())}
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


def entry_of(name: str | Path) -> Weights | None:
    """The catalogue's entry of that name, if there is one."""
    return next((w for w in CATALOGUE if w.name == str(name)), None)


def find(name: str | Path) -> Path:
    """The file of a catalogue name (downloaded where needed) or of a path."""
    entry = entry_of(name)
    if entry is None:
        path = Path(name)
        if path.is_file():
            return path
        raise InputError(f"{name}: no such weights: known are {', '.join(w.name for w in CATALOGUE)}, or give a file")
    if entry.bundled:
        return Path(str(files("diffsal") / "weights" / "pretrained" / entry.bundled))
    return download(entry, cache_folder())


def cache_folder() -> Path:
    """``$DIFFSAL_CACHE``, by default ``~/.cache/diffsal``."""
    return Path(os.environ.get("DIFFSAL_CACHE") or Path.home() / ".cache" / "diffsal").expanduser()


def download(entry: Weights, folder: Path) -> Path:
    """``entry``'s file in ``folder``, fetched once; it gets its name only after its SHA-256 is right.

    An interrupted download leaves nothing, a damaged file is fetched again. Raises :class:`InputError` where the file
    cannot be fetched or is not the one expected.
    """
    assert entry.url is not None
    path = folder / f"{entry.name}.safetensors"
    if path.exists() and sha256_of(path) == entry.sha256:
        return path
    with whole_file(path) as partial:
        try:
            with urllib.request.urlopen(entry.url, timeout=DOWNLOAD_TIMEOUT_SECONDS) as answer:
                num_bytes = _fetch(answer, partial)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise InputError(
                f"{entry.url}: cannot be fetched ({error}); is the network up? Or fetch it yourself as {path}"
            ) from None
        found = sha256_of(partial)
        if found != entry.sha256:
            raise InputError(
                f"{entry.url}: SHA-256 of its {num_bytes:,} bytes is {found}, expected {entry.sha256}; "
                "nothing was kept, try again"
            )
    return path


def _fetch(answer: http.client.HTTPResponse, path: Path) -> int:
    """Write an answer to ``path``; the number of bytes. One that ends before its Content-Length is an error."""
    expected, written = answer.headers.get("Content-Length"), 0
    with path.open("wb") as file:
        while block := answer.read(DOWNLOAD_BLOCK):
            written += file.write(block)
    if expected is not None and written != int(expected):
        raise ConnectionError(f"it broke off after {written:,} of {int(expected):,} bytes")
    return written


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(DOWNLOAD_BLOCK):
            digest.update(block)
    return digest.hexdigest()
