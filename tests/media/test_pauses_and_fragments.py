"""Pauses and pieces that are missing; MP4 in fragments, and with edit lists; where a late sound begins."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from diffsal.media.chains import fragment_numbers, is_gapless
from diffsal.media.source import open_source
from diffsal.outputs.render import Outputs, render
from tests.media.test_ffmpeg_agrees import VIDEO, ffmpeg, frame_times, probe
from tests.movies import tone, write_movie
from tests.standin import StandIn

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
PAUSE = [i / 25 for i in range(60) if not 30 <= i < 45]
FORMATS = {"mpg": "mpeg", "ts": "mpegts", "ogv": "ogg", "wmv": "asf"}


def paused(folder: Path, suffix: str, codecs: tuple[str, str]) -> Path:
    path = folder / f"a.{suffix}"
    if suffix == "ogv":
        if not shutil.which("ffmpeg"):
            pytest.skip("PyAV has no libtheora")
        sound = ("-f", "lavfi", "-i", "sine=d=2.4:r=48000")
        ffmpeg(folder, "-f", "lavfi", "-i", "testsrc=s=96x64:r=25:d=2.4", *sound, "-vf",
               "select='not(between(n,30,44))'", "-vsync", "passthrough", "-c:v", codecs[0], "-c:a", codecs[1],
               path.name)
        return path
    return write_movie(path, PAUSE, codec=codecs[0], options={"g": "5", "bf": "0"}, grain=60, size=(96, 128),
                       sound=tone(2.4, 48_000), sound_rate=48_000, sound_codec=codecs[1], layout="stereo")


CODECS = [("ts", ("libx264", "aac")), ("mpg", ("mpeg2video", "mp2")), ("wmv", ("wmv2", "mp3")),
          ("ogv", ("libtheora", "libvorbis"))]


@pytest.mark.parametrize(("suffix", "codecs"), CODECS)
def test_a_recorder_that_pauses_has_lost_nothing(tmp_path, suffix, codecs):
    path = paused(tmp_path, suffix, codecs)
    source = open_source(path)
    seconds = [frame.seconds for frame in source.frames()]
    assert len(seconds) == 45 and np.diff(seconds).max() == pytest.approx(0.62, abs=0.021) and source.problems == []
    assert is_gapless(str(path), FORMATS[suffix])


@pytest.mark.parametrize(("suffix", "codecs"), CODECS)
def test_a_piece_that_is_missing_is_no_pause(tmp_path, suffix, codecs):
    """A packet or page is taken out, so that those that stay follow each other but for their numbers."""
    path = paused(tmp_path, suffix, codecs)
    data = path.read_bytes()
    if suffix == "ts":
        place = 188 * (len(data) // 376)
        path.write_bytes(data[:place] + data[place + 5 * 188 :])
    elif suffix == "ogv":
        place = data.index(b"OggS", len(data) // 2)
        path.write_bytes(data[:place] + data[data.index(b"OggS", place + 4) :])
    elif suffix == "mpg":
        place = data.index(b"\0\0\1\xe0", len(data) // 2)
        path.write_bytes(data[:place] + data[place + 100 :])
    else:
        place, size = struct.unpack_from("<Q", data, 16)[0] + 50, 3_200
        path.write_bytes(data[: place + 5 * size] + data[place + 6 * size :] + data[-size:])
    assert not is_gapless(str(path), FORMATS[suffix])


def fragments(path: Path) -> tuple[bytes, list[bytes]]:
    """What comes before the first fragment of an MP4, and its fragments."""
    data = path.read_bytes()
    starts = [at - 4 for at in range(len(data)) if data[at : at + 4] == b"moof"]
    return data[: starts[0]], [data[a:b] for a, b in zip(starts, [*starts[1:], data.index(b"mfra") - 4], strict=True)]


def fragmented(path: Path) -> Path:
    whole = write_movie(path.with_suffix(".mkv"), num_frames=60, options={"g": "10", "bf": "0", "sc_threshold": "0"})
    with av.open(str(whole)) as inside, av.open(str(path), "w", options={
            "movflags": "frag_keyframe+empty_moov+default_base_moof"}) as outside:
        stream = outside.add_stream_from_template(inside.streams.video[0])
        for packet in inside.demux():
            if packet.size:
                packet.stream = stream
                outside.mux(packet)
    return path


def test_a_live_stream_that_was_joined_late_has_its_end(tmp_path):
    """Its clock begins at 0.8 s, and the length in its track counts from 0."""
    path = fragmented(tmp_path / "a.mp4")
    head, parts = fragments(path)
    path.write_bytes(head + b"".join(parts[2:]))
    source = open_source(path)
    seconds = [frame.seconds for frame in source.frames()]
    assert np.allclose(seconds, np.arange(40) / 25, atol=1e-3) and source.problems == []


def test_a_fragment_that_is_missing_is_told_and_a_pause_is_not(tmp_path):
    path = fragmented(tmp_path / "a.mp4")
    head, parts = fragments(path)
    path.write_bytes(head + b"".join(parts[:3] + parts[4:]))
    assert fragment_numbers(str(path)) == [1, 2, 3, 5, 6]
    source = open_source(path)
    assert len(list(source.frames())) == 50
    assert len(source.problems) == 1 and "from 1.16 s to 1.60 s (about 10 frames cannot be found" in source.problems[0]
    for number, part in enumerate(parts):
        at = part.index(b"mfhd") + 8
        parts[number] = part[:at] + struct.pack(">I", 7) + part[at + 4 :]  # some recorders do not count
    path.write_bytes(head + b"".join(parts[:3] + parts[4:]))
    source = open_source(path)
    assert len(list(source.frames())) == 50 and source.problems == []


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_of_asf_that_are_not_in_order(tmp_path, codec):
    ffmpeg(tmp_path, *VIDEO, "-c:v", codec, "-bf", "2", "-g", "10", "-pix_fmt", "yuv420p", "a.asf")
    source = open_source(tmp_path / "a.asf")
    seconds = [frame.seconds + source.origin_seconds for frame in source.frames()]
    told = frame_times(tmp_path / "a.asf")  # it has none for the last two
    assert len(seconds) == 50 and seconds[: len(told)] == pytest.approx(told, abs=1e-3)
    assert np.diff(seconds) == pytest.approx(0.04, abs=1e-3)


@pytest.mark.parametrize("start", [0.6103, 0.6108, 0.6113])
def test_a_sound_that_starts_late_does_so_in_the_overlay_to_a_sample(tmp_path, start):
    """An MP4's edit list says when, in ticks of its own clock. Noise is alike in one place only."""
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    path = write_movie(tmp_path / "a.nut", codec="ffv1", sound=noise, sound_rate=48_000, sound_start=start,
                       sound_codec="flac")
    target = tmp_path / "overlay.mp4"
    render(StandIn(noise=0), str(path), Outputs(overlay=target))
    heard = []
    for file in (path, target):
        sound = open_source(file).sound(48_000)
        first = round(sound.start_seconds * 48_000)
        heard.append(np.fft.rfft(np.pad(sound.excerpt(0, len(sound.waveform)), (first, 0)), 1 << 18))
    late = np.fft.irfft(heard[1] * heard[0].conj()).argmax()
    assert min(late, (1 << 18) - late) <= 1


def edited(path: Path, edits: dict[str, list[tuple[int, int]]]) -> Path:
    """An MP4 with other edit lists, by handler: milliseconds, where in the track (−1: nothing)."""
    data = bytearray(path.read_bytes())
    moov = data.rindex(b"moov") - 4
    assert moov > data.index(b"mdat") and b"movie" not in data  # so that places of frames stay
    for handler, entries in edits.items():
        name = handler.encode()
        at = data.rindex(b"edts", 0, data.index(name, moov)) - 4
        size = struct.unpack_from(">I", data, at)[0]
        elst = struct.pack(">4sII", b"elst", 0, len(entries)) + b"".join(
            struct.pack(">IiI", *entry, 1 << 16) for entry in entries)
        new = struct.pack(">I4sI", 12 + len(elst), b"edts", 4 + len(elst)) + elst
        trak = data.rindex(b"trak", 0, at) - 4
        for box in (moov, trak):
            struct.pack_into(">I", data, box, struct.unpack_from(">I", data, box)[0] + len(new) - size)
        data[at : at + size] = new
    path.write_bytes(data)
    return path


@needs_ffmpeg
@pytest.mark.parametrize(("vide", "soun"), [
    ([(800, 1024), (800, 16_384)], [(800, 1024), (800, 58_624)]),  # what lies between is cut out
    ([(800, 1024), (400, -1), (800, 16_384)], [(800, 1024), (400, -1), (800, 58_624)]),
    ([(400, 21_504), (400, 1024), (400, 11_264)], [(400, 77_824), (400, 1024), (400, 39_424)]),  # in another order
])
def test_several_edits_of_one_track(tmp_path, vide, soun):
    path = tmp_path / "a.mp4"
    noise = "anoisesrc=r=48000:d=2:seed=3:a=0.4:c=pink"
    ffmpeg(tmp_path, *VIDEO, "-f", "lavfi", "-i", noise, "-c:v", "libx264", "-pix_fmt", "yuv420p",
           "-g", "12", "-bf", "2", "-c:a", "aac", "-b:a", "192k", path.name)
    edited(path, {"vide": vide, "soun": soun})
    source = open_source(path)
    seconds = [frame.seconds for frame in source.frames()]
    told = [float(line) for line in probe(path, "-select_streams", "v", "-show_entries", "frame=pts_time")]
    assert seconds == pytest.approx(np.maximum.accumulate(told), abs=2.5e-3) and source.problems == []
    target = tmp_path / "overlay.mp4"
    assert render(StandIn(noise=0), str(path), Outputs(overlay=target)).problems == []
    assert frame_times(target) == pytest.approx(seconds, abs=1e-3)
    for file in (path, target):
        ffmpeg(tmp_path, "-i", file.name, "-af", "aresample=async=1:min_hard_comp=0.005:first_pts=0", "-ac", "1", "-f",
               "f32le", f"{file.stem}.raw")
    first, second = (np.fromfile(tmp_path / f"{name}.raw", np.float32) for name in ("a", "overlay"))
    assert np.corrcoef(first[:57_000], second[:57_000])[0, 1] > 0.9


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "codecs"), [("ts", ("libx264", "aac")), ("ogv", ("libtheora", "libvorbis"))])
def test_a_picture_that_is_held_for_long_while_the_sound_goes_on_is_no_new_clock(tmp_path, suffix, codecs):
    path = tmp_path / f"a.{suffix}"
    ffmpeg(tmp_path, *VIDEO, "-f", "lavfi", "-i", "sine=d=14:r=48000", "-vf", "setpts='if(gte(N,25),PTS+12/TB,PTS)'",
           "-vsync", "vfr", "-c:v", codecs[0], "-pix_fmt", "yuv420p", "-c:a", codecs[1], path.name)
    source = open_source(path)
    seconds = [frame.seconds + source.origin_seconds for frame in source.frames()]
    assert seconds == pytest.approx(frame_times(path), abs=1e-3) and source.problems == []
    assert max(seconds) > 13


@needs_ffmpeg
@pytest.mark.parametrize(("codec", "options"), [
    ("libx265", ("-x265-params", "log-level=none:keyint=10:min-keyint=10:open-gop=1:bframes=4")),
    ("libx264", ("-x264opts", "open-gop=1:keyint=10:bframes=3")), ("mpeg2video", ("-bf", "2", "-g", "10"))])
@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_cut_in_an_open_group_of_pictures_has_lost_nothing(tmp_path, codec, options, suffix):
    """Pictures before its first key frame refer to what was cut away: no decoder shows them."""
    ffmpeg(tmp_path, *VIDEO, "-c:v", codec, *options, "-pix_fmt", "yuv420p", f"a.{suffix}")
    ffmpeg(tmp_path, "-i", f"a.{suffix}", "-c", "copy", "-f", "segment", "-segment_time", "0.9", f"%d.{suffix}")
    for path in (tmp_path / f"{number}.{suffix}" for number in (0, 1)):
        counts = probe(path, "-select_streams", "v", "-count_frames", "-show_entries", "stream=nb_read_frames")
        if counts[0] == "N/A":
            continue  # without a header of its own
        source = open_source(path)
        assert len(list(source.frames())) == int(counts[0]) and source.problems == []
