"""Graphs give torch's maps, carry what the weights say about themselves, and are refused where they are bad."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.runtime.export import (
    BATCH,
    bundle,
    check,
    drop_zero_biases,
    export,
    export_file,
    graph_of,
    parts_of,
    prepared,
)
from diffsal.runtime.graphs import FORMAT_KEY, read_graphs
from diffsal.training.recipes import compact
from diffsal.weights.catalogue import find
from diffsal.weights.files import load
from diffsal.weights.metadata import CONFIG_KEY


def results(graphs, parts) -> dict[str, list[np.ndarray]]:
    """What ONNX Runtime gives for the parts' inputs."""
    found = {}
    for part in parts:
        session = onnxruntime.InferenceSession(graphs.parts[part.name], providers=["CPUExecutionProvider"])
        found[part.name] = session.run(None, {name: x.numpy() for name, x in part.flat_inputs.items()})
    return found


@torch.no_grad()
def assert_equal(model: DiffSal, graphs, b: int) -> None:
    parts = parts_of(prepared(model), b, seed=5)
    found = results(graphs, parts)
    for part in parts:
        for ours, theirs in zip(found[part.name], part.run(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, float(theirs.abs().max())), rtol=0)


def speaking(model: DiffSal) -> DiffSal:
    """Paths that start at zero move the map too."""
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


@pytest.fixture(scope="module")
def bundled() -> Path:
    return find("compact", graphs=True)


@pytest.mark.parametrize("b", [1, 3])
def test_the_bundled_graphs_are_the_bundled_weights_at_any_batch(bundled, b):
    model, graphs = load("compact"), read_graphs(bundled)
    assert set(graphs.parts) == {"frames", "window", "sound", "denoise"}
    assert (graphs.config, graphs.finish) == (model.config, model.finish)
    assert graphs.metadata["diffsal.recipe"] == "compact"
    assert_equal(model, graphs, b)
    for data in graphs.parts.values():
        assert {node.domain for node in onnx.load_from_string(data).graph.node} == {""}


@torch.no_grad()
def test_graphs_one_after_the_other_give_the_networks_map(bundled):
    model, graphs = load("compact"), read_graphs(bundled)
    sessions = {name: onnxruntime.InferenceSession(data) for name, data in graphs.parts.items()}
    images = np.random.default_rng(0).integers(0, 256, (16, 224, 384, 3), np.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (
        model.config.preprocessing.mean, model.config.preprocessing.std))
    video = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    brightness = torch.nn.functional.avg_pool2d(video.mean(1, keepdim=True), 4)[:, 0]
    mel, noise = torch.randn(1, 1, 1, 96, 64), torch.randn(1, 1, 224, 384)
    scales = sessions["frames"].run(None, {"images": images[::2]})
    window = {f"scale_{i}": x.transpose(1, 0, 2, 3)[None] for i, x in enumerate(scales)}
    conditions = sessions["window"].run(None, {"brightness": brightness[None].numpy(), **window})
    given = {f"condition_{i}": x for i, x in enumerate(conditions)}
    given |= {"x_t": noise.numpy(), "t": np.array([999])}
    audio = sessions["sound"].run(None, {"mel": mel.numpy()})[0]
    for heard in (True, False):
        ours = sessions["denoise"].run(None, {**given, "audio": audio, "heard": np.array([heard])})[0]
        features = model.encode(video.transpose(0, 1)[None], mel if heard else None)
        theirs = model.denoise(noise, torch.tensor([999]), features, enlarged=False)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@torch.no_grad()
def test_a_window_of_single_frames_is_exported():
    torch.manual_seed(0)
    model = prepared(speaking(DiffSal(replace(compact()[0], height=64, width=128))))
    part, other = (next(p for p in parts_of(model, b) if p.name == "window") for b in (BATCH, 5))
    check(graph_of(part), other, Path("x.onnx"))


def test_a_graph_that_differs_from_torch_is_not_written(tmp_path, monkeypatch):
    class Other:
        def run(self, names, given):
            return [np.full((1,), 7.0, np.float32) for _ in names]

    monkeypatch.setattr("diffsal.runtime.export.onnxruntime.InferenceSession", lambda *_, **__: Other())
    monkeypatch.setattr("diffsal.runtime.export.graph_of", lambda part: b"")
    model = DiffSal(replace(compact()[0], height=64, width=128))
    with pytest.raises(InputError, match="of the graph frames differs from torch's by"):
        export(model, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("out", "message"), [("x.bin", "ends in .onnx"), ("there.onnx", "--force")])
def test_what_export_does_not_write_is_one_line(tmp_path, out, message):
    (tmp_path / "there.onnx").write_bytes(b"kept")
    with pytest.raises(InputError, match=message):
        export_file("compact", tmp_path / out)
    assert (tmp_path / "there.onnx").read_bytes() == b"kept"


# --- files that are refused ---------------------------------------------------------------------------------------


def rewritten(path: Path, source: Path, change) -> Path:
    """``source`` with ``change(parts, metadata)`` applied; parts are ONNX models by name."""
    graphs = read_graphs(source)
    parts = {name: onnx.load_from_string(data) for name, data in graphs.parts.items()}
    metadata = dict(graphs.metadata)
    change(parts, metadata)
    path.write_bytes(bundle({name: model.SerializeToString() for name, model in parts.items()}, metadata))
    return path


def outside(parts, _):
    tensor = parts["window"].graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def outside_in_a_constant(parts, _):
    tensor = helper.make_tensor("c", TensorProto.FLOAT, [1], [0.0])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    parts["window"].graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def custom(parts, _):
    parts["denoise"].graph.node[0].domain = "com.stranger"


def custom_set(parts, _):
    parts["denoise"].opset_import.append(helper.make_opsetid("com.stranger", 1))


def loop(parts, _):
    body = helper.make_graph([], "body", [], [])
    parts["denoise"].graph.node.append(helper.make_node("If", ["heard"], ["z"], then_branch=body, else_branch=body))


def functions(parts, _):
    parts["denoise"].functions.append(helper.make_function("", "F", [], [], [], [helper.make_opsetid("", 18)]))


def sparse(parts, _):
    parts["window"].graph.sparse_initializer.add()


def without_sound(parts, _):
    del parts["sound"]


def other_inputs(parts, _):
    parts["denoise"].graph.input[0].name = "noise"


def other_config(_, metadata):
    metadata[CONFIG_KEY] = json.dumps({**json.loads(metadata[CONFIG_KEY]), "video_encoder": "s3d"})


def bad_config(_, metadata):
    metadata[CONFIG_KEY] = '{"heads": NaN}'


def of_others(_, metadata):
    del metadata[FORMAT_KEY]


@pytest.mark.parametrize(("change", "message"), [
    (outside, "data outside of the file"), (outside_in_a_constant, "data outside of the file"),
    (custom, "operators of 'com.stranger'"), (custom_set, "operators of 'com.stranger'"),
    (loop, "loops or branches"), (functions, "functions of its own"), (sparse, "sparse data"),
    (without_sound, "its configuration needs denoise, frames, sound, window"), (other_inputs, "of another network"),
    (other_config, "holds the graphs denoise, frames, sound, window"), (bad_config, "configuration cannot be used"),
    (of_others, "not made by `diffsal export`"),
])
def test_bad_graphs_are_one_line(bundled, tmp_path, change, message):
    path = rewritten(tmp_path / "bad.onnx", bundled, change)
    with pytest.raises(InputError, match=message) as error:
        read_graphs(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_cut_empty_missing_and_foreign_files_are_one_line(bundled, tmp_path):
    data, path = bundled.read_bytes(), tmp_path / "bad.onnx"
    for size in (0, 1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"bad\.onnx: (not a whole ONNX file|has 0 bytes|not made by)"):
            read_graphs(path)
    for foreign in (b"PK\x03\x04" + bytes(50), b"\xff" * 100, json.dumps({"a": 1}).encode()):
        path.write_bytes(foreign)
        with pytest.raises(InputError, match=r"bad\.onnx: not "):
            read_graphs(path)
    with pytest.raises(InputError, match="no such file"):
        read_graphs(tmp_path / "none.onnx")


def test_damaged_bytes_never_end_in_another_error(bundled, tmp_path):
    data, rng, path = bytearray(bundled.read_bytes()), np.random.default_rng(0), tmp_path / "bad.onnx"
    for _ in range(40):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 200):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_graphs(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")


def test_convolutions_without_bias_stay_so():
    """As torch exports MViT's: zeros of shape (channels, 2) for the bias, which no runtime takes."""
    weight = np.random.default_rng(0).normal(size=(4, 1, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "zeros"], ["y"], group=4, pads=[1] * 6),
         helper.make_node("Conv", ["y", "w", "bias"], ["z"], group=4, pads=[1] * 6)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 3, 4, 5])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, 3, 4, 5])],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(np.ones(4, np.float32), "bias"),
         onnx.numpy_helper.from_array(np.zeros((4, 2), np.float32), "zeros")])
    drop_zero_biases(graph)
    assert [len(node.input) for node in graph.node] == [2, 3] and {x.name for x in graph.initializer} == {"w", "bias"}
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.randn(1, 4, 3, 4, 5)
    conv = torch.nn.functional.conv3d
    once = conv(x, torch.from_numpy(weight), padding=1, groups=4)
    expected = conv(once, torch.from_numpy(weight), torch.ones(4), padding=1, groups=4)
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected.numpy(), atol=1e-4)
