"""Clocks on which files of a random search differed from ffprobe, or were called damaged, though they are whole."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from diffsal.media.source import open_source
from tests.media.test_ffmpeg_agrees import ffmpeg, frame_times, overlay

pytestmark = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")


def video(rate: str, seconds: float) -> tuple[str, ...]:
    return "-f", "lavfi", "-i", f"testsrc=s=64x48:r={rate}:d={seconds}"


def noise(seconds: float, rate: int = 48_000) -> tuple[str, ...]:
    return "-f", "lavfi", "-i", f"anoisesrc=d={seconds}:r={rate}:a=0.3"


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
    with path.open("wb") as file:  # into a pipe: no stream says how long it lasts
        subprocess.run(["ffmpeg", "-v", "error", "-i", "b.mkv", "-map", "0", "-c", "copy", "-f", "matroska", "-"],
                       cwd=tmp_path, stdout=file, check=True)
    source = open_source(path)
    assert len(list(source.frames())) == len(frame_times(path)) == 10 and source.problems == []
