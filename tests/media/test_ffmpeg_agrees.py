"""Odd clocks, holds, holes and orientations, made by ffmpeg: times are those of ffprobe, overlays those of ffmpeg."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from diffsal.media.orientation import turned
from diffsal.media.soundtrack import read_sound
from diffsal.media.source import open_source
from diffsal.outputs.render import Outputs, render
from tests.movies import picture, tone, write_movie
from tests.standin import StandIn

pytestmark = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
VIDEO = ("-f", "lavfi", "-i", "testsrc=s=96x64:r=25:d=2")


def ffmpeg(folder: Path, *arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], cwd=folder, check=True)


def probe(path: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["ffprobe", "-v", "error", *arguments, "-of", "csv=p=0", str(path)], check=True,
                          capture_output=True, text=True)
    return [line.strip(",") for line in done.stdout.split()]


def frame_times(path: Path) -> list[float]:
    lines = probe(path, "-select_streams", "v", "-show_entries", "frame=best_effort_timestamp_time")
    return [float(line) for line in lines if line != "N/A"]


def overlay(path: Path) -> tuple[Path, list[str]]:
    target = path.with_name(f"{path.stem}.overlay.mp4")
    return target, render(StandIn(noise=0), str(path), Outputs(overlay=target)).problems


@pytest.mark.parametrize(("suffix", "codecs", "seam_seconds"), [
    ("ts", ("libx264", "aac"), 1e-3), ("ts", ("mpeg2video", "ac3"), 1e-3),
    ("mpg", ("mpeg2video", "mp2"), 0.026),  # the sound comes first there, and goes on after one of its own frames
])
def test_clocks_that_start_again(tmp_path, suffix, codecs, seam_seconds):
    for hertz in (440, 880):
        ffmpeg(tmp_path, *VIDEO, "-f", "lavfi", "-i", f"sine={hertz}:d=2", "-c:v", codecs[0], "-g", "25", "-pix_fmt",
               "yuv420p", "-c:a", codecs[1], "-ac", "2", f"{hertz}.{suffix}")
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join((tmp_path / f"{h}.{suffix}").read_bytes() for h in (440, 880)))
    source = open_source(joined)
    seconds = np.array([f.seconds for f in source.frames()])
    assert len(seconds) == 100 and np.delete(np.diff(seconds), 49) == pytest.approx(0.04, abs=1e-3)
    assert seconds[50] - seconds[49] == pytest.approx(0.04, abs=seam_seconds)
    assert source.problems == []
    sound = source.sound()
    assert sound.duration_seconds == pytest.approx(4, abs=0.1)
    target, _ = overlay(joined)
    assert np.diff(frame_times(target)) == pytest.approx(np.diff(seconds), abs=1e-3)
    for heard in (sound, read_sound(target)):
        pitch = [np.abs(np.fft.rfft(heard.excerpt(at, at + 1600))).argmax() * 10 for at in (24_000, 48_000)]
        assert pitch == pytest.approx([440, 880], abs=15)


def test_frames_of_avi_that_are_not_in_order(tmp_path):
    ffmpeg(tmp_path, *VIDEO, "-c:v", "libx264", "-bf", "2", "-g", "10", "-pix_fmt", "yuv420p", "a.avi")
    seconds = [f.seconds for f in open_source(tmp_path / "a.avi").frames()]
    told = frame_times(tmp_path / "a.avi")  # it has none for the last two
    assert len(seconds) == 50 and seconds[: len(told)] == pytest.approx(told, abs=1e-3)
    assert np.diff(seconds) == pytest.approx(0.04, abs=1e-3)


def test_pictures_without_time_stamps(tmp_path):
    ffmpeg(tmp_path, *VIDEO, "-c:v", "libx264", "-pix_fmt", "yuv420p", "a.h264")
    seconds = [f.seconds for f in open_source(tmp_path / "a.h264").frames()]
    assert len(seconds) == 50 and np.diff(seconds) == pytest.approx(0.04, abs=1e-3)


@pytest.mark.parametrize("suffix", ["gif", "mp4", "mkv"])
def test_a_last_frame_that_is_held(tmp_path, suffix):
    path = tmp_path / f"hold.{suffix}"
    if suffix == "gif":
        from PIL import Image

        shots = [Image.new("RGB", (96, 64), (i * 20, 0, 0)) for i in range(6)]
        shots[0].save(path, save_all=True, append_images=shots[1:], duration=[40] * 5 + [3000], loop=0)
    else:
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=25, options={"bf": "0"})
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
            packets = []
            for index in range(10):
                frame = av.VideoFrame.from_ndarray(picture(index, 64, 96), format="rgb24")
                frame.pts, frame.time_base = 40 * index, Fraction(1, 1000)
                packets += video.encode(frame)
            packets = [p for p in packets + video.encode(None) if p.size]
            for index, packet in enumerate(packets):
                packet.duration = int((3 if index == 9 else Fraction(1, 25)) / packet.time_base)
                container.mux(packet)
    target, problems = overlay(path)
    assert problems == []
    whole = float(probe(path, "-show_entries", "format=duration")[0])
    assert float(probe(target, "-show_entries", "format=duration")[0]) == pytest.approx(whole, abs=0.002)


@pytest.mark.parametrize(("suffix", "codecs"), [
    ("mkv", ("libx264", "pcm_s16le")), ("mkv", ("libx264", "aac")), ("mkv", ("libx264", "flac")),
    ("ts", ("libx264", "aac")), ("ts", ("libx264", "mp2")), ("flv", ("flv", "mp3")), ("flv", ("libx264", "aac")),
])
def test_holes_in_the_sound_stay_in_the_overlay(tmp_path, suffix, codecs):
    """A click and a flash 20 ms before it: as far apart after the hole as they were without one."""
    whole, holed = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    write_movie(whole, sound=tone(3, 44_100, 2.5), sound_rate=44_100, codec=codecs[0], sound_codec=codecs[1],
                num_frames=75, flash=62)
    with av.open(str(whole)) as inside, av.open(str(holed), "w") as outside:
        streams = {s.index: outside.add_stream_from_template(s) for s in inside.streams}
        first = inside.start_time / av.time_base
        for packet in inside.demux():
            is_sound = packet.size and packet.stream.type == "audio"
            if not packet.size or (is_sound and 0.5 < packet.pts * packet.time_base - first < 1.5):
                continue
            packet.stream = streams[packet.stream.index]
            outside.mux(packet)
    target, problems = overlay(holed)
    assert problems == []
    apart = []
    for path in (whole, holed, target):
        source = open_source(path)
        flash = max(source.frames(), key=lambda frame: frame.image.mean())
        sound = source.sound()
        loud = np.abs(sound.excerpt(0, len(sound.waveform))) > 0.2
        apart.append(sound.start_seconds + float(loud.argmax()) / sound.rate - flash.seconds)
        assert flash.index == 62
    assert apart[0] == pytest.approx(0.02, abs=0.003 if suffix == "mkv" else 0.08)  # others do not tell a coder's delay
    assert apart == pytest.approx([apart[0]] * 3, abs=0.003)


def test_sound_whose_layout_changes(tmp_path):
    for number, layout in enumerate(("stereo", "5.1")):
        ffmpeg(tmp_path, *VIDEO, "-f", "lavfi", "-i", f"sine=440:d=2,aformat=channel_layouts={layout}", "-c:v",
               "libx264", "-pix_fmt", "yuv420p", "-c:a", "ac3", "-muxdelay", "0", "-output_ts_offset", str(2 * number),
               f"{number}.ts")
    path = tmp_path / "tv.ts"
    path.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    target, problems = overlay(path)
    assert problems == []
    durations = [float(x) for x in probe(target, "-show_entries", "stream=duration")]
    assert len(durations) == 2 and durations == pytest.approx([4, 4], abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 16_000, 22_050])
def test_mp3_at_rates_that_mp4_does_not_take(tmp_path, rate):
    ffmpeg(tmp_path, *VIDEO, "-f", "lavfi", "-i", "sine=440:d=2", "-c:v", "mpeg4", "-c:a", "libmp3lame", "-ar",
           str(rate), "-ac", "1", "a.avi")
    target, problems = overlay(tmp_path / "a.avi")
    assert problems == [] and "audio" in probe(target, "-show_entries", "stream=codec_type")


def test_stereo_out_of_phase_is_heard(tmp_path):
    for sign in ("", "-"):
        waves = f"aevalsrc=0.5*sin(2*PI*440*t)|{sign}0.5*sin(2*PI*440*t):d=2:s=48000"
        ffmpeg(tmp_path, *VIDEO, "-f", "lavfi", "-i", waves, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a",
               "pcm_s16le", f"a{sign}.mkv")
    one, other = (open_source(tmp_path / f"a{sign}.mkv").sound() for sign in ("", "-"))
    assert np.abs(one.excerpt(0, 16_000) - other.excerpt(0, 16_000)).max() < 1e-3
    assert np.abs(one.excerpt(0, 16_000)).max() > 0.45


def test_the_default_track_is_taken(tmp_path):
    ffmpeg(tmp_path, *VIDEO, "-f", "lavfi", "-i", "testsrc2=s=48x32:r=25:d=2", "-map", "0", "-map", "1", "-c:v",
           "libx264", "-pix_fmt", "yuv420p", "-disposition:v:0", "0", "-disposition:v:1", "default", "a.mkv")
    assert open_source(tmp_path / "a.mkv").width == 48


def test_a_cover_is_not_the_video(tmp_path):
    ffmpeg(tmp_path, "-f", "lavfi", "-i", "testsrc=s=300x300", "-frames:v", "1", "cover.png")
    ffmpeg(tmp_path, "-i", "cover.png", *VIDEO, "-map", "0", "-map", "1", "-c:v:0", "png", "-c:v:1", "libx264",
           "-pix_fmt:v:1", "yuv420p", "-disposition:v:0", "attached_pic", "a.mp4")
    assert open_source(tmp_path / "a.mp4").width == 96


@pytest.mark.parametrize("flips", [
    (1, 0, 0, 1), (-1, 0, 0, 1), (-1, 0, 0, -1), (1, 0, 0, -1), (0, 1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0),
    (0, -1, 1, 0),
])
def test_all_eight_matrices(flips):
    """Each pixel (x, y) goes to (a x + c y, b x + d y), moved into the picture: by the definition, pixel by pixel."""
    a, b, c, d = flips
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    places = {(a * x + c * y, b * x + d * y): image[y, x] for y in range(2) for x in range(3)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    shown = turned(image, (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30))
    assert {(x - left, y - top): v for (x, y), v in places.items()} == {
        (x, y): shown[y, x] for y in range(shown.shape[0]) for x in range(shown.shape[1])}


@pytest.mark.parametrize(("codec", "pixels"), [
    ("qtrle", "rgb555be"), ("rawvideo", "rgb555be"), ("rawvideo", "rgb565be"), ("rawvideo", "uyvy422"),
    ("qtrle", "argb"), ("ffv1", "gray16le"), ("libx264", "yuv444p"),
])
def test_pixels_as_ffmpeg_shows_them(tmp_path, codec, pixels):
    suffix = "nut" if pixels == "rgb565be" else "mkv" if codec in ("ffv1", "libx264") else "mov"
    path = tmp_path / f"a.{suffix}"
    ffmpeg(tmp_path, "-f", "lavfi", "-i", "testsrc=s=96x64:r=25:d=0.1", "-c:v", codec, "-pix_fmt", pixels, path.name)
    ffmpeg(tmp_path, "-i", path.name, "-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo", "a.raw")
    shown = np.fromfile(tmp_path / "a.raw", np.uint8).reshape(64, 96, 3)
    frame = next(open_source(path).frames())
    assert np.abs(frame.image.astype(int) - shown).mean() < 2
