"""Weights to a hub: ``model.safetensors`` or ``model.onnx`` and a card made of their metadata, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffsal.errors import InputError
from diffsal.runtime.graphs import read_graphs
from diffsal.weights.catalogue import entry_of, find, provenance
from diffsal.weights.hub import ENDINGS, SCHEME, Address, client, endpoint, told, unreachable
from diffsal.weights.metadata import config_of, finish_of, sha256_of

LONG = 80  # characters of a value that has no place in the card's tables


@dataclass(frozen=True)
class Pushed:
    """What now stands on the hub."""

    address: str
    url: str
    files: tuple[str, ...]


def push(weights: str | Path, repository: str, private: bool = False) -> Pushed:
    """Upload a catalogue name's two files, or one file, and their card to ``OWNER/NAME``.

    In one commit, so whole or not at all. Raises :class:`InputError` for what is no file of weights that diffsal wrote,
    without a token that may write, and without a network.
    """
    address = Address.of(repository if repository.startswith(SCHEME) else SCHEME + repository)
    if address.revision:
        raise InputError(f"{repository}: push goes to the branch main; leave @{address.revision} out")
    hub = client(address)
    from huggingface_hub import CommitOperationAdd

    paths = [find(weights), find(weights, graphs=True)] if entry_of(weights) else [find(weights)]
    files = {f"model{path.suffix.lower()}": path for path in paths}
    if any(path.suffix.lower() not in ENDINGS for path in paths):
        raise InputError(f"{paths[0]}: push takes {' and '.join(ENDINGS)} only; `diffsal convert` makes them")
    text = card(weights, address.name, files)
    operations = [CommitOperationAdd("README.md", text.encode())]
    operations += [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    with told(address):
        try:
            hub.create_repo(address.name, private=private, exist_ok=True)
            hub.create_commit(address.name, operations, commit_message=f"Weights {Path(weights).name}, by diffsal push")
        except Exception as error:
            if not unreachable(error):
                raise
            raise InputError(f"{address}: {endpoint()} cannot be reached; nothing was uploaded") from None
    return Pushed(str(address), f"{endpoint()}/{address.name}", ("README.md", *files))


def metadata_of(path: Path) -> Mapping[str, str]:
    """What a ``.safetensors`` or an ``.onnx`` of ours says about itself, read strictly."""
    if path.suffix.lower() == ".onnx":
        return read_graphs(path).metadata
    from diffsal.weights.files import read_metadata

    return read_metadata(path)


def card(weights: str | Path, name: str, files: Mapping[str, Path]) -> str:
    """The repository's README.md: how to use the files, their network, finish, provenance, scores and hashes."""
    from huggingface_hub import ModelCardData

    path = next(iter(files.values()))
    metadata = metadata_of(path)
    config, finish = config_of(metadata, path), finish_of(metadata, path)
    told_by_file, scores = provenance(weights, metadata)
    licence = told_by_file.get("licence", "")
    data = ModelCardData(library_name="diffsal", license=licence.lower() or None,
                         tags=["video-saliency", "saliency-prediction", "eye-tracking"])
    lines = [
        "---", data.to_yaml(), "---", "", f"# {name.split('/')[1]}", "",
        "Where people look in a video with sound: a DiffSal network, for the program `diffsal`.", "",
        "```sh", f"diffsal predict VIDEO --weights {SCHEME}{name}", "```", "",
        "```python", f'model = diffsal.load("{SCHEME}{name}")', "```", "",
        "## Network", "", *_table(_plain(config.to_dict())), "",
        "## Finish", "", "What is done to a map once, after the last step.", "", *_table(_plain(finish.to_dict())), "",
    ]
    if told_by_file:
        lines += ["## Where it comes from", "", *_table(told_by_file), ""]
    lines += ["## Scores", "", *(_table(scores) if scores else ["The files state none."]), ""]
    lines += ["## Files", "", "| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| `{file}` | {place.stat().st_size:,} | `{sha256_of(place)}` |" for file, place in files.items()]
    return "\n".join(lines) + "\n"


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {k: v for k, v in values.items() if v is not None and not isinstance(v, dict) and len(str(v)) < LONG}


def _table(rows: Mapping[str, object]) -> list[str]:
    def cell(value: object) -> str:
        return " ".join(str(value).split()).replace("|", "\\|")

    return ["| | |", "|---|---|", *(f"| {cell(key)} | {cell(value)} |" for key, value in rows.items())]
