"""Every odd file gives its frames and its sound at the right times; every bad one, one line that says what is wrong."""

from __future__ import annotations

import http.server
import os
import threading
from fractions import Fraction
from functools import partial

import cv2
import numpy as np
import pytest

from diffsal.errors import InputError
from diffsal.media.soundtrack import read_sound
from diffsal.media.source import Source, expand, open_source
from tests.movies import picture, tone, turn, write_movie


def loudest_seconds(sound) -> float:
    """When the loudest 20 ms begin, on the clock of the frames."""
    power = np.convolve(sound.excerpt(0, len(sound.waveform)) ** 2, np.ones(sound.rate // 50), "valid")
    return sound.start_seconds + float(power.argmax()) / sound.rate


@pytest.mark.parametrize("num_frames", [1, 5, 16])
def test_short_clips(tmp_path, num_frames):
    frames = list(open_source(write_movie(tmp_path / "a.mp4", num_frames=num_frames)).frames())
    assert [f.index for f in frames] == list(range(num_frames))
    assert all(f.image.shape == (48, 64, 3) and f.image.dtype == np.uint8 for f in frames)


@pytest.mark.parametrize("rate", [12, Fraction(24000, 1001), Fraction(30000, 1001), 120])
def test_frame_rates(tmp_path, rate):
    source = open_source(write_movie(tmp_path / "a.mp4", num_frames=30, frame_rate=rate))
    assert source.frame_rate == pytest.approx(float(rate), rel=1e-4)
    assert [f.seconds for f in source.frames()] == pytest.approx([i / float(rate) for i in range(30)], abs=2e-5)
    assert source.num_frames == 30 and source.problems == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate(tmp_path, suffix):
    times = [0.0, 0.04, 0.3, 0.31, 0.5, 1.5, 1.6]
    frames = open_source(write_movie(tmp_path / f"a.{suffix}", seconds=times)).frames()
    assert [f.seconds for f in frames] == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize(("pixels", "codec", "suffix"), [
    ("yuv420p10le", "libx265", "mkv"), ("yuv444p", "libx264", "mkv"), ("yuv420p", "mpeg4", "avi"),
    ("yuvj420p", "mjpeg", "avi"), ("yuv420p", "libvpx", "webm"), ("bgr0", "ffv1", "mkv"),
])
def test_colours_and_depths(tmp_path, pixels, codec, suffix):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_movie(tmp_path / f"a.{suffix}", num_frames=3, pixels=pixels, codec=codec, options=options)
    first = next(iter(open_source(path).frames())).image.astype(int)
    assert abs(first[40] - picture(0, 48, 64)[40]).max() < 12


def test_colours_of_high_definition_without_a_matrix_are_bt709(tmp_path):
    path = write_movie(tmp_path / "a.mp4", num_frames=1, size=(720, 64))
    spot = next(iter(open_source(path).frames())).image[182:186, 2:6].mean((0, 1))
    # PyAV wrote BT.601 numbers; read as BT.709, red turns a little darker, as in every player
    assert spot[0] > 200 and spot[1] < 40


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (2160, 3840), (96, 54)])
def test_odd_portrait_and_4k_sizes(tmp_path, size):
    source = open_source(write_movie(tmp_path / "a.mkv", num_frames=1, size=size, codec="ffv1", pixels="bgr0"))
    (frame,) = source.frames()
    assert frame.image.shape[:2] == size == (source.height, source.width)
    assert np.array_equal(frame.image[-1], picture(0, *size)[-1])


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path, degrees):
    path = turn(write_movie(tmp_path / "a.mp4", num_frames=2, aspect=Fraction(4, 3)), degrees)
    source = open_source(path)
    upright = np.rot90(picture(0, 48, 64), -degrees // 90)
    image = next(iter(source.frames())).image
    assert image.shape == upright.shape and (source.height, source.width) == upright.shape[:2]
    assert abs(image.mean(2) - upright.mean(2)).mean() < 5
    assert source.sample_aspect_ratio == (Fraction(4, 3) if degrees == 180 else Fraction(3, 4))


@pytest.mark.parametrize(("sound_start", "picture_start"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.6)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_flash_and_click_stay_together(tmp_path, suffix, sound_start, picture_start):
    times = picture_start + np.arange(40) / 25
    click = picture_start + 1.0
    path = write_movie(
        tmp_path / f"a.{suffix}", seconds=times, flash=25, sound=tone(2, 16_000, click - sound_start),
        sound_start=sound_start,
    )
    source = open_source(path)
    frames = list(source.frames())
    flash = frames[int(np.argmax([f.image.mean() for f in frames]))].seconds
    assert frames[0].seconds == pytest.approx(picture_start, abs=0.07)  # AAC may begin 1,024 samples early
    assert loudest_seconds(source.sound()) == pytest.approx(flash, abs=0.012)


@pytest.mark.parametrize(("layout", "rate", "codec", "suffix"), [
    ("mono", 8_000, "pcm_s16le", "mkv"), ("stereo", 44_100, "aac", "mp4"), ("5.1", 48_000, "aac", "mp4"),
    ("7.1", 48_000, "flac", "mkv"), ("stereo", 96_000, "flac", "mkv"), ("mono", 48_000, "libopus", "webm"),
])
def test_channels_and_sample_rates(tmp_path, layout, rate, codec, suffix):
    video = {"codec": "libvpx"} if suffix == "webm" else {}
    path = write_movie(
        tmp_path / f"a.{suffix}", sound=tone(1, rate, 0.4), sound_rate=rate, layout=layout, sound_codec=codec, **video
    )
    sound = open_source(path).sound()
    assert sound.rate == 16_000 and sound.waveform.ndim == 1
    assert sound.duration_seconds == pytest.approx(1, abs=0.1)
    assert loudest_seconds(sound) == pytest.approx(0.4, abs=0.01)
    # The tone itself comes through: one 440 Hz line, audible, not clipped
    heard = sound.excerpt(int((0.4 - sound.start_seconds) * 16_000), int((0.42 - sound.start_seconds) * 16_000))
    assert 0.05 < abs(heard).max() <= 1
    assert read_sound(path, None).rate == rate


def test_holes_in_the_sound_are_silent_not_skipped(tmp_path):
    import av

    path = write_movie(tmp_path / "a.mkv", sound=tone(3, 16_000, 2.5), sound_codec="pcm_s16le", num_frames=75)
    holed = tmp_path / "b.mkv"
    with av.open(str(path)) as inside, av.open(str(holed), "w") as outside:
        streams = {s.index: outside.add_stream_from_template(s) for s in inside.streams}
        for packet in inside.demux():
            if packet.dts is None or (packet.stream.type == "audio" and 0.5 < packet.pts * packet.time_base < 1.5):
                continue
            packet.stream = streams[packet.stream.index]
            outside.mux(packet)
    assert loudest_seconds(open_source(holed).sound()) == pytest.approx(2.5, abs=0.012)


def test_no_sound(tmp_path):
    assert open_source(write_movie(tmp_path / "a.mp4")).sound() is None


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_starting_in_the_middle_gives_the_same_frames(tmp_path, suffix):
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.08, 120))
    path = write_movie(tmp_path / f"a.{suffix}", seconds=times, options={"g": "12", "bf": "2"})
    source = open_source(path)
    whole = list(source.frames())
    for start in (0.0, 1.234, 3.0, 100.0):
        part = list(source.frames(start, before=8))
        first = next((f.index for f in whole if f.seconds >= start), None)
        wanted = [] if first is None else whole[max(0, first - 8) :]
        assert [(f.index, f.seconds) for f in part] == [(f.index, f.seconds) for f in wanted]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(part, wanted, strict=True))


def test_pictures_and_numbered_folders(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for index in (10, 9, 2):
        cv2.imwrite(str(folder / f"img_{index}.png"), np.full((6, 8, 3), index, np.uint8))
    source = open_source(folder)
    assert [f.image[0, 0, 0] for f in source.frames()] == [2, 9, 10]  # by number, not by name
    assert source.num_frames == 3 and not source.is_picture and expand(str(folder)) == [str(folder)]
    single = open_source(folder / "img_9.png")
    assert single.is_picture and len(list(single.frames())) == 1
    cv2.imwrite(str(folder / "cover.png"), np.zeros((6, 8, 3), np.uint8))
    assert len(expand(str(folder))) == 4  # not numbered: each a picture of its own


def test_a_broken_picture_of_a_clip_is_left_out_and_told(tmp_path):
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(index, 48, 64)[..., ::-1])
    (tmp_path / "1.png").write_bytes(b"no picture")
    source = open_source(tmp_path)
    assert [f.index for f in source.frames()] == [0, 2]
    assert len(source.problems) == 1 and "1.png" in source.problems[0]


def test_folders_of_videos(tmp_path):
    for name in ("b.mp4", "a.MP4", "a.saliency.mp4", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert expand(str(tmp_path)) == [str(tmp_path / "a.MP4"), str(tmp_path / "b.mp4")]
    assert expand("anything else") == ["anything else"]


def test_sizes_that_change_are_brought_to_the_first(tmp_path):
    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((6 + index, 8, 3), np.uint8))
    source = open_source(tmp_path)
    assert [f.image.shape for f in source.frames()] == [(6, 8, 3)] * 2
    assert "8x7" in source.problems[0]


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "content", "said"), [
    ("missing.mp4", None, "no such file"), ("empty.mp4", b"", "empty"), ("text.mp4", b"hello\n" * 99, "not a video"),
    ("text.png", b"hello\n" * 99, "not a picture"),
])
def test_what_is_no_video(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as raised:
        open_source(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_sound_only(tmp_path):
    path = write_movie(tmp_path / "a.mkv", num_frames=0, sound=tone(1, 16_000), sound_codec="pcm_s16le")
    import av

    with av.open(str(path)) as inside, av.open(str(tmp_path / "b.mka"), "w", format="matroska") as outside:
        copied = outside.add_stream_from_template(inside.streams.audio[0])
        for packet in inside.demux(inside.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copied
                outside.mux(packet)
    with pytest.raises(InputError, match="only audio"):
        open_source(tmp_path / "b.mka")
    assert read_sound(tmp_path / "b.mka").duration_seconds == pytest.approx(1, abs=0.05)


def test_folders_that_hold_nothing_or_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="holds no videos"):
        expand(str(tmp_path))

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied"):
        expand(str(tmp_path))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_a_truncated_file_gives_what_is_left_and_says_so(tmp_path, suffix):
    path = write_movie(
        tmp_path / f"a.{suffix}", num_frames=100, sound=tone(4, 16_000), options={"g": "10", "crf": "5"},
        sound_codec="mp2" if suffix == "avi" else "aac",
    )
    if suffix == "mp4":  # its index in front
        path = remuxed(path, tmp_path / "b.mp4", {"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = open_source(path)
    frames = list(source.frames())
    assert 20 < len(frames) < 80
    assert suffix == "ts" or any("cut short" in p and path.name in p for p in source.problems), source.problems


def test_a_truncated_file_without_its_index(tmp_path):
    path = write_movie(tmp_path / "a.mp4", num_frames=100)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="cut short"):
        open_source(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_damage_in_the_middle_is_passed_and_told(tmp_path, suffix):
    path = write_movie(tmp_path / f"a.{suffix}", num_frames=100, options={"g": "10", "crf": "5"}, grain=60)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 900] = np.random.default_rng(0).bytes(900)
    path.write_bytes(data)
    source = open_source(path)
    frames = list(source.frames())
    assert 80 < len(frames) <= 100 and frames[-1].seconds == pytest.approx(99 / 25, abs=0.05)
    assert abs(frames[-1].image.astype(int) - picture(99, 48, 64, grain=60)).mean() < 20
    assert any("damaged" in p and ("1." in p or "2." in p) for p in source.problems), source.problems


def remuxed(path, target, options):
    import av

    with av.open(str(path)) as inside, av.open(str(target), "w", options=options) as outside:
        streams = {s.index: outside.add_stream_from_template(s) for s in inside.streams}
        for packet in inside.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                outside.mux(packet)
    return target


# --- addresses and cameras ----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_addresses(tmp_path, server):
    write_movie(tmp_path / "a.mp4", sound=tone(0.8, 16_000, 0.4))
    source = open_source(f"{server}/a.mp4")
    assert len(list(source.frames())) == 20
    assert loudest_seconds(source.sound()) == pytest.approx(0.4, abs=0.012)
    with pytest.raises(InputError, match=r"missing\.mp4: no such file or address"):
        open_source(f"{server}/missing.mp4")
    with pytest.raises(InputError, match="cannot be opened"):
        open_source("http://127.0.0.1:9/a.mp4")


class FakeCamera:
    """Three pictures, then unplugged."""

    def __init__(self, index):
        self.left = 3 if index == 0 else 0

    def read(self):
        self.left -= 1
        return (True, np.full((48, 64, 3), (0, 0, 255), np.uint8)) if self.left >= 0 else (False, None)

    def get(self, _):
        return 30.0

    def release(self):
        pass


def test_cameras(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    source = open_source("0")
    frames = list(source.frames())
    assert len(frames) == 3 and tuple(frames[0].image[0, 0]) == (255, 0, 0)
    assert frames[0].seconds >= 0 and source.frame_rate == 30 and source.sound() is None
    with pytest.raises(InputError, match="camera 7: no picture"):
        open_source(7)


def test_a_source_knows_when_nothing_can_be_decoded(tmp_path):
    source = Source("x", pictures=[tmp_path / "0.png", tmp_path / "1.png"])
    with pytest.raises(InputError, match="no frame could be decoded"):
        list(source.frames())


@pytest.mark.parametrize(("codec", "threads"), [("ffv1", "SLICE"), ("libx264", "AUTO")])
def test_frames_of_ffv1_are_decoded_one_at_a_time(tmp_path, monkeypatch, codec, threads):
    """Several damaged ones at once make FFmpeg 8.1 write past its memory."""
    from diffsal.media import source

    seen, decoding = [], source.Decoding
    monkeypatch.setattr(source, "Decoding", lambda container, stream, *more: (
        seen.append(stream.thread_type.name), decoding(container, stream, *more))[1])
    path = write_movie(tmp_path / "a.mkv", num_frames=3, codec=codec)
    assert len(list(open_source(path).frames())) == 3 and seen[-1] == threads
