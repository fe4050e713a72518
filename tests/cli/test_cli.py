"""`diffsal predict` as a user runs it: what is written, what is refused, what is told."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from diffsal.errors import InputError
from diffsal.media.source import open_source
from diffsal.networks.diffsal import DiffSal
from diffsal.prediction import pipeline as prediction
from diffsal.training.recipes import compact
from diffsal.weights.files import load, save
from tests import processes
from tests.commands import outcome
from tests.movies import picture, tone, write_movie


@pytest.fixture
def run(weights, monkeypatch, tmp_path, capfd):
    """``run("a.mp4", "--mute")`` in an empty folder → (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    return lambda *arguments: outcome(capfd, "predict", *arguments, "--weights", str(weights))


def movie(path, **options):
    write_movie(path, **options)
    return str(path.name)


def test_overlay_keeps_times_size_and_sound(run, tmp_path):
    movie(tmp_path / "a.mp4", num_frames=30, sound=tone(1.2, 44_100), size=(50, 66))
    assert run("a.mp4")[0] == 0
    with av.open("a.mp4") as before, av.open("a.saliency.mp4") as after:
        assert after.streams.video[0].codec_context.name == "h264"
        assert after.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert after.streams.audio, "the sound is gone"
        lengths = [float(c.streams.audio[0].duration * c.streams.audio[0].time_base) for c in (before, after)]
        assert lengths[0] == pytest.approx(lengths[1], abs=0.05)
        times = [[f.time for f in c.decode(video=0)] for c in (before, after)]
    assert times[1] == pytest.approx(times[0], abs=2e-3)
    data = (tmp_path / "a.saliency.mp4").read_bytes()
    assert data.find(b"moov") < data.find(b"mdat"), "not faststart"
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_maps_and_arrays_agree_and_same_seed_same_maps(run, tmp_path):
    movie(tmp_path / "a.mp4", num_frames=5)
    assert run("a.mp4", "--maps", "m", "--npz", "a.npz", "--only-maps")[0] == 0
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [f"{i:06d}.png" for i in range(5)]
    assert not (tmp_path / "a.saliency.mp4").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["saliency"].shape == (5, 48, 64) and arrays["index"].tolist() == [0, 1, 2, 3, 4]
        for i in range(5):
            png = cv2.imread(str(tmp_path / f"m/{i:06d}.png"), cv2.IMREAD_UNCHANGED)
            assert png.dtype == np.uint16 and png.shape == (48, 64)
            np.testing.assert_allclose(png / 65_535, arrays["saliency"][i], atol=1e-3)
    assert run("a.mp4", "--maps", "again", "--only-maps")[0] == 0
    assert all((tmp_path / "m" / p.name).read_bytes() == p.read_bytes() for p in (tmp_path / "again").iterdir())


def test_batch_size_does_not_change_the_maps(weights, tmp_path):
    movie(tmp_path / "a.mp4", num_frames=21, sound=tone(1.0, 16_000))
    model = load(weights)
    one, many = (list(prediction.predict(model, tmp_path / "a.mp4", batch_size=b, steps=2)) for b in (1, 8))
    assert len(one) == len(many) == 21
    for a, b in zip(one, many, strict=True):
        assert a.index == b.index and a.seconds == b.seconds
        np.testing.assert_allclose(a.saliency, b.saliency, atol=1e-5)


def test_span_of_seconds(run, tmp_path):
    movie(tmp_path / "a.mp4", num_frames=50, sound=tone(2.0, 16_000))
    assert run("a.mp4", "--maps", "all", "--only-maps")[0] == 0
    assert run("a.mp4", "--maps", "some", "--start", "0.8", "--end", "1.2", "-o", "cut.mp4")[0] == 0
    names = sorted(p.name for p in (tmp_path / "some").iterdir())
    assert names == [f"{i:06d}.png" for i in range(20, 30)]
    for name in names:
        a, b = (cv2.imread(str(tmp_path / d / name), cv2.IMREAD_UNCHANGED) for d in ("all", "some"))
        np.testing.assert_allclose(a, b, atol=2)
    with av.open("cut.mp4") as cut:
        times = [f.time for f in cut.decode(video=0)]
    assert len(times) == 10 and times[0] == pytest.approx(0, abs=1e-3)


def test_picture(run, tmp_path):
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture(0, 50, 70))
    assert run("photo.jpg", "--maps", "m")[0] == 0
    assert cv2.imread(str(tmp_path / "photo.saliency.png")).shape == (50, 70, 3)
    assert cv2.imread(str(tmp_path / "m/photo.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_several_inputs_the_good_ones_are_done(run, tmp_path):
    for name in ("a", "b"):
        movie(tmp_path / f"{name}.mp4", num_frames=2)
    (tmp_path / "bad.mp4").write_text("not a video")
    (tmp_path / "empty").mkdir()
    code, out, err = run("a.mp4", "missing.mp4", "bad.mp4", "empty", "b.mp4", "--maps", "m")
    assert code == 1
    assert (tmp_path / "a.saliency.mp4").exists() and (tmp_path / "m/b/000001.png").exists()
    lines = err.strip().splitlines()
    assert len(lines) == 3 and all(line.startswith("diffsal: ") for line in lines)
    assert {name for name in ("missing.mp4", "bad.mp4", "empty") if name in err} == {"missing.mp4", "bad.mp4", "empty"}
    assert out.count("2 frames") == 2


def test_what_exists_is_not_overwritten_and_the_input_never(run, tmp_path):
    movie(tmp_path / "a.mp4", num_frames=2)
    assert run("a.mp4")[0] == 0
    stamp = (tmp_path / "a.saliency.mp4").stat().st_mtime_ns
    code, _, err = run("a.mp4")
    assert code == 1 and "--force" in err and (tmp_path / "a.saliency.mp4").stat().st_mtime_ns == stamp
    assert run("a.mp4", "--force")[0] == 0
    original = (tmp_path / "a.mp4").read_bytes()
    code, _, err = run("a.mp4", "-o", "a.mp4", "--force")
    assert code == 1 and "is the input itself" in err and (tmp_path / "a.mp4").read_bytes() == original


def test_inputs_of_the_same_name_do_not_overwrite_each_other(run, tmp_path):
    movie(tmp_path / "a.mp4", num_frames=2)
    movie(tmp_path / "a.mkv", num_frames=3)
    code, _, err = run("a.mp4", "a.mkv", "--force")
    assert code == 1 and "another input has written" in err


def test_a_truncated_video_gives_what_is_left_and_says_so(run, tmp_path):
    movie(tmp_path / "a.mkv", num_frames=60, grain=40)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    code, _, err = run("cut.mkv", "--maps", "m")
    assert code == 1 and "cut.mkv" in err
    assert 5 < len(list((tmp_path / "m").iterdir())) < 60 and (tmp_path / "cut.saliency.mp4").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--steps", "0"], ["--opacity", "2"], ["--only-maps"], ["--start", "3", "--end", "2"], ["--colormap", "rainbow"]],
)
def test_wrong_usage_exits_2(run, tmp_path, arguments):
    movie(tmp_path / "a.mp4", num_frames=2)
    assert run("a.mp4", *arguments)[0] == 2


def test_a_full_disk_leaves_no_half_written_file(run, tmp_path, monkeypatch):
    movie(tmp_path / "a.mp4", num_frames=6)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffsal.files.os.replace", full)
    code, _, err = run("a.mp4", "--npz", "a.npz")
    assert code == 1
    assert err == ("diffsal: a.mp4 → a.saliency.mp4: No space left on device; make room there, or write "
                   "elsewhere\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_interrupt_leaves_no_half_written_file(tmp_path):
    write_movie(tmp_path / "a.mp4", num_frames=400, size=(96, 128))
    command = [sys.executable, "-m", "diffsal.cli", "predict", "a.mp4", "--steps", "20"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".*partial*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"], err


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
def test_nothing_waits_for_a_call_that_takes_minutes(tmp_path, number):
    """After an error that nobody foresaw, or a signal, while a thread is deep in the network."""
    write_movie(tmp_path / "a.mp4", num_frames=30)
    process = processes.start(processes.predict_stuck, tmp_path / "a.mp4", tmp_path / "stuck", number is None)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "stuck").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        if number is not None:
            os.kill(process.pid, number)
        process.join(100)
        assert process.exitcode == 1
    finally:
        process.kill()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "stuck"]


def test_weights_that_cannot_be_used(tmp_path, weights):
    with pytest.raises(InputError, match="known are compact"):
        load("enormous")
    whole = weights.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.safetensors: not a whole safetensors"):
        load(tmp_path / "cut.safetensors")
    other = DiffSal(replace(compact()[0], height=64, width=96, widths=(64, 64, 32, 16)))
    save(other, tmp_path / "other.safetensors")
    data = (tmp_path / "other.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["diffsal.config"] = json.dumps(load(weights).config.to_dict())
    text = json.dumps(header).encode()
    (tmp_path / "other.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(InputError, match=r"adapters\.0|is \[|expects"):
        load(tmp_path / "other.safetensors")


def test_a_file_in_a_closed_folder(monkeypatch):
    def closed(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("diffsal.media.source.Path.exists", closed)
    with pytest.raises(InputError, match=r"a\.mp4: cannot be read \(Permission denied\); check its permissions"):
        open_source("a.mp4")


def test_url_and_camera_names_are_not_files():
    with pytest.raises(InputError, match="no such file"):
        open_source("nowhere/at/all.mp4")
