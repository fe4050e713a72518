"""Checkpoints of strangers: what torch writes is read to the bit; whatever a pickle asks for beyond it is refused."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from diffsal.errors import InputError
from diffsal.weights.torch_files import read_checkpoint


def zipped(path, pickled, **storages):
    """A file as torch.save writes it, with this pickle and these storages."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            file.writestr(f"archive/data/{key[1:]}", data)
    return path


def call(module, name, *arguments, state=None):
    """Opcodes that call ``module.name``, and perhaps set a state on what it gives."""
    pickled = b"c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"
    return pickled if state is None else pickled + state + b"b"


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(count, key="0", kind="FloatStorage"):
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(count=6, offset=0, size=(2, 3), stride=(3, 1), key="0"):
    return call("torch._utils", "_rebuild_tensor_v2", storage(count, key), number(offset), numbers(*size),
                numbers(*stride), b"\x89", call("collections", "OrderedDict"))


def state(value):
    return b"\x80\x02}" + text("a") + value + b"s."


@pytest.mark.parametrize("new", [True, False])
def test_what_training_scripts_save_is_read_to_the_bit(tmp_path, new):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimiser.step()
    saved = {"state_dict": model.state_dict(), "optimizer": optimiser.state_dict(), "epoch": 3, "best": np.float64(0.5),
             "seen": np.int64(7), "size": torch.Size([1, 2]), "device": torch.device("cpu"), "dtype": torch.float16}
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    read = read_checkpoint(tmp_path / "a.pth")
    assert read.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert read[key].dtype == value.dtype and torch.equal(read[key], value), key
    views = {"t": torch.arange(12.0).view(3, 4).t(), "part": torch.arange(12)[5:9], "one": torch.tensor(5),
             "none": torch.zeros(0, 3), "half": torch.ones(2).half(), "b": torch.ones(3, dtype=torch.bfloat16),
             "p": torch.nn.Parameter(torch.ones(2)), "same": torch.tensor(2.0).expand(3, 4)}
    torch.save(views, tmp_path / "b.pth", _use_new_zipfile_serialization=new)
    for key, value in read_checkpoint(tmp_path / "b.pth").items():
        assert torch.equal(value, views[key].detach()) and value.dtype == views[key].dtype


DTYPE = call("numpy", "dtype", text("f8"), b"\x89", b"\x88")
STATES = {  # what a pickle may set on numpy's dtypes: each of these once crashed NumPy
    "names without fields": b"(" + number(3) + text("<") + b"N" + b"(" + text("a") + b"t" + b"N" + number(-1) * 2
                            + number(0) + b"t",
    "fields of numbers": b"(" + number(3) + text("<") + b"N" + b"(" + text("a") + b"t" + b"}" + text("a") + number(7)
                         + b"s" + number(-1) * 2 + number(0) + b"t",
    "an offset far away": b"(" + number(3) + text("<") + b"N" + b"(" + text("a") + b"t" + b"}" + text("a") + b"("
                          + DTYPE + number(1 << 40) + b"t" + b"s" + number(8) + number(1) + number(0) + b"t",
    "a subarray of words": b"(" + number(3) + text("<") + b"(" + DTYPE + text("x") + b"t" + b"N" * 2 + number(-1) * 2
                           + number(0) + b"t",
    "a size below zero": b"(" + number(3) + text("<") + b"N" * 3 + number(-8) + number(-1) + number(0) + b"t",
    "flags of objects": b"(" + number(4) + text("|") + b"N" * 3 + number(8) + number(1) + number(63) + b"N" + b"t",
    "no tuple": text("<"),
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_dtypes_are_thrown_away(tmp_path, name):
    value = call("numpy.core.multiarray", "scalar", DTYPE + STATES[name] + b"b",
                 call("_codecs", "encode", text("\0" * 8), text("latin1")))
    path = zipped(tmp_path / "a.pth", state(tensor()) + b"", _0=np.arange(6, dtype="<f4").tobytes())
    assert read_checkpoint(path)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    beside = b"\x80\x02}" + text("best") + value + b"s" + text("state_dict") + b"}" + text("a") + tensor() + b"ss."
    zipped(path, beside, _0=np.arange(6, dtype="<f4").tobytes())
    assert read_checkpoint(path)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(("module", "name"), [
    ("os", "system"), ("builtins", "eval"), ("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"),
    ("torch._utils", "_rebuild_sparse_tensor"), ("torch._utils", "_rebuild_qtensor"),
    ("torch.storage", "_load_from_bytes"),
    ("torch._tensor", "_rebuild_from_type_v2"), ("torch", "compile"), ("torch.hub", "load"), ("functools", "partial"),
    ("diffsal.weights.pickles", "read_pickle"), ("_codecs", "decode"), ("collections", "Counter"),
])
def test_every_other_name_is_refused(tmp_path, module, name):
    path = zipped(tmp_path / "a.pth", state(call(module, name, text("echo"))))
    with pytest.raises(InputError, match=rf"a\.pth: refused: loading it would run {module}\.{name}"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [
    tensor(size=(1 << 20, 1 << 20), stride=(1 << 20, 1)), tensor(size=(3, 3)), tensor(offset=1), tensor(offset=1 << 50),
    tensor(count=1 << 40, size=(1 << 40,), stride=(1,)), tensor(size=(2, 3), stride=(1 << 40, 1)), tensor(size=(-2, 3)),
    tensor(size=(1 << 30, 1 << 10), stride=(0, 0)), tensor(key="9"), tensor(size=(2,)),
    tensor(size=(1,) * 40, stride=(1,) * 40),
    call("torch._utils", "_rebuild_tensor_v2", text("x"), number(0), numbers(1), numbers(1)),
    call("torch._utils", "_rebuild_tensor_v2"), call("_codecs", "encode", text("a" * 1000), text("latin1")),
    call("numpy", "dtype", text("O8")), call("collections", "OrderedDict", number(1 << 60)),
    b"r\xff\xff\xff\x7f", b"\x96" + struct.pack("<Q", 1 << 60), b"\x8d" + struct.pack("<Q", 1 << 60) + b"x",
    b"Nb", b"P1\n",
    b"(" * 100_000, b"i" + b"os\nsystem\n", b"\x82\x01",
])
def test_shapes_and_opcodes_are_checked_before_memory_is_taken(tmp_path, value):
    path = zipped(tmp_path / "a.pth", state(value), _0=bytes(24))
    with pytest.raises(InputError, match=r"a\.pth: "):
        read_checkpoint(path)


def test_dictionaries_that_hold_themselves_and_bombs_of_names(tmp_path):
    itself: dict = {}
    itself["state_dict"] = itself
    deep: dict = {}
    for _ in range(100):
        deep = {"state_dict": deep}
    for value in (itself, deep, {"state_dict": 3}, {3: torch.ones(1)}, [], "x", None):
        data = io.BytesIO()
        torch.save(value, data, pickle_protocol=2)
        (tmp_path / "a.pth").write_bytes(data.getvalue())
        with pytest.raises(InputError, match=r"a\.pth: "):
            read_checkpoint(tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", state(tensor(count=1 << 26)) + bytes(1 << 20))
        file.writestr("archive/data/0", bytes(1 << 28))
    with pytest.raises(InputError, match=r"bomb\.pth: "):
        read_checkpoint(tmp_path / "bomb.pth")
    (tmp_path / "c.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match=r"c\.pth: "):
        read_checkpoint(tmp_path / "c.pth")
