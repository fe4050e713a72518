"""The overlay plays everywhere: its frames, shape and sound are the source's; it is whole or not there."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from diffsal.cli.progress import run_all
from diffsal.errors import InputError
from diffsal.media.source import open_source
from diffsal.outputs.arrays import ArrayWriter
from diffsal.outputs.contact_sheet import contact_sheet
from diffsal.outputs.overlay import COLORMAPS, Overlayer
from diffsal.outputs.render import Outputs, render
from diffsal.prediction.maps import Prediction
from tests.media.test_media import loudest_seconds
from tests.movies import picture, tone, turn, write_movie
from tests.standin import StandIn


def overlay(path, **settings):
    target = path.with_name("overlay.mp4")
    result = render(StandIn(noise=0), str(path), Outputs(overlay=target), **settings)
    return target, result


def frames_of(path):
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (48, 65), (96, 54)])
def test_odd_sizes(tmp_path, size):
    path = write_movie(tmp_path / "a.mkv", num_frames=2, size=size, codec="ffv1", pixels="bgr0")
    target, _ = overlay(path)
    (height, width) = frames_of(target)[0][1].shape[:2]
    assert height % 2 == width % 2 == 0 and 0 <= height - size[0] <= 1 and 0 <= width - size[1] <= 1


def test_times_of_a_variable_frame_rate_and_a_late_start(tmp_path):
    times = [0.4, 0.44, 0.9, 0.91, 2.0, 2.5]
    path = write_movie(tmp_path / "a.mp4", seconds=times, sound=tone(3, 16_000))
    target, _ = overlay(path)
    assert [t for t, _ in frames_of(target)] == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize("degrees", [0, 90])
def test_the_shape_of_pixels_is_kept(tmp_path, degrees):
    path = write_movie(tmp_path / "a.mp4", num_frames=2, aspect=Fraction(4, 3))
    target, _ = overlay(turn(path, degrees) if degrees else path)
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == (Fraction(3, 4) if degrees else Fraction(4, 3))
        assert (stream.height, stream.width) == ((64, 48) if degrees else (48, 64))


@pytest.mark.parametrize(("layout", "rate", "codec", "copied"), [
    ("stereo", 44_100, "aac", True), ("5.1", 48_000, "aac", True), ("mono", 22_050, "mp3", True),
    ("7.1", 48_000, "flac", False), ("mono", 8_000, "pcm_s16le", False), ("stereo", 48_000, "libopus", False),
    ("stereo", 96_000, "flac", False),
])
def test_sound_is_kept(tmp_path, layout, rate, codec, copied):
    path = write_movie(tmp_path / "a.mkv", num_frames=25, flash=10, sound=tone(1, rate, 0.4), sound_rate=rate,
                       layout=layout, sound_codec=codec)
    target, _ = overlay(path)
    with av.open(str(target)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name in ("aac", "mp3", "mp3float")
        assert (stream.rate, stream.layout.name) == ((rate, layout) if copied else (48_000, "stereo"))
    assert loudest_seconds(open_source(target).sound()) == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize(("sound_start", "picture_start"), [(0.5, 0.0), (0.0, 0.6)])
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize("span", [(None, None), (0.8, 1.9)])
def test_flash_and_click_stay_together(tmp_path, codec, sound_start, picture_start, span):
    click = picture_start + 1.0
    path = write_movie(
        tmp_path / "a.mkv", seconds=picture_start + np.arange(40) / 25, flash=25, sound_codec=codec,
        sound=tone(2, 16_000, click - sound_start), sound_start=sound_start,
    )
    target, _ = overlay(path, start=span[0], end=span[1])
    shown = frames_of(target)
    flash = shown[int(np.argmax([image.mean() for _, image in shown]))][0]
    assert flash == pytest.approx(click - (span[0] or 0), abs=0.05)
    assert loudest_seconds(open_source(target).sound()) == pytest.approx(flash, abs=0.03)


def test_sound_that_outlasts_the_picture_and_the_reverse(tmp_path):
    for name, num_frames, seconds in (("a", 10, 2.0), ("b", 50, 0.5)):
        path = write_movie(tmp_path / f"{name}.mp4", num_frames=num_frames, sound=tone(seconds, 16_000))
        target, result = overlay(path)
        assert result.frames == num_frames == len(frames_of(target))
        with av.open(str(target)) as container:
            stream = container.streams.audio[0]
            assert float(stream.duration * stream.time_base) == pytest.approx(seconds, abs=0.1)


def test_colours_survive_where_there_is_no_heat(tmp_path):
    path = write_movie(tmp_path / "a.mp4", num_frames=3, size=(96, 128))
    target, _ = overlay(path, opacity=0.0)
    (_, shown), image = frames_of(target)[0], picture(0, 96, 128)
    assert abs(shown[26:30, 2:6].astype(int) - image[26:30, 2:6]).mean() < 20  # red is still red
    assert abs(shown.astype(int) - image).mean() < 6


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_heat_is_where_the_map_is_high(colormap):
    saliency = np.zeros((40, 60), np.float32)
    saliency[10:20, 30:40] = 0.2
    grey = np.full((40, 60, 3), 128, np.uint8)
    drawn = Overlayer(colormap, 0.8).draw(grey, saliency)
    assert drawn.dtype == np.uint8 and drawn.shape == grey.shape
    changed = abs(drawn.astype(int) - grey).sum(2)
    assert changed[12:18, 32:38].min() > 60 and changed[25:, :20].max() <= 6


def test_the_heat_does_not_flicker():
    """A frame whose map is twice as high in all does not make the next one dark at once."""
    overlayer, grey = Overlayer(), np.full((8, 8, 3), 128, np.uint8)
    maps = [np.full((8, 8), value, np.float32) for value in (0.4, 0.8, 0.4, 0.4)]
    drawn = [overlayer.draw(grey, m)[0, 0].astype(int) for m in maps]
    assert abs(drawn[3] - drawn[2]).max() < abs(drawn[2] - drawn[1]).max()
    with pytest.raises(ValueError, match="opacity is 2"):
        Overlayer(opacity=2)
    with pytest.raises(ValueError, match="colormap is 'rainbow'"):
        Overlayer("rainbow")


def test_arrays(tmp_path):
    writer = ArrayWriter(tmp_path / "a.npz")
    for index in (3, 4):
        saliency = np.full((5, 7), index / 10, np.float32)
        writer.write(Prediction(index, index / 25, saliency, np.zeros((5, 7, 3), np.uint8)), None)
    writer.close()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["index"].tolist() == [3, 4] and arrays["seconds"].tolist() == [0.12, 0.16]
        assert arrays["saliency"].dtype == np.float16 and arrays["saliency"].shape == (2, 5, 7)
        assert arrays["saliency"][:, 0, 0] == pytest.approx([0.3, 0.4], abs=1e-3)


def test_contact_sheet(tmp_path):
    path = write_movie(tmp_path / "a.mp4", num_frames=40)
    render(StandIn(), str(path), Outputs(sheet=tmp_path / "sheet.png"))
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    one = contact_sheet([(0.0, np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64, 3), np.uint8))])
    assert sheet.shape == (one.shape[0], 6 * one.shape[1], 3)


def test_a_video_without_frames_in_the_span(tmp_path):
    path = write_movie(tmp_path / "a.mp4", num_frames=10)
    with pytest.raises(InputError, match="no frame lies between"):
        overlay(path, start=5.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from diffsal.cli.progress import run_all
from diffsal.outputs.render import Outputs
from tests.standin import StandIn
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
folder = Path(sys.argv[1])
wanted = Outputs(folder / "out.mp4", folder / "maps", folder / "out.npz")
sys.exit(run_all(StandIn(), [str(folder / "a.mp4")], wanted, False, False, {}))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs POSIX limits")
@pytest.mark.parametrize("limit", [400, 20_000, 60_000])
def test_files_that_cannot_grow_are_told_and_removed(tmp_path, limit):
    """As on a full disk, but for one process: files stop growing at ``limit`` bytes."""
    write_movie(tmp_path / "a.mp4", num_frames=60, size=(96, 128), grain=80)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(limit)], capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "File too large" in lines[0] and lines[0].startswith("diffsal: "), done.stderr
    left = {p.name for p in tmp_path.iterdir()}
    assert left <= {"a.mp4", "maps"}, left
    assert all(cv2.imread(str(p), cv2.IMREAD_UNCHANGED) is not None for p in tmp_path.glob("maps/*"))


INTERRUPTED = """
import sys
from diffsal.cli.progress import run_all
from diffsal.outputs.render import Outputs
from tests.standin import StandIn
from pathlib import Path
import time
class Slow(StandIn):
    def sample(self, *a, **k):
        time.sleep(0.2)
        return super().sample(*a, **k)
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.exit(run_all(Slow(), [str(folder / "a.mp4")], Outputs(folder / "out.mp4"), False, False, {}))
"""


@pytest.mark.parametrize("gap_seconds", [None, 0.0, 0.02, 0.3])
def test_interrupts_leave_no_half_written_file(tmp_path, gap_seconds):
    """One Ctrl-C, or a second one ``gap_seconds`` later, while the first is being answered."""
    import time

    write_movie(tmp_path / "a.mp4", num_frames=600, size=(96, 128))
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    if gap_seconds is not None:
        time.sleep(gap_seconds)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert err.strip().splitlines()[-1].startswith("diffsal: ") and "Traceback" not in err, err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


@pytest.mark.parametrize(("name", "output", "said"), [
    ("a.mp4", "x.webm", r"x\.webm: an overlay of .* is one of \.mp4"), ("a.mp4", "x", "is one of"),
    ("a.mp4", "nowhere/x.mp4", "nowhere: no such folder"), ("p.png", "x.mp4", r"is one of \.png"),
    ("a.mp4", "a.mp4", "is the input itself"),
])
def test_overlays_that_cannot_be(tmp_path, name, output, said):
    write_movie(tmp_path / "a.mp4", num_frames=2)
    cv2.imwrite(str(tmp_path / "p.png"), picture(0, 20, 30))
    with pytest.raises(InputError, match=said):
        Outputs(overlay=tmp_path / output).check(open_source(tmp_path / name), force=True)


def test_maps_that_are_there(tmp_path):
    """A clip's folder must hold no maps; pictures may share theirs."""
    cv2.imwrite(str(tmp_path / "p.png"), picture(0, 20, 30))
    clip, still = open_source(write_movie(tmp_path / "a.mp4", num_frames=2)), open_source(tmp_path / "p.png")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/q.png").write_bytes(b"x")
    outputs = Outputs(maps=tmp_path / "maps")
    outputs.check(still, force=False)
    with pytest.raises(InputError, match="holds PNG files already"):
        outputs.check(clip, force=False)
    outputs.check(clip, force=True)
    (tmp_path / "maps/p.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"p\.png: exists already"):
        outputs.check(still, force=False)
    with pytest.raises(InputError, match="is a file, but maps need a folder"):
        Outputs(maps=tmp_path / "a.mp4").check(still, force=True)


def test_a_folder_as_the_overlay_of_one_input(tmp_path):
    path = write_movie(tmp_path / "a.mp4", num_frames=2)
    (tmp_path / "out").mkdir()
    assert run_all(StandIn(), [str(path)], Outputs(tmp_path / "out"), False, False, {}) == 0
    assert (tmp_path / "out/a.saliency.mp4").exists()


def test_a_folder_of_one_video_and_a_name_with_a_colon(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_movie(tmp_path / "a.mp4", num_frames=1).rename("a:b.mp4")
    assert run_all(StandIn(), ["a:b.mp4"], Outputs(), False, False, {}) == 0
    assert (tmp_path / "a:b.saliency.mp4").exists() and "a:b.mp4: 1 frame →" in capsys.readouterr().out
    assert run_all(StandIn(), ["."], Outputs(Path("out")), False, False, {}) == 0
    assert (tmp_path / "out/a:b.saliency.mp4").exists()
