"""PyTorch's pickles as plain data: the few names that a checkpoint may call are functions of ours that build numbers.

Nothing of torch, NumPy or Python is called by name, no state is set on anything, and a tensor's shape is held against
the bytes that there are before it is made.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}
DTYPES = frozenset(str(dtype).removeprefix("torch.") for dtype in STORAGES.values())
NUMBER_FORMATS = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H",
                  "u4": "I", "u8": "Q", "b1": "?"}  # of numpy's scalars, as struct reads them
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.save's before 1.6: pickles and storages one after another
MOST_PICKLE_BYTES = 256 << 20  # without the tensors' own numbers
MOST_DIMENSIONS = 16
MOST_REPEATED = 1 << 28  # numbers of a tensor that repeats fewer stored ones
WITHOUT_USE = (b"\x82", b"\x83", b"\x84", b"i", b"o", b"\x81", b"\x92", b"\x96", b"\x97", b"\x98")  # EXT, INST, OBJ …


class Refused(Exception):
    """A pickle asks for ``name``, which no checkpoint needs."""


class Unusable(Exception):
    """A pickle is damaged, or says what cannot be."""


class Plain(dict):
    """A dictionary, also where torch writes an ordered one."""


class Number(NamedTuple):
    """A type of numpy's: ``f8``; or what stands for one."""

    kind: str


class Storage(NamedTuple):
    """Numbers of one type in the file."""

    key: str
    dtype: torch.dtype
    num_numbers: int


class View(NamedTuple):
    """A tensor to be made of a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> View:
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise Unusable("a tensor has no storage or no shape")
    numbers = (offset, *size, *stride)
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers) or len(size) != len(stride):
        raise Unusable("a tensor's shape is no shape")
    if len(size) > MOST_DIMENSIONS or math.prod(size) > max(storage.num_numbers, MOST_REPEATED):
        raise Unusable(f"a tensor of shape {tuple(size)} has {storage.num_numbers:,} numbers in the file")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if math.prod(size) else -1
    if last >= storage.num_numbers:
        raise Unusable(f"a tensor of shape {tuple(size)} goes beyond its {storage.num_numbers:,} numbers")
    return View(storage, offset, size, stride)


def _parameter(data: Any, *_: Any) -> View:
    if not isinstance(data, View):
        raise Unusable("a parameter holds no tensor")
    return data


def _dictionary(*arguments: Any) -> Plain:
    if len(arguments) > 1:
        raise Unusable("a dictionary of two parts")
    return Plain(*arguments)


def _size(*arguments: Any) -> tuple:
    return tuple(*arguments) if len(arguments) < 2 else arguments


def _number_type(kind: Any, *_: Any) -> Number:
    if not isinstance(kind, str) or kind.lstrip("<>=|") not in NUMBER_FORMATS:
        raise Unusable("a number of no known type")
    return Number(kind.lstrip("<>=|"))


def _number(kind: Any, data: Any = b"") -> float | int | bool:
    if not isinstance(kind, Number) or not isinstance(data, bytes):
        raise Unusable("a number without its bytes")
    try:
        return struct.unpack("<" + NUMBER_FORMATS[kind.kind], data)[0]
    except struct.error:
        raise Unusable(f"a number {kind.kind} of {len(data)} bytes") from None


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1") or len(text) > 64:
        raise Unusable("bytes written as something else")
    return text.encode("latin-1")


def _word(*arguments: Any) -> str:
    return " ".join(str(a)[:40] for a in arguments if isinstance(a, (str, int)))


NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_tensor"): _view,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("collections", "OrderedDict"): _dictionary,
    ("torch", "Size"): _size,
    ("torch", "device"): _word,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy", "dtype"): _number_type,
    ("_codecs", "encode"): _encoded,
}


class Reader(pickle._Unpickler):  # written in Python; the one in C allocates what it is asked to
    """Builds dictionaries, lists, tuples, words, numbers and :class:`View`; raises :class:`Refused` for all else."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        code: function for code, function in pickle._Unpickler.dispatch.items()
        if bytes([code]) not in WITHOUT_USE}

    def load_build(self) -> None:
        """State is thrown away, whatever it would be set on."""
        self.stack.pop()  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in DTYPES:
            return name
        if (module, name) not in NAMES:
            raise Refused(f"{module}.{name}")
        return NAMES[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
            raise Unusable("it refers to something outside of it")
        _, dtype, key, _, count = pid[:5]
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise Unusable("a storage of no known type")
        if len(pid) == 6 and pid[5] is not None:
            raise Unusable("a part of a storage, as PyTorch wrote it before 0.4")
        return Storage(key, dtype, count)


def read_pickle(path: Path) -> Any:
    """What a file of ``torch.save`` holds, tensors made of its numbers.

    Raises :class:`Refused` with the name that it asks for, :class:`Unusable` or whatever a damaged file raises.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            return _read_zip(file, path.stat().st_size)
    with path.open("rb") as file:
        return _read_legacy(file, path.stat().st_size)


def _read_zip(file: zipfile.ZipFile, num_bytes: int) -> Any:
    entries = {e.filename.partition("/")[2]: e for e in file.infolist()}
    if "data.pkl" not in entries:
        raise Unusable("it holds no data.pkl")
    if entries["data.pkl"].file_size > min(MOST_PICKLE_BYTES, 100 * num_bytes):
        raise Unusable("its data.pkl is too long")
    if "byteorder" in entries and file.open(entries["byteorder"]).read(16) not in (b"little", b""):
        raise Unusable("its numbers are big-endian")
    with file.open(entries["data.pkl"]) as pickled:
        found = Reader(pickled, encoding="utf-8").load()
    made: dict[str, Tensor] = {}

    def numbers(storage: Storage) -> Tensor:
        if storage.key not in made:
            entry = entries.get(f"data/{storage.key}")
            wanted = storage.num_numbers * storage.dtype.itemsize
            if entry is None or entry.file_size != wanted or wanted > 20 * num_bytes:
                raise Unusable(f"its storage {storage.key} is missing or has another length")
            made[storage.key] = _tensor(bytearray(file.read(entry)), storage)
        return made[storage.key]

    return _with_tensors(found, numbers)


def _read_legacy(file: IO[bytes], num_bytes: int) -> Any:
    head = [Reader(file, encoding="utf-8").load() for _ in range(3)]
    if head[0] != LEGACY_MAGIC:
        raise Unusable("it does not begin as PyTorch's checkpoints do")
    found = Reader(file, encoding="utf-8").load()
    keys = Reader(file, encoding="utf-8").load()
    wanted: dict[str, Storage] = {}
    _with_tensors(found, lambda storage: wanted.setdefault(storage.key, storage))
    made: dict[str, Tensor] = {}
    for key in keys if isinstance(keys, list) else ():
        count = int.from_bytes(file.read(8), "little")
        storage = wanted.get(key) if isinstance(key, str) else None
        if storage is None or storage.num_numbers != count or count * storage.dtype.itemsize > num_bytes:
            raise Unusable("a storage is missing or has another length")
        data = bytearray(file.read(count * storage.dtype.itemsize))
        made[key] = _tensor(data, storage)
    return _with_tensors(found, lambda storage: made[storage.key])


def _tensor(data: bytearray, storage: Storage) -> Tensor:
    if len(data) != storage.num_numbers * storage.dtype.itemsize:
        raise Unusable("it ends in the middle of its numbers")
    return torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)


def _with_tensors(found: Any, numbers: Callable[[Storage], Any]) -> Any:
    """The mappings on the way to tensors, with tensors in place of views; deeper lists and the like as they are."""
    if isinstance(found, View):
        flat = numbers(found.storage)
        return flat.as_strided(found.size, found.stride, found.offset) if isinstance(flat, Tensor) else flat
    done: dict[int, Any] = {}

    def visit(value: Any, depth: int) -> Any:
        if isinstance(value, View):
            return _with_tensors(value, numbers)
        if type(value) not in (dict, Plain) or depth > 8:
            return value
        if id(value) not in done:
            done[id(value)] = {}
            done[id(value)].update((key, visit(item, depth + 1)) for key, item in value.items())
        return done[id(value)]

    return visit(found, 0)
