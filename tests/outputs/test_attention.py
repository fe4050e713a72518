"""Attention in numbers: on maps whose peaks, entropy and shares are known; and the file that carries them."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffsal.errors import InputError
from diffsal.media.source import Source
from diffsal.outputs.attention import Region, entropy_bits, moved, peaks, read_region
from diffsal.outputs.attention_json import SCHEMA, VERSION, AttentionWriter
from diffsal.outputs.moments import MomentsWriter
from diffsal.prediction.maps import Prediction
from diffsal.prediction.speakers import SpeakingFace
from tests.commands import outcome
from tests.movies import write_movie
from tests.standin import StandIn

DOCUMENT = Path(__file__).parents[2] / "docs/json.md"


def blob(x, y, sigma, height=1.0, size=(120, 160)):
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]]
    return (height * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))).astype(np.float32)


def test_peaks_have_their_place_height_and_width():
    first, second = peaks(blob(40, 30, 8, 0.8) + blob(120, 90, 4, 0.4))
    for found, (x, y, sigma, height) in ((first, (40, 30, 8, 0.8)), (second, (120, 90, 4, 0.4))):
        assert (found.x, found.y) == pytest.approx(((x + 0.5) / 160, (y + 0.5) / 120), abs=1e-3)
        assert found.height == pytest.approx(height, rel=1e-3)
        assert found.width == pytest.approx(2 * np.sqrt(2 * np.log(2)) * sigma / 160, rel=0.03)  # at half maximum


def test_peaks_of_a_video_of_any_size_are_alike():
    small = blob(40, 30, 8) + blob(120, 90, 6, 0.5)
    large = cv2.resize(small, None, fx=6, fy=6, interpolation=cv2.INTER_LINEAR)
    for a, b in zip(peaks(small), peaks(large), strict=True):
        assert (a.x, a.y, a.height, a.width) == pytest.approx((b.x, b.y, b.height, b.width), abs=0.01)


def test_a_bump_on_a_slope_and_what_is_low_are_no_peaks():
    assert len(peaks(blob(40, 60, 8) + blob(58, 60, 6, 0.6))) == 1  # the valley between is higher than half of 0.6
    assert len(peaks(blob(40, 60, 8) + blob(90, 60, 8, 0.6))) == 2
    assert len(peaks(blob(40, 60, 8) + blob(120, 60, 8, 0.09))) == 1  # lower than a tenth
    assert peaks(np.zeros((9, 16), np.float32)) == []
    assert len(peaks(np.ones((9, 16), np.float32))) == 1
    many = sum(blob(8 + 16 * i, 8 + 16 * j, 2, 1 - i / 40) for i in range(10) for j in range(7))
    assert len(peaks(many)) == 8 and peaks(many)[0].height == pytest.approx(1, abs=0.01)


def test_entropy():
    assert entropy_bits(np.ones((540, 960), np.float32)) == pytest.approx(np.log2(54 * 96), abs=1e-6)
    one = np.zeros((540, 960), np.float32)
    one[100:110, 50:60] = 1
    assert entropy_bits(one) == pytest.approx(0, abs=1e-6)
    one[300:310, 500:510] = 1
    assert entropy_bits(one) == pytest.approx(1, abs=1e-6)
    assert entropy_bits(np.zeros((9, 16), np.float32)) == pytest.approx(np.log2(54 * 96), abs=1e-6)


def test_moved_share():
    p, q = np.zeros((2, 2)), np.zeros((2, 2))
    p[0, 0] = q[1, 1] = 3.0
    assert moved(p, q) == 1 and moved(p, 5 * p) == 0
    q[0, 0] = 1.0
    assert moved(p, q) == pytest.approx(0.75)


def test_shares_of_regions(tmp_path):
    saliency = np.zeros((10, 20), np.float32)
    saliency[:, :5] = 1
    mask = np.zeros((5, 10), np.uint8)
    mask[:, :2] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    shares = {text: read_region(text).share(saliency) for text in (
        "a=0,0,0.5,1", "b=0,0,0.2,0.5", "c=2,0,20,10", f"d={tmp_path / 'm.png'}", "e=10,0,20,10")}
    assert list(shares.values()) == pytest.approx([1, 0.4, 0.6, 0.8, 0])
    assert Region("all", (0, 0, 1, 1)).share(np.zeros((4, 4), np.float32)) == 0


@pytest.mark.parametrize("text", ["a", "a=", "=0,0,1,1", "a=1,0,0.5,1", "a=0,0,x,1", "a=nowhere.png", "a=0,1,2"])
def test_regions_that_cannot_be(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        read_region(text)


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("diffsal.runtime.loading.load_engine", lambda *_: StandIn(noise=0))

    return lambda *arguments: outcome(capfd, "predict", *arguments)


def test_command_writes_the_documented_file(run, tmp_path):
    write_movie(tmp_path / "clip é.mp4", num_frames=6)
    code, out, err = run("clip é.mp4", "--json", "a.json", "--only-maps", "--roi", "left=0,0,0.5,1", "--start", "0.05",
                         "--npz", "a.npz")
    assert code == 0 and "a.json" in out, err
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert (document["schema"], document["version"], document["source"]) == (SCHEMA, VERSION, "clip é.mp4")
    assert document["regions"] == [{"name": "left", "box": [0, 0, 0.5, 1]}] and document["settings"]["start"] == 0.05
    assert [f["index"] for f in document["frames"]] == [2, 3, 4, 5] and len(text.splitlines()) == 4 + 2
    with np.load(tmp_path / "a.npz") as arrays:
        saliency = arrays["saliency"].astype(np.float32)
    first, second = document["frames"][:2]
    assert first["regions"]["left"] == pytest.approx(saliency[0, :, :32].sum() / saliency[0].sum(), abs=2e-3)
    assert first["entropy_bits"] == pytest.approx(entropy_bits(saliency[0]), abs=2e-3)
    assert first["moved"] is None and second["moved"] == pytest.approx(moved(saliency[0], saliency[1]), abs=2e-3)
    assert first["peaks"][0]["height"] == pytest.approx(saliency[0].max(), abs=2e-3)
    tables = set(re.findall(r"`([\w.\[\]]+)`", DOCUMENT.read_text()))
    for key in {*document, *first, *document["settings"]}:
        assert key in tables, f"{key} is not in docs/json.md"
    assert f"**version {VERSION}**" in DOCUMENT.read_text()


def test_wrong_usage(run, tmp_path):
    write_movie(tmp_path / "a.mp4", num_frames=2)
    assert run("a.mp4", "--roi", "a=0,0,1,1")[0] == 2
    code, _, err = run("a.mp4", "--json", "a.json", "--roi", "a=0,0")
    assert code == 1 and "left,top,right,bottom" in err and not list(tmp_path.glob("*.json"))
    (tmp_path / "b.mp4").write_bytes(b"nothing")
    assert run("b.mp4", "--json", "b.json", "--only-maps")[0] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_moments_are_those_where_attention_moves(tmp_path):
    """Attention jumps at 3 s and 8 s, creeps in between, and jumps again 1 s later, which is too near."""
    writer = MomentsWriter(tmp_path / "m.png", "clip")
    picture = np.full((54, 96, 3), 128, np.uint8)
    for i in range(120):
        seconds = i / 10
        x = 10 + (50 if seconds >= 3 else 0) - (40 if seconds >= 8 else 0) + (3 if seconds >= 9 else 0)
        writer.write(Prediction(i, seconds, blob(x, 27, 3, size=(54, 96)), picture), picture)
    assert len(writer.recent) <= 7
    times = sorted(m.after.seconds for m in writer.found)
    strongest = sorted(writer.found, key=lambda m: -m.share)[:2]
    assert {round(m.after.seconds, 1) for m in strongest} == {3.0, 8.0} and all(m.share > 0.95 for m in strongest)
    assert all(m.before.seconds == pytest.approx(m.after.seconds - 0.5) for m in writer.found)
    assert np.diff(times).min() >= 2
    writer.close()
    assert cv2.imread(str(tmp_path / "m.png")).shape[1] == 4 * 408 + 8


def test_moments_of_a_video_too_short(run, tmp_path):
    write_movie(tmp_path / "a.mp4", num_frames=3)
    assert run("a.mp4", "--moments", "m.png")[0] == 0
    assert cv2.imread(str(tmp_path / "m.png")).shape[1] == 2 * 408 + 8


def test_faces_stand_in_fractions_of_the_picture(tmp_path):
    faces = (SpeakingFace(3, 16, 12, 32, 60, 0.9, 0.75), SpeakingFace(4, 100, -6, 30, 30, 0.8, None))
    path = tmp_path / "a.json"
    writer = AttentionWriter(path, Source("a.mp4", width=160, height=120), {})
    writer.write(Prediction(0, 0.0, blob(40, 30, 8), np.zeros((120, 160, 3), np.uint8), faces=faces))
    writer.write(Prediction(1, 0.04, blob(40, 30, 8), np.zeros((120, 160, 3), np.uint8)))
    writer.close()
    first, second = json.loads(path.read_text())["frames"]
    assert first["faces"] == [
        {"track": 3, "box": [0.1, 0.1, 0.3, 0.6], "confidence": 0.9, "speaking": 0.75},
        {"track": 4, "box": [0.625, -0.05, 0.8125, 0.2], "confidence": 0.8, "speaking": None},
    ]
    assert second["faces"] == []
    assert all(f"`faces[].{key}`" in DOCUMENT.read_text() for key in first["faces"][0])
