"""ONNX files of networks, read within limits and without running anything: graphs, configuration, finish.

A file is one ONNX model whose own graph has no inputs; each of its outputs, a uint8 tensor, is the ONNX file of a part:

===========  =========================================================================================================
``frames``   images uint8 (n, h, w, 3) → scale_0, scale_1, scale_2 (n, c, h / s, w / s), s = 8, 16, 32; only of networks
             that encode single frames
``window``   brightness (b, f, h / 4, w / 4) and scale_i (b, c, f / step, …) of a window's frames, or for other networks
             images uint8 (b, f, h, w, 3), → condition_0, condition_1, …
``sound``    mel (b, 1, n, m, k) → audio (b, a, slots, h2, w2); only of networks with sound
``denoise``  x_t (b, 1, h, w), t int64 (b,), the conditions, and with sound audio and heard bool (b,) → map, raw, at
             ``map_stride``
===========  =========================================================================================================

Batches may be of any size. ``heard`` says which windows have sound; the audio of others is not looked at. The metadata
hold the configuration and the finish under the keys of :mod:`diffsal.weights.metadata`, and provenance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diffsal.config import FRAME_ENCODERS, Finish, ModelConfig
from diffsal.errors import InputError
from diffsal.weights.metadata import FORMAT_KEY, config_of, finish_of

FORMAT = "1"
MOST_BYTES = 2**31 - 1  # of a file: protobuf's own limit
MOST_NODES = 50_000
MOST_METADATA = 1 << 20  # bytes
DOMAINS = ("", "ai.onnx")

# Protobuf's wire types, and the numbers of the fields of onnx.proto that are looked at
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MODEL = {"graph": 7, "opset": 8, "metadata": 14, "training": 20, "functions": 25}
GRAPH = {"node": 1, "initializer": 5, "input": 11, "output": 12, "sparse": 15}
NODE = {"type": 4, "attribute": 5, "domain": 7}
ATTRIBUTE = {"tensor": 5, "graph": 6, "tensors": 10, "graphs": 11, "sparse": 22, "sparses": 23}
TENSOR = {"name": 8, "raw": 9, "external": 13, "location": 14}


@dataclass(frozen=True)
class Graphs:
    """What a file holds: the parts' ONNX files by name, and what it says about itself."""

    path: Path
    config: ModelConfig
    finish: Finish
    metadata: dict[str, str]
    parts: dict[str, bytes] = field(repr=False)
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, tuple[str, ...]]


def read_graphs(path: Path) -> Graphs:
    """The graphs of an ``.onnx`` that ``diffsal export`` wrote. Nothing is run, and nothing but the file is read.

    Raises :class:`InputError` for a file that is missing, cut short or too large, of another program or another
    network, and for graphs with operators of their own, loops or data outside of the file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not 0 < path.stat().st_size <= MOST_BYTES:
        raise InputError(f"{path}: has {path.stat().st_size:,} bytes; graphs have 1 to {MOST_BYTES:,}")
    try:
        return _read(memoryview(path.read_bytes()), path)
    except _Damaged as error:
        raise InputError(f"{path}: not a whole ONNX file ({error}); fetch it again, or make one with `diffsal export`"
                         ) from None


def _read(view: memoryview, path: Path) -> Graphs:
    outer = _checked(view, path, "file")
    if outer.metadata.get(FORMAT_KEY) != FORMAT:
        raise InputError(f"{path}: not made by `diffsal export`, or by a newer one: {FORMAT_KEY} is "
                         f"{outer.metadata.get(FORMAT_KEY)!r}, expected {FORMAT!r}")
    config, finish = config_of(outer.metadata, path), finish_of(outer.metadata, path)
    by_frame, sound = config.video_encoder in FRAME_ENCODERS, config.audio_encoder is not None
    wanted = {*(["frames"] if by_frame else []), "window", *(["sound"] if sound else []), "denoise"}
    found = {name.removesuffix(".onnx"): raw for name, raw in outer.tensors.items()}
    if set(found) != wanted:
        raise InputError(f"{path}: holds the graphs {_listed(found)}; its configuration needs {_listed(wanted)}")
    parts = {name: _checked(raw, path, name) for name, raw in found.items()}
    _check_names(parts, by_frame, sound, path)
    return Graphs(
        path, config, finish, outer.metadata, {name: bytes(raw) for name, raw in found.items()},
        {name: part.inputs for name, part in parts.items()}, {name: part.outputs for name, part in parts.items()},
    )


def _check_names(parts: dict[str, _Part], by_frame: bool, sound: bool, path: Path) -> None:
    """The parts fit together: what one gives, the next takes."""
    scales = tuple(f"scale_{i}" for i in range(3))
    conditions = parts["window"].outputs
    audio = ("audio", "heard") if sound else ()
    wanted = {
        "frames": (("images",), scales), "window": (("brightness", *scales) if by_frame else ("images",), conditions),
        "sound": (("mel",), ("audio",)), "denoise": (("x_t", "t", *conditions, *audio), ("map",)),
    }
    for name, part in parts.items():
        for what, ours, theirs in zip(("inputs", "outputs"), wanted[name], (part.inputs, part.outputs), strict=True):
            if ours != theirs:
                raise InputError(f"{path}: {what} of its graph {name} are {_listed(theirs)}, expected {_listed(ours)}: "
                                 "it is of another network")


def _listed(names: object) -> str:
    return ", ".join(sorted(names)) or "none"  # type: ignore[call-overload]


class _Damaged(Exception):
    pass


@dataclass
class _Part:
    """What is looked at in one ONNX model."""

    metadata: dict[str, str]
    tensors: dict[str, memoryview]  # the initialisers' bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _checked(view: memoryview, path: Path, name: str) -> _Part:
    """One ONNX model, refused where it asks for more than standard operators on data of its own."""
    metadata, graphs = {}, []
    for number, value in _fields(view):
        if number in (MODEL["functions"], MODEL["training"]):
            raise InputError(f"{path}: its graph {name} brings functions of its own; they are not run")
        if number == MODEL["opset"]:
            _check_domain(_text(dict(_fields(_bytes(value))).get(1, b"")), path, name)
        elif number == MODEL["graph"]:
            graphs.append(_bytes(value))
        elif number == MODEL["metadata"]:
            entry = dict(_fields(_bytes(value)))
            metadata[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
    if len(graphs) != 1:
        raise _Damaged(f"{len(graphs)} graphs")
    tensors: dict[str, memoryview] = {}
    ends: dict[int, list[str]] = {GRAPH["input"]: [], GRAPH["output"]: []}
    nodes = 0
    for number, value in _fields(graphs[0]):
        if number == GRAPH["node"]:
            nodes += 1
            _check_node(_bytes(value), path, name)
        elif number == GRAPH["initializer"]:
            tensor = _tensor(_bytes(value), path, name)
            tensors[_text(tensor.get(TENSOR["name"], b""))] = _bytes(tensor.get(TENSOR["raw"], memoryview(b"")))
        elif number == GRAPH["sparse"]:
            raise InputError(f"{path}: its graph {name} holds sparse data, which `diffsal export` does not write")
        elif number in ends:
            ends[number].append(_text(dict(_fields(_bytes(value))).get(1, b"")))
    if nodes > MOST_NODES:
        raise InputError(f"{path}: its graph {name} has {nodes:,} operators, expected at most {MOST_NODES:,}")
    return _Part(metadata, tensors, tuple(ends[GRAPH["input"]]), tuple(ends[GRAPH["output"]]))


def _check_node(view: memoryview, path: Path, name: str) -> None:
    for number, value in _fields(view):
        if number == NODE["domain"]:
            _check_domain(_text(value), path, name)
        elif number == NODE["attribute"]:
            for kind, attribute in _fields(_bytes(value)):
                if kind in (ATTRIBUTE["graph"], ATTRIBUTE["graphs"]):
                    raise InputError(f"{path}: its graph {name} has loops or branches; `diffsal export` writes none")
                if kind in (ATTRIBUTE["sparse"], ATTRIBUTE["sparses"]):
                    raise InputError(f"{path}: its graph {name} holds sparse data; `diffsal export` writes none")
                if kind in (ATTRIBUTE["tensor"], ATTRIBUTE["tensors"]):
                    _tensor(_bytes(attribute), path, name)


def _tensor(view: memoryview, path: Path, name: str) -> dict[int, memoryview | int]:
    found = dict(_fields(view))
    if TENSOR["external"] in found or found.get(TENSOR["location"], 0):
        raise InputError(f"{path}: its graph {name} names data outside of the file; none is read")
    return found


def _check_domain(domain: str, path: Path, name: str) -> None:
    if domain not in DOMAINS:
        raise InputError(f"{path}: its graph {name} has operators of {domain[:60]!r}; only standard ones are run")


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Numbers and values of a protobuf message's fields, in their order."""
    at, size = 0, len(view)
    while at < size:
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(view, at)
            yield number, value
        elif kind in (FIXED64, FIXED32, LENGTH):
            length = {FIXED64: 8, FIXED32: 4}.get(kind)
            if length is None:
                length, at = _varint(view, at)
            if length > size - at:
                raise _Damaged("it ends too early")
            yield number, view[at : at + length]
            at += length
        else:
            raise _Damaged("no protobuf")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise _Damaged("it ends too early")
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise _Damaged("no protobuf")


def _bytes(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise _Damaged("a number where a message is expected")
    return value


def _text(value: memoryview | bytes | int) -> str:
    if isinstance(value, int) or len(value) > MOST_METADATA:
        raise _Damaged("a name or metadata that cannot be")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise _Damaged("text that is not UTF-8") from None
