"""Weights on a hub: fetched, resumed, checked, kept for when there is no network, and pushed with their card."""

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

import diffsal
from diffsal.errors import InputError
from diffsal.runtime.hub_upload import push
from diffsal.weights.catalogue import find
from diffsal.weights.hub import Address, fetch
from tests.weights.hub_server import TOKEN, Hub, Model

EXAMPLE = Path(__file__).parents[2] / "examples" / "bigbuckbunny.mp4"
GRAPHS = find("compact", graphs=True).read_bytes()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with ``owner/net``, and an empty cache."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        server.models["owner/net"] = Model([{"model.onnx": GRAPHS, "notes.txt": b"n", "model.bin": b"pickle"}])
        yield server
        server.shutdown()


def test_weights_are_fetched_once_and_predict(hub, tmp_path):
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8))
    (own,) = diffsal.predict(diffsal.load("compact"), picture)
    (fetched,) = diffsal.predict(diffsal.load("hf://owner/net"), picture)
    assert np.array_equal(fetched.saliency, own.saliency)
    diffsal.load("hf://owner/net")
    assert [path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path] == [
        "/owner/net/resolve/main/model.onnx"]


def test_a_revision_is_a_tag_or_a_commit(hub):
    model = hub.models["owner/net"]
    model.commits.append({"model.onnx": b"newer"})
    model.tags["v1"] = model.sha(0)
    assert fetch("hf://owner/net@v1", graphs=True).read_bytes() == GRAPHS
    assert fetch(f"hf://owner/net@{model.sha(0)}", graphs=True).read_bytes() == GRAPHS
    assert fetch("hf://owner/net", graphs=True).read_bytes() == b"newer"
    with pytest.raises(InputError, match="hf://owner/net@v9: has no revision v9"):
        fetch("hf://owner/net@v9")


def test_a_download_that_broke_off_is_resumed(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.cuts = 1
    path = fetch("hf://owner/net", graphs=True)
    assert path.read_bytes() == GRAPHS
    ranges = [asked for method, where, asked in hub.requests if method == "GET" and "/resolve/" in where]
    assert len(ranges) == 2 and ranges[0] is None and ranges[1].startswith("bytes=")
    assert int(re.findall(r"\d+", ranges[1])[0]) > 0


def test_what_is_not_as_the_hub_states_is_not_opened(hub, tmp_path):
    hub.states["model.onnx"] = "0" * 64
    with pytest.raises(InputError, match=r"model.onnx was not what the hub states \(SHA-256 000000000000…\)"):
        diffsal.load("hf://owner/net")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.read_bytes() == GRAPHS]


@pytest.mark.parametrize("files, message", [
    ({"model.bin": b"x", "notes.txt": b"x"}, "holds no .safetensors and no .onnx"),
    ({"a.safetensors": b"x", "b.safetensors": b"x"}, r"holds 2 files of weights \(a.safetensors, b.safetensors\)"),
    ({"model.safetensors": b""}, "model.safetensors has 0 bytes"),
])  # fmt: skip
def test_other_repositories_are_refused(hub, files, message):
    hub.models["owner/other"] = Model([files])
    with pytest.raises(InputError, match=message):
        fetch("hf://owner/other")
    assert not [path for _, path, _ in hub.requests if "/resolve/" in path]


@pytest.mark.parametrize("address", ["hf://owner", "hf://owner/net/file.onnx", "hf://owner/../net", "hf://owner/net@"])
def test_an_address_has_an_owner_and_a_name(address):
    with pytest.raises(InputError, match="expected hf://OWNER/NAME"):
        fetch(address)


def test_a_private_model_needs_the_token_of_huggingface_hub(hub, tmp_path):
    hub.models["owner/net"].private = True
    with pytest.raises(InputError, match="has no such model, or shows it only to its owner: `hf auth login`"):
        fetch("hf://owner/net")
    (tmp_path / "token").write_text(TOKEN)
    assert fetch("hf://owner/net").read_bytes() == GRAPHS


def test_without_a_network_the_cache_serves_and_is_named(hub, tmp_path, monkeypatch):
    tag = hub.models["owner/net"].tags["v1"] = hub.models["owner/net"].sha(0)
    kept = fetch("hf://owner/net", graphs=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert fetch("hf://owner/net", graphs=True) == fetch(f"hf://owner/net@{tag}", graphs=True) == kept
    with pytest.raises(InputError, match=f"{constants.ENDPOINT} cannot be reached, and the cache {tmp_path}/cache"):
        fetch("hf://owner/another")
    kept.resolve().write_bytes(GRAPHS[:-1] + b"x")
    with pytest.raises(InputError, match="not what the hub states"):
        fetch("hf://owner/net", graphs=True)


def test_offline_mode_is_said(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"HF_HUB_OFFLINE is set, and the cache {tmp_path}/cache holds no copy"):
        fetch("hf://owner/net")
    assert hub.requests == []


def test_push_writes_weights_and_a_card_in_one_commit_and_load_takes_them(hub, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    pushed = push("compact", "owner/mine")
    assert pushed.files == ("README.md", "model.safetensors", "model.onnx")
    model = hub.models["owner/mine"]
    assert len(model.commits) == 2  # the empty one of a new repository, and ours
    safetensors = find("compact").read_bytes()
    card = model.commits[1]["README.md"].decode()
    front = huggingface_hub.ModelCard(card).data
    assert front.license == "apache-2.0" and front.library_name == "diffsal"
    assert hashlib.sha256(safetensors).hexdigest() in card and hashlib.sha256(GRAPHS).hexdigest() in card
    assert "| video_encoder | mobilenet_v2 |" in card and "| CC, FIND 021 | 0.867 |" in card
    assert f"| exponent | {diffsal.load('compact').finish.exponent} |" in card
    assert fetch(pushed.address).read_bytes() == safetensors
    assert fetch(pushed.address, graphs=True).read_bytes() == GRAPHS
    push(find("compact", graphs=True), "owner/mine")
    assert list(model.commits[2]) == ["README.md", "model.safetensors", "model.onnx"]


def test_push_refuses_what_is_not_ours_and_needs_a_token(hub, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"something else")
    with pytest.raises(InputError, match="not a whole ONNX file"):
        push(other, "owner/mine")
    with pytest.raises(InputError, match="asks for a token that may do this: `hf auth login`"):
        push("compact", "owner/mine")
    assert "owner/mine" not in hub.models


def test_the_command_takes_an_address(hub, tmp_path):
    hub.models["owner/net"].private = True
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    command = [sys.executable, "-m", "diffsal.cli", "predict", str(EXAMPLE), "--end", "0.05", "--only-maps",
               "--npz", str(tmp_path / "maps.npz"), "--weights", "hf://owner/net"]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps.npz").is_file()
    command[-1] = "hf://owner/none"
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("diffsal: hf://owner/none: ")


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="hf://owner/net: needs huggingface_hub: pip install huggingface_hub"):
        fetch("hf://owner/net")


def test_an_address_prints_as_it_is_written():
    assert str(Address.of("hf://owner/net@refs/pr/1")) == "hf://owner/net@refs/pr/1"
