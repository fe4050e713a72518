"""Others' checkpoints: every known layout is recognised, taken strictly, and told about; what is unsafe is refused."""

import json
import os
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file

from diffsal.config import ModelConfig
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders import AUDIO_ENCODERS, VIDEO_ENCODERS
from diffsal.weights.convert import SOURCES, convert, load_encoder, released
from diffsal.weights.describe import count_parts, describe
from diffsal.weights.files import load, save
from tests.commands import outcome
from tests.conftest import GOLDEN
from tests.narrow import tiny_config


def constants(name: str, prefix: str = "", other: str = "") -> dict[str, torch.Tensor]:
    """The golden network's names and shapes, each tensor full of one value of its own; one number is stored of each."""
    shapes = json.loads((GOLDEN / f"{name}.keys.json").read_text())
    return OrderedDict(
        (other + key.removeprefix(prefix), torch.tensor(i / 1000).expand(shape))
        for i, (key, shape) in enumerate(shapes.items()) if key.startswith(prefix)
    )


def mmaction() -> dict[str, torch.Tensor]:
    state = constants("diffsal_video", "visual_net.", "backbone.")
    scales = tuple(f"backbone.norm{i}." for i in range(3))
    kept = {k: v for k, v in state.items() if not k.startswith(scales)}
    return {**kept, "cls_head.fc_cls.weight": torch.zeros(1).expand(400, 768)}


def hara() -> dict[str, torch.Tensor]:
    return {**constants("resnet3d_50", "", "module."), "module.fc.weight": torch.zeros(1).expand(400, 2048)}


LAYOUTS = {  # title, what stands in the file, one name of theirs and where it goes
    "torchvision mvit_v2_s": (
        lambda: constants("torchvision_mvit_v2_s"), "blocks.3.attn.project.0.weight", "blocks.3.attn.proj.weight"),
    "mmaction2 mvit-small": (
        lambda: {"meta": {"epoch": 3}, "state_dict": mmaction()}, "backbone.norm3.weight", "norm3.weight"),
    "torchvision s3d": (
        lambda: constants("torchvision_s3d"), "features.9.branch2.1.1.0.weight", "features.9.branch2.1.1.0.weight"),
    "Hara's resnet-50-kinetics": (
        lambda: {"arch": "resnet-50", "state_dict": hara(),
                 "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]}},
        "module.layer4.0.downsample.1.bias", "layer4.0.downsample.1.bias"),
    "torchvggish": (
        lambda: constants("diffsal_audio_video", "audio_net."), "features.13.weight", "features.13.weight"),
}
SHARED = {  # title, file of ../shared/weights
    "DeepMind's I3D in JAX": "i3d_rgb_kinetics400",
    "torchvision mobilenet_v2": "mobilenet_v2_imagenet",
    "lukemelas's efficientnet-lite0": "efficientnet_lite0_imagenet",
    "YAMNet": "yamnet_audioset",
}


def receiver(encoder: str) -> tuple[DiffSal, torch.nn.Module]:
    """A small network with that encoder, and the encoder."""
    if encoder in AUDIO_ENCODERS:
        model = DiffSal(tiny_config(video_encoder="mobilenet_v2", audio_encoder=encoder))
        return model, model.audio_encoder
    model = DiffSal(tiny_config(video_encoder=encoder, audio_encoder=None, modulation_stages=1))
    return model, model.video_encoder


def test_every_source_is_tested_and_every_encoder_has_one():
    assert {source.title for source in SOURCES} == {*LAYOUTS, *SHARED}
    assert {source.encoder for source in SOURCES} == {*VIDEO_ENCODERS, *AUDIO_ENCODERS}


@pytest.mark.parametrize("title", LAYOUTS)
def test_encoders_of_others(tmp_path, title):
    make, theirs, ours = LAYOUTS[title]
    source = next(s for s in SOURCES if s.title == title)
    torch.save(make(), tmp_path / "theirs.pth")
    conversion = convert(tmp_path / "theirs.pth", tmp_path / "ours.safetensors", half=True)
    assert conversion.title == title and [u.name for u in conversion.unused] == [name for name, _ in source.unused[:1]]
    value = make().get("state_dict", make())[theirs].flatten()[0].half()
    written = load_file(tmp_path / "ours.safetensors")
    assert (written[ours] == value).all() and not any(name.startswith(source.new) for name in written)
    model, encoder = receiver(source.encoder)
    assert load_encoder(model, tmp_path / "ours.safetensors") == f"converted {source.encoder}"
    assert (encoder.state_dict()[ours] == value).all()


@pytest.mark.parametrize("title", SHARED)
def test_encoders_of_the_shared_folder(tmp_path, shared, title):
    source = next(s for s in SOURCES if s.title == title)
    path = shared / f"weights/{SHARED[title]}.safetensors"
    conversion = convert(path, tmp_path / "ours.safetensors")
    assert conversion.title == title and conversion.unused
    direct, once = receiver(source.encoder), receiver(source.encoder)
    assert load_encoder(direct[0], path) == title
    load_encoder(once[0], tmp_path / "ours.safetensors")
    for (name, a), b in zip(direct[1].state_dict().items(), once[1].state_dict().values(), strict=True):
        assert name.startswith(source.new) or torch.equal(a, b), name
    information = describe(tmp_path / "ours.safetensors")
    assert information.preprocessing == source.preprocessing and information.config is None
    assert information.total.parameters == conversion.parameters
    with pytest.raises(InputError, match="holds an encoder only"):
        load(tmp_path / "ours.safetensors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A released audio-visual ``best.pth``: wrapped, with the optimiser's state and numpy's scores beside it."""
    path = tmp_path_factory.mktemp("released") / "best.pth"
    state = constants("diffsal_audio_video", "", "module.")
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}}, path)
    return path


def test_released_checkpoint_from_file_to_network(checkpoint, tmp_path, capsys):
    out = tmp_path / "ours.safetensors"
    code, told, _ = outcome(capsys, "convert", str(checkpoint), str(out), "--half")
    assert code == 0 and "released DiffSal, audio-visual, 5 slots fused; 76,446,785 parameters" in told
    assert "audio_net.embeddings, 67,641,472 parameters: VGGish's classifier" in told
    values = json.loads(outcome(capsys, "info", str(out), "--json")[1])
    assert values["parameters_with_unused"] == 144_813_002
    assert values["total"]["parameters"] == 76_446_785
    assert values["total"]["paper_multiply_accumulates"] == pytest.approx(187.31e9, rel=0.01)
    assert values["preprocessing"]["sound"] == "released" and values["provenance"]["converted_from"] == "best.pth"
    assert "released DiffSal, audio-visual" in outcome(capsys, "info", str(out))[1]
    model = load(out)
    assert model.config == ModelConfig.released(sound=True)
    theirs = constants("diffsal_audio_video")["decoder_net.conv_in.bias"][0].half()
    assert (model.unet.noise.conv_in.bias == theirs).all()


def test_arithmetic_of_the_video_only_network():
    parts = count_parts(ModelConfig.released(sound=False))
    assert sum(p.paper_multiply_accumulates for p in parts) == pytest.approx(161.06e9, rel=0.01)
    assert sum(p.multiply_accumulates for p in parts) == pytest.approx(203.6e9, rel=0.002)
    assert parts[0].multiply_accumulates == pytest.approx(127.8e9, rel=0.001)


def test_info_of_the_bundled_weights(capsys):
    code, told, _ = outcome(capsys, "info")
    assert code == 0 and "mobilenet_v2, 4 modulation stages" in told


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_something_is_refused(tmp_path, zipped, capsys):
    state = {"state_dict": {"visual_net.cls_token": torch.zeros(1)}, "extra": Malicious(tmp_path / "was run")}
    torch.save(state, tmp_path / "best.pth", _use_new_zipfile_serialization=zipped)
    code, _, error = outcome(capsys, "convert", str(tmp_path / "best.pth"), str(tmp_path / "ours.safetensors"))
    assert code == 1 and "refused: loading it would run posix.mkdir" in error
    assert error.count("\n") == 1 and os.listdir(tmp_path) == ["best.pth"]


def damaged(path, name):
    whole = path.read_bytes()
    return {
        "cut short": whole[: len(whole) // 2], "of random bytes": os.urandom(5000), "empty": b"",
        "text": b"<!DOCTYPE html><html>moved</html>",
    }[name]


@pytest.mark.parametrize("name", ["cut short", "of random bytes", "empty", "text"])
def test_damaged_files_are_named(checkpoint, tmp_path, name):
    (tmp_path / "bad.pth").write_bytes(damaged(checkpoint, name))
    with pytest.raises(InputError, match=r"bad\.pth: .*(damaged|cut short)"):
        convert(tmp_path / "bad.pth", tmp_path / "ours.safetensors")
    assert os.listdir(tmp_path) == ["bad.pth"]


def refuse(tmp_path, state, message):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "other.pth", tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def test_another_networks_checkpoint_names_what_disagrees(tmp_path):
    refuse(tmp_path, {"a.weight": torch.zeros(1), "b": torch.zeros(2)}, "begin with a.weight, b; known are released")
    refuse(tmp_path, {"state_dict": [1, 2]}, "state_dict is list, expected a state dict of tensors")
    refuse(tmp_path, [1, 2], "holds list, expected a state dict")
    flat = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv3.weight": torch.zeros(256, 64, 1, 1)}
    refuse(tmp_path, flat, r"conv1.weight is \[64, 3, 7, 7\], expected \[64, 3, 7, 7, 7\]")
    state = constants("torchvision_s3d")
    refuse(tmp_path, {**state, "features.99.weight": torch.zeros(1)}, r"features.99.weight has no place")
    del state["features.6.branch0.1.running_var"]
    refuse(tmp_path, state, r"has no features.6.branch0.1.running_var")


def test_released_names_are_told_in_their_own_words():
    state = constants("diffsal_video")
    with pytest.raises(InputError, match="not a released DiffSal: expected visual_net"):
        released({"unet.noise": torch.zeros(1)})
    wrong = "decoder_net.temb.dense.1.weight"
    missing = "decoder_net.invpt_decoder.mid_stages.2.blocks.0.attn.proj_q.bias"
    with pytest.raises(InputError, match=rf"state dict: {wrong} is \[3\], expected \[384, 384\]"):
        released({**state, wrong: torch.zeros(3)})
    del state[missing]
    with pytest.raises(InputError, match=f"has no {missing}: cut short"):
        released(state)


def test_nothing_is_overwritten_and_ours_is_not_converted_again(tmp_path, checkpoint):
    (tmp_path / "there.safetensors").write_bytes(b"kept")
    with pytest.raises(InputError, match="exists already; give --force"):
        convert(checkpoint, tmp_path / "there.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == b"kept"
    save(DiffSal(tiny_config(video_encoder="mobilenet_v2", audio_encoder=None)), tmp_path / "tiny.safetensors")
    with pytest.raises(InputError, match="is a diffsal file already"):
        convert(tmp_path / "tiny.safetensors", tmp_path / "again.safetensors")
    with pytest.raises(InputError, match="no such file"):
        convert(tmp_path / "nowhere.pth", tmp_path / "again.safetensors")
