"""Weights files: written whole, loaded strictly."""

import json
import resource
import stat
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from diffsal.config import Finish, ModelConfig
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.training.recipes import RECIPES
from diffsal.weights import files as weights
from diffsal.weights.catalogue import CATALOGUE, entry_of, find
from diffsal.weights.files import load, read_metadata, save, save_tensors
from diffsal.weights.metadata import CONFIG_KEY, FINISH_KEY

TINY = ModelConfig(
    video_encoder="mobilenet_v2", audio_encoder=None, modulation_stages=1, widths=(32, 16, 16, 8), noise_width=8,
    time_width=32, fusion_width=16, output_width=8, height=64, width=64, map_stride=8,
)


@pytest.fixture(scope="module")
def model() -> DiffSal:
    torch.manual_seed(0)
    return DiffSal(TINY).eval()


@pytest.mark.parametrize("half", [False, True])
def test_what_is_saved_is_what_is_loaded(model, tmp_path, half):
    path = tmp_path / "new" / "tiny.safetensors"
    save(model, path, {"diffsal.source": "a test"}, half=half)
    again = load(path)
    assert again.config == TINY
    assert not again.training
    assert read_metadata(path)["diffsal.source"] == "a test"
    loaded = again.state_dict()
    for key, value in model.state_dict().items():
        assert loaded[key].dtype == value.dtype
        assert torch.allclose(loaded[key], value, rtol=1e-3 if half else 0, atol=1e-6 if half else 0)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_half_precision_keeps_what_it_cannot_hold(model, tmp_path):
    state = model.video_encoder.features[0][1].running_var
    before = state.clone()
    try:
        state[0] = 1e6
        save(model, tmp_path / "big.safetensors", half=True)
        assert load(tmp_path / "big.safetensors").video_encoder.features[0][1].running_var[0] == 1e6
    finally:
        state.copy_(before)


def test_a_failed_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "kept.safetensors"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(model, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"enormous: no such weights: known are compact"):
        load("enormous")


def test_files_that_hold_something_else(model, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"not a file of weights")
    with pytest.raises(InputError, match=r"x\.safetensors: not a whole safetensors file"):
        load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="no diffsal configuration"):
        load(path)
    save_file({"a": torch.zeros(1)}, path, {"diffsal.kind": "encoder"})
    with pytest.raises(InputError, match="encoder only"):
        load(path)
    for config in ("{", '{"colour": 3}', '{"modulation_stages": 9}', "[]"):
        save_file({"a": torch.zeros(1)}, path, {"diffsal.config": config})
        with pytest.raises(InputError, match="configuration cannot be used"):
            load(path)


def test_the_first_key_that_disagrees_is_named(model, tmp_path):
    path = tmp_path / "x.safetensors"
    metadata = {"diffsal.config": json.dumps(TINY.to_dict())}
    state = {k: v.clone() for k, v in model.state_dict().items()}
    key = next(k for k in state if "noise.conv_in.weight" in k)
    save_file({**state, key: torch.zeros(2, 2)}, path, metadata)
    with pytest.raises(InputError, match=rf"{key} is \[2, 2\], this network expects \[8, 1, 3, 3\]"):
        load(path)
    save_file({k: v for k, v in state.items() if k != key}, path, metadata)
    with pytest.raises(InputError, match=f"has no {key}"):
        load(path)
    save_file({**state, "head.weight": torch.zeros(2)}, path, metadata)
    with pytest.raises(InputError, match=r"head\.weight has no place"):
        load(path)


def test_every_entry_is_complete():
    assert len({w.name for w in CATALOGUE}) == len(CATALOGUE)
    assert all(w.licence and w.source and w.summary for w in CATALOGUE)
    assert all(find(w.name).is_file() and find(w.name, graphs=True).is_file() for w in CATALOGUE)


def test_the_bundled_network_is_the_recipe_it_names():
    found = load("compact")
    assert entry_of("compact")
    model, _, wanted = RECIPES["compact"]()
    assert found.config == model
    finish = found.finish
    assert (finish.exponent, finish.motion_gain, finish.sound_gain) == (
        wanted.exponent, wanted.motion_gain, wanted.sound_gain)
    assert finish.centre_gain == pytest.approx(wanted.centre_gain, abs=1e-4)
    prior = found.unet.fusion.prior.detach()
    assert torch.tensor(finish.centre).shape == prior.shape[-2:]
    assert (prior + finish.centre_gain * torch.tensor(finish.centre)).min().item() == pytest.approx(-1.943, abs=1e-3)


def test_files_before_the_finish_had_a_key_of_its_own_are_read(tmp_path):
    model = DiffSal(replace(RECIPES["compact"]()[0], height=64, width=96))
    old = {"sharpness": 1.3, "motion_prior": 0.5, "sound_prior": 2.0}
    path = tmp_path / "old.safetensors"
    save_tensors(model.state_dict(), path, {CONFIG_KEY: json.dumps({**model.config.to_dict(), **old})})
    found = load(path)
    assert found.config == model.config and found.finish == Finish(1.3, 0.5, 2.0)
    assert torch.equal(found.unet.fusion.prior, model.unet.fusion.prior)
    save(found, path)
    assert load(path).finish == found.finish


def test_a_finish_that_cannot_be_used_is_one_line(tmp_path):
    model, path = DiffSal(replace(RECIPES["compact"]()[0], height=64, width=96)), tmp_path / "x.safetensors"
    for text in ('{"exponent": NaN}', '{"exponent": -1}', '{"bend": 1}', "[", "3"):
        save(model, path, {FINISH_KEY: text})
        with pytest.raises(InputError, match=r"x\.safetensors: its finish cannot be used"):
            load(path)


ODD = (None, "x", -1, 0, 3, 10**9, float("nan"), [], [3], [1, 1, 1, 1], True, {}, 1.5)


def test_odd_configurations_load_or_are_one_line(tmp_path, model):
    path, refused = tmp_path / "odd.safetensors", 0
    for name in TINY.to_dict():
        for value in ODD:
            config = json.dumps({**TINY.to_dict(), name: value})
            save_tensors({}, path, {CONFIG_KEY: config})
            with pytest.raises(InputError, match=r"odd\.safetensors: ") as error:  # at the latest, nothing is in it
                load(path)
            assert "\n" not in str(error.value)
            refused += "configuration cannot" in str(error.value)
    assert refused > 250
    for text in ("[]", "3", "null", '"x"', "{", '{"preprocessing": 3}', '{"preprocessing": {"mean": [0, 0]}}'):
        save(model, path, {CONFIG_KEY: text})
        with pytest.raises(InputError, match="its configuration cannot be used"):
            load(path)


def test_a_configuration_of_a_huge_network_costs_no_memory(tmp_path, model):
    path = tmp_path / "huge.safetensors"
    config = {**TINY.to_dict(), "widths": [2**20, 16, 16, 8], "fusion_width": 2**20}
    save(model, path, {CONFIG_KEY: json.dumps(config)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="this network expects"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
