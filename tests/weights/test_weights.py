"""Weights files: written whole, loaded strictly, downloaded once and checked."""

import hashlib
import http.server
import json
import stat
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from diffsal.config import Finish, ModelConfig
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.training.recipes import RECIPES
from diffsal.weights import files as weights
from diffsal.weights.files import (
    CATALOGUE,
    CONFIG_KEY,
    FINISH_KEY,
    Weights,
    download,
    entry_of,
    find,
    load,
    read_metadata,
    save,
    save_tensors,
)

TINY = ModelConfig(
    video_encoder="mobilenet_v2", audio_encoder=None, modulation_stages=1, widths=(32, 16, 16, 8), noise_width=8,
    time_width=32, fusion_width=16, output_width=8, height=64, width=64, map_stride=8,
)


@pytest.fixture(scope="module")
def model() -> DiffSal:
    torch.manual_seed(0)
    return DiffSal(TINY).eval()


@pytest.fixture
def server(tmp_path):
    """``server(body, length=None)`` serves ``body`` at the address it returns and counts the requests."""
    started = []

    def serve(body: bytes, length: int | None = None, status: int = 200):
        class Handler(http.server.BaseHTTPRequestHandler):
            requests = 0

            def do_GET(self):
                type(self).requests += 1
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        started.append(web)
        return f"http://127.0.0.1:{web.server_port}/file", Handler

    yield serve
    for web in started:
        web.shutdown()
        web.server_close()


def entry(url: str, body: bytes) -> Weights:
    return Weights("remote", "a test", url=url, sha256=hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("half", [False, True])
def test_what_is_saved_is_what_is_loaded(model, tmp_path, half):
    path = tmp_path / "new" / "tiny.safetensors"
    save(model, path, {"diffsal.source": "a test"}, half=half)
    again = load(path)
    assert again.config == TINY
    assert not again.training
    assert read_metadata(path)["diffsal.source"] == "a test"
    for key, value in model.state_dict().items():
        assert again.state_dict()[key].dtype == value.dtype
        assert torch.allclose(again.state_dict()[key], value, rtol=1e-3 if half else 0, atol=1e-6 if half else 0)
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


def test_a_download_is_fetched_once_and_checked(server, tmp_path):
    body = bytes(range(256)) * 10_000
    url, handler = server(body)
    wanted = entry(url, body)
    path = download(wanted, tmp_path / "cache")
    assert path.read_bytes() == body
    assert download(wanted, tmp_path / "cache") == path
    assert handler.requests == 1
    path.write_bytes(body[:-1])  # damaged on the disk: fetched again
    assert download(wanted, tmp_path / "cache").read_bytes() == body
    assert handler.requests == 2


def test_a_wrong_or_broken_download_leaves_nothing(server, tmp_path):
    body = b"weights" * 1000
    url, _ = server(body)
    with pytest.raises(InputError, match=r"SHA-256 of its 7,000 bytes is .* expected 0000"):
        download(Weights("remote", "", url=url, sha256="0000"), tmp_path)
    url, _ = server(body[:3000], length=len(body))
    with pytest.raises(InputError, match=r"broke off after 3,000 of 7,000 bytes"):
        download(entry(url, body), tmp_path)
    url, _ = server(b"gone", status=404)
    with pytest.raises(InputError, match=r"cannot be fetched .*404"):
        download(entry(url, body), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nobody_listening_is_said(tmp_path):
    with pytest.raises(InputError, match="is the network up"):
        download(entry("http://127.0.0.1:9/none", b""), tmp_path)


def test_names_are_found_in_the_cache_folder(server, tmp_path, monkeypatch):
    body = b"abc"
    url, _ = server(body)
    monkeypatch.setattr(weights, "CATALOGUE", (*CATALOGUE, entry(url, body)))
    monkeypatch.setenv("DIFFSAL_CACHE", str(tmp_path / "here"))
    assert find("remote") == tmp_path / "here" / "remote.safetensors"
    with pytest.raises(InputError, match="compact, remote"):
        find("nothing")


def test_every_entry_is_complete():
    assert len({w.name for w in CATALOGUE}) == len(CATALOGUE)
    assert all(w.licence and w.source and w.summary for w in CATALOGUE)
    with pytest.raises(ValueError, match="sha256"):
        Weights("x", "", url="http://127.0.0.1/")


def test_the_bundled_network_is_the_recipe_it_names():
    found = load("compact")
    assert entry_of("compact").bundled
    model, config = RECIPES["compact"]()
    assert found.config == model
    finish = found.finish
    assert (finish.exponent, finish.motion_gain, finish.sound_gain) == (
        config.sharpness, config.motion_prior, config.sound_prior)
    assert finish.centre_gain == pytest.approx(config.centre_weight / config.sharpness, abs=1e-6)
    prior = found.unet.fusion.prior.detach()
    assert torch.tensor(finish.centre).shape == prior.shape[-2:]
    assert (prior + finish.centre_gain * torch.tensor(finish.centre)).min().item() == pytest.approx(-1.947, abs=1e-3)


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
