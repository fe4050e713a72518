"""The timesteps are spaced as the weights say, unless told otherwise: in Python, on the command line, in graphs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from diffsal.diffusion import samplers
from diffsal.errors import InputError
from diffsal.prediction.pipeline import predict
from diffsal.runtime.graphs import read_graphs
from diffsal.runtime.loading import load, load_engine
from diffsal.runtime.onnx import OnnxEngine
from diffsal.weights.catalogue import find
from diffsal.weights.files import read_metadata, save
from tests.commands import outcome
from tests.movies import write_movie


@pytest.fixture(scope="module")
def leading(weights, tmp_path_factory):
    """The same network, whose one step is to be at t = 0."""
    path = tmp_path_factory.mktemp("leading") / "leading.safetensors"
    save_file(load_file(weights), path, read_metadata(weights) | {"diffsal.spacing": "leading"})
    return path


@pytest.fixture
def calls(monkeypatch):
    """The timesteps of every map that is drawn."""
    found, grid = [], samplers.timestep_grid
    monkeypatch.setattr(samplers, "timestep_grid", lambda *a: found.append(grid(*a)) or found[-1])
    return found


def test_predict_takes_the_weights_own(weights, leading, calls, tmp_path):
    clip = write_movie(tmp_path / "a.mp4", num_frames=2, frame_rate=10)
    maps = {}
    for path, given, times in ((weights, None, [999, -1]), (leading, None, [0, -1]), (leading, "linspace", [999, -1])):
        maps[path, given] = next(predict(load(path), clip, spacing=given)).saliency
        assert set(map(tuple, calls)) == {tuple(times)}
        calls.clear()
    np.testing.assert_array_equal(maps[weights, None], maps[leading, "linspace"])
    assert np.abs(maps[weights, None] - maps[leading, None]).max() > 1e-6


def test_the_released_codes_extra_calls(leading, calls, tmp_path):
    """S = 3, 6 and 7 do not divide 1,000: the released code then makes S + 1 calls (golden/RELEASED.md, Sampling)."""
    clip = write_movie(tmp_path / "a.mp4", num_frames=1, frame_rate=10)
    for steps, times in ((3, [999, 666, 333, 0]), (6, [996, 830, 664, 498, 332, 166, 0]),
                         (7, [994, 852, 710, 568, 426, 284, 142, 0])):
        next(predict(load(leading), clip, steps=steps))
        assert calls.pop() == [*times, -1]


def test_the_command_line(leading, calls, tmp_path, capsys):
    clip = write_movie(tmp_path / "a.mp4", num_frames=1, frame_rate=10)
    for given, said, times in (([], "leading", [500, 0, -1]), (["--spacing", "trailing"], "trailing", [999, 499, -1])):
        out = tmp_path / f"{said}.json"
        assert outcome(capsys, "predict", str(clip), "--only-maps", "--json", str(out), "--weights", str(leading),
                       "--steps", "2", *given)[0] == 0
        assert json.loads(out.read_text())["settings"]["spacing"] == said
        assert set(map(tuple, calls)) == {tuple(times)}
        calls.clear()


def test_it_is_saved_exported_and_checked(leading, tmp_path):
    model = load(leading)
    save(model, tmp_path / "again.safetensors")
    assert load(tmp_path / "again.safetensors").spacing == load_engine(leading).spacing == "leading"
    graphs = read_graphs(find("compact", graphs=True))
    assert OnnxEngine(graphs).spacing == "linspace"
    assert OnnxEngine(replace(graphs, metadata=graphs.metadata | {"diffsal.spacing": "leading"})).spacing == "leading"
    other = tmp_path / "other.safetensors"
    save_file(load_file(leading), other, read_metadata(leading) | {"diffsal.spacing": "[/b]"})
    with pytest.raises(InputError, match=r"its spacing is '\[/b\]', expected one of linspace"):
        load(other)
