"""Which engine predicts, and what is said where there is none."""

import subprocess
import sys

import pytest

from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.runtime import loading
from diffsal.runtime.loading import load, load_engine
from diffsal.runtime.onnx import OnnxEngine
from diffsal.runtime.torch import TorchEngine
from diffsal.weights.catalogue import find


def test_graphs_are_taken_on_the_cpu_and_torch_for_the_rest(weights):
    assert isinstance(load_engine("compact"), OnnxEngine)
    assert isinstance(load_engine(find("compact", graphs=True)), OnnxEngine)
    assert isinstance(load_engine("compact", "torch"), TorchEngine)
    assert isinstance(load_engine(weights), TorchEngine)
    assert isinstance(load(weights), DiffSal) and isinstance(load("compact", engine="torch"), DiffSal)
    assert isinstance(load("compact"), OnnxEngine) and isinstance(load(find("compact", graphs=True)), OnnxEngine)


def test_what_cannot_be_is_one_line(weights, tmp_path):
    for settings, message in (
        ((weights, "onnx"), "diffsal export"), (("compact", "onnx", "cuda"), "graphs run on the CPU"),
        ((find("compact", graphs=True), "torch"), "not run by torch"), (("nobody",), "known are compact"),
        ((tmp_path / "none.onnx",), "no such weights"),
    ):
        with pytest.raises(InputError, match=message):
            load_engine(*settings)


def test_without_torch_the_bundled_graphs_are_loaded_and_the_rest_says_how_to_install_it(weights, monkeypatch):
    monkeypatch.setattr(loading, "has_torch", lambda: False)
    assert isinstance(load("compact"), OnnxEngine)
    for call in (lambda: load(weights), lambda: load_engine("compact", "torch"), lambda: load_engine(weights)):
        with pytest.raises(InputError, match=r'pip install "diffsal\[torch\]"'):
            call()


def test_the_engine_of_graphs_never_imports_torch():
    code = ("import sys; from diffsal.runtime.loading import load_engine; load_engine(); "
            "assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
