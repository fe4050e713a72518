"""The ONNX engine: torch's maps, whatever is heard, and one line for graphs that cannot be run."""

import numpy as np
import onnxruntime
import pytest
import torch

from diffsal.config import Finish
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders import s3d
from diffsal.prediction.pipeline import predict
from diffsal.runtime.engine import Engine, as_engine
from diffsal.runtime.export import export
from diffsal.runtime.graphs import read_graphs
from diffsal.runtime.onnx import OnnxEngine
from diffsal.runtime.torch import TorchEngine
from diffsal.weights.catalogue import find
from diffsal.weights.files import load
from tests.movies import write_movie
from tests.narrow import narrow_encoders, tiny_config  # noqa: F401
from tests.runtime.test_export import rewritten, speaking

FINISH = Finish(1.2, 0.5, 1.0, 0.0, 0.3, ((0.0, -1.0), (-2.0, -3.0)))


def maps(engine: Engine, images: np.ndarray, mel: np.ndarray | None, steps: tuple[int, ...]) -> np.ndarray:
    """One window's raw predictions at some timesteps."""
    config = engine.config
    frames = engine.encode_frames(images[:: engine.frame_step])
    brightness = None
    if engine.encodes_frames:
        h, w = config.height // 4, config.width // 4
        values = config.preprocessing
        normalised = (images / np.float32(255) - np.float32(values.mean)) / np.float32(values.std)
        brightness = normalised.mean(-1).reshape(1, len(images), h, 4, w, 4).mean((3, 5)).astype(np.float32)
    audio = None if mel is None else engine.encode_sound(mel)
    conditions = engine.encode_windows([frames], brightness, audio)
    x_t = np.random.default_rng(1).normal(size=(1, 1, config.height, config.width)).astype(np.float32)
    return np.stack([engine.denoise(x_t, np.array([t]), conditions) for t in steps])


def test_the_bundled_graphs_give_torchs_maps_with_sound_and_without():
    theirs, ours = TorchEngine(load("compact")), OnnxEngine(find("compact", graphs=True))
    assert isinstance(ours, Engine) and as_engine(ours) is ours
    for name in ("config", "finish", "encodes_frames", "frame_step"):
        assert getattr(ours, name) == getattr(theirs, name)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 224, 384, 3), np.uint8)
    found = []
    for mel in (rng.normal(size=(1, 1, 1, 96, 64)).astype(np.float32), None):
        expected = maps(theirs, images, mel, (999, 400))
        found.append(maps(ours, images, mel, (999, 400)))
        assert found[-1].shape == (2, 1, 1, 56, 96)
        np.testing.assert_allclose(found[-1], expected, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-4


@pytest.mark.usefixtures("narrow_encoders")
def test_whole_windows_give_torchs_maps_with_sound_and_without(tmp_path, monkeypatch):
    monkeypatch.setattr("diffsal.runtime.export.REWRITTEN", 0)  # as for graphs of full size
    one_of_each = {name: s3d.MIXED[name] for name in ("3c", "4b", "5b")}  # the nine blocks are alike
    monkeypatch.setattr(s3d, "MIXED", one_of_each)
    monkeypatch.setattr(s3d, "TAPS", (3, 5, 7, 9))
    monkeypatch.setattr(s3d.S3D, "channels", (s3d.STEM_WIDTHS[-1], *(mixed.channels for mixed in one_of_each.values())))
    torch.manual_seed(0)
    model = speaking(DiffSal(tiny_config(
        video_encoder="s3d", audio_encoder="vggish", predicts="noise", modulation_stages=1, fused_slots=3,
        attention_scale="width", interaction_softmax="row", audio_memory="released", query_depth=3), FINISH))
    export(model, tmp_path / "x.onnx", {"diffsal.source": "a test"})
    graphs = read_graphs(tmp_path / "x.onnx")
    assert set(graphs.parts) == {"window", "denoise", "sound"}
    assert (graphs.config, graphs.finish, graphs.metadata["diffsal.source"]) == (model.config, FINISH, "a test")
    ours, theirs = OnnxEngine(tmp_path / "x.onnx"), TorchEngine(model)
    assert not ours.encodes_frames and ours.frame_step == theirs.frame_step
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 64, 128, 3), np.uint8)
    found = []
    for mel in (None, rng.normal(size=(1, 1, 9, 112, 192)).astype(np.float32)):
        found.append(maps(ours, images, mel, (700,)))
        np.testing.assert_allclose(found[-1], maps(theirs, images, mel, (700,)), atol=2e-5)


def test_graphs_that_cannot_be_run_are_one_line(tmp_path, capfd):
    def unknown(parts, _):
        parts["denoise"].graph.node[-1].op_type = "NoSuchOperator"

    def smaller(parts, _):
        parts["denoise"].graph.input[0].type.tensor_type.shape.dim[2].dim_value = 32

    def wider(parts, _):
        node = next(n for n in parts["frames"].graph.node if n.op_type == "Conv")
        next(a for a in node.attribute if a.name == "group").i = 2**31

    bundled = find("compact", graphs=True)
    for change, message in ((unknown, "refuses its graph denoise"), (smaller, "denoise")):
        path = rewritten(tmp_path / "bad.onnx", bundled, change)
        with pytest.raises(InputError, match=message) as error:
            OnnxEngine(path)
        assert "\n" not in str(error.value)
    path = rewritten(tmp_path / "bad.onnx", bundled, unknown)
    path.write_bytes(path.read_bytes().replace(b"NoSuchOperator", b"NoSuch\x80perator"))
    with pytest.raises(InputError, match="refuses its graph denoise"):
        OnnxEngine(path)
    engine = OnnxEngine(rewritten(tmp_path / "wide.onnx", bundled, wider))
    with pytest.raises(InputError, match=r"wide.onnx: ONNX Runtime cannot run its graph frames: .*; fetch it"):
        engine.encode_frames(np.zeros((1, 224, 384, 3), np.uint8))
    assert capfd.readouterr().out == ""


def test_other_devices_are_refused():
    with pytest.raises(InputError, match="device cuda"):
        as_engine(OnnxEngine(find("compact", graphs=True)), "cuda")


def test_two_predictions_with_one_model_prepare_it_once(tmp_path, monkeypatch):
    made, session = [], onnxruntime.InferenceSession

    def counted(*given, **settings):
        made.append(session(*given, **settings))
        return made[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    engine = OnnxEngine(find("compact", graphs=True))
    path = write_movie(tmp_path / "a.mp4", num_frames=3)
    maps = [[p.saliency for p in predict(engine, path)] for _ in range(2)]
    assert len(made) == 3  # frames, window, denoise: nothing sounds
    assert all((a == b).all() for a, b in zip(*maps, strict=True))
