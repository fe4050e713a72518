"""Clocks on which files of a random search differed from ffprobe, or were called damaged, though they are whole."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from diffsal.media.source import open_source
from tests.media.test_ffmpeg_agrees import ffmpeg, frame_times, overlay
from tests.media.test_pauses_and_fragments import edited

pytestmark = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")


def video(rate: str, seconds: float) -> tuple[str, ...]:
    return "-f", "lavfi", "-i", f"testsrc=s=64x48:r={rate}:d={seconds}"


def noise(seconds: float, rate: int = 48_000) -> tuple[str, ...]:
    return "-f", "lavfi", "-i", f"anoisesrc=d={seconds}:r={rate}:a=0.4:c=pink"


def test_pictures_that_are_shown_for_long_and_stored_in_another_order(tmp_path):
    path = tmp_path / "a.mkv"
    ffmpeg(tmp_path, *video("1/50", 200), *noise(200, 8000), "-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p",
           "-c:a", "pcm_s16le", path.name)
    assert [frame.seconds for frame in open_source(path).frames()] == pytest.approx(frame_times(path), abs=1e-3)


@pytest.mark.parametrize("suffix", ["asf", "wmv"])
def test_frames_before_the_first_stamp_that_asf_states(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    ffmpeg(tmp_path, *video("5", 2), "-itsoffset", "0.25", *noise(1.1), "-c:v", "mpeg4", "-bf", "2", "-c:a", "ac3",
           path.name)
    told = np.array(frame_times(path))  # it has none for the last
    seconds = [frame.seconds for frame in open_source(path).frames()]
    assert seconds[: len(told)] == pytest.approx(told - told[0], abs=1e-3)
    target, problems = overlay(path)
    assert problems == [] and frame_times(target) == pytest.approx(seconds, abs=1e-3)


def test_a_nut_that_starts_late_is_whole(tmp_path):
    ffmpeg(tmp_path, *video("25", 2), "-c:v", "mjpeg", "-output_ts_offset", "100", "a.nut")
    source = open_source(tmp_path / "a.nut")
    told = frame_times(tmp_path / "a.nut")
    assert [frame.seconds for frame in source.frames()] == pytest.approx(np.array(told) - told[0], abs=1e-3)
    assert source.problems == [] and source.duration_seconds == pytest.approx(told[-1] - told[0], abs=0.05)


def test_a_nut_whose_sound_starts_after_its_picture_has_ended_is_whole(tmp_path):
    ffmpeg(tmp_path, *video("25", 1), "-itsoffset", "1.3", *noise(1), "-c:v", "mpeg4", "-bf", "3", "-c:a", "pcm_s16le",
           "a.nut")
    source = open_source(tmp_path / "a.nut")
    told = frame_times(tmp_path / "a.nut")
    seconds = [frame.seconds for frame in source.frames()]
    assert seconds[: len(told)] == pytest.approx(np.array(told) - told[0], abs=1e-3) and source.problems == []
    assert len(seconds) == 25


@pytest.mark.parametrize("sound_seconds", [1, 1.5, 3])
def test_joined_recordings_whose_sound_is_longer_are_whole(tmp_path, sound_seconds):
    ffmpeg(tmp_path, *video("25", 1), *noise(sound_seconds), "-c:v", "mpeg2video", "-c:a", "mp2", "a.ts")
    path = tmp_path / "b.ts"
    path.write_bytes(2 * (tmp_path / "a.ts").read_bytes())
    source = open_source(path)
    assert len(list(source.frames())) == len(frame_times(path)) == 50 and source.problems == []


def test_starting_in_the_middle_where_two_frames_have_one_stamp(tmp_path):
    path = tmp_path / "a.mkv"
    ffmpeg(tmp_path, *video("25", 2), "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-bsf:v",
           "setts=ts='if(eq(N,20),PTS-40,PTS)'", path.name)
    assert len(set(frame_times(path))) == 49
    whole = [(frame.index, frame.seconds) for frame in open_source(path).frames()]
    for start in (0.7, 0.8, 0.84, 0.88):
        found = [(frame.index, frame.seconds) for frame in open_source(path).frames(start)]
        assert found == [(index, seconds) for index, seconds in whole if seconds >= start]


def test_a_matroska_of_unknown_length_whose_other_sound_is_longest_is_whole(tmp_path):
    path = tmp_path / "a.mkv"
    ffmpeg(tmp_path, *video("5", 2), *noise(3), *noise(1), "-map", "0", "-map", "1", "-map", "2", "-c:v", "mjpeg",
           "-pix_fmt", "yuvj420p", "-c:a", "aac", "-disposition:a:0", "0", "-disposition:a:1", "default", "b.mkv")
    path.write_bytes(piped(tmp_path, "b.mkv"))
    source = open_source(path)
    assert len(list(source.frames())) == len(frame_times(path)) == 10 and source.problems == []


def piped(folder, name: str) -> bytes:
    """As Matroska, in which no stream says how long it lasts."""
    return subprocess.run(["ffmpeg", "-v", "error", "-i", name, "-map", "0", "-c", "copy", "-f", "matroska", "-"],
                          cwd=folder, capture_output=True, check=True).stdout


def test_joined_matroska_of_unknown_length_is_whole(tmp_path):
    ffmpeg(tmp_path, *video("25", 1), *noise(1), "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-c:a", "aac", "a.mkv")
    path = tmp_path / "b.mkv"
    path.write_bytes(2 * piped(tmp_path, "a.mkv"))
    source = open_source(path)
    seconds = [frame.seconds for frame in source.frames()]
    assert len(seconds) == len(frame_times(path)) == 50 and source.problems == []
    assert np.delete(np.diff(seconds), 24) == pytest.approx(0.04, abs=1.1e-3)


@pytest.mark.parametrize(("vide", "soun"), [
    ([(300, -1), (1500, 1024)], [(2000, 1024)]),  # FFmpeg takes 2.1 s for its end
    ([(2000, 1024)], [(400, -1), (1000, 24_000)]),  # half a second is hidden, and comes late
])
def test_edits_that_begin_late_in_the_middle_of_a_track(tmp_path, vide, soun):
    path = tmp_path / "a.mp4"
    ffmpeg(tmp_path, *video("25", 2), *noise(2), "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12", "-bf", "2",
           "-c:a", "aac", "-b:a", "192k", path.name)
    edited(path, {"vide": vide, "soun": soun})
    source = open_source(path)
    assert [frame.seconds for frame in source.frames()] == pytest.approx(frame_times(path), abs=1e-3)
    assert source.problems == []
    target, _ = overlay(path)
    heard = []
    for file in (path, target):
        ffmpeg(tmp_path, "-i", file.name, "-af", "aresample=48000:async=1:min_hard_comp=0.005:first_pts=0", "-ac", "1",
               "-f", "f32le", f"{file.name}.raw")
        heard.append(np.fromfile(tmp_path / f"{file.name}.raw", np.float32)[:66_000])
    assert np.corrcoef(*heard)[0, 1] > 0.9
