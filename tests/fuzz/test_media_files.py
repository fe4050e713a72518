"""Broken videos and pictures: read, or refused in one line; frames that are lost are told.

A loss is silent where fewer frames come out than the whole file holds, and no line says so.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from diffsal.media.pictures import read_grey, read_header, read_picture
from diffsal.media.probe import picture_stream
from diffsal.media.source import open_source
from tests.fuzz import SEED, Silent, attack
from tests.movies import tone, write_movie

NUM_FRAMES = 20
KINDS = {  # container: codecs of its picture and its sound
    "mp4": ("libx264", "aac"), "mkv": ("libx264", "aac"), "avi": ("mpeg4", "mp3"), "ts": ("libx264", "aac"),
    "mpg": ("mpeg2video", "mp2"), "flv": ("flv", "mp3"), "wmv": ("wmv2", "mp3"), "ogv": ("libtheora", "libvorbis"),
    "webm": ("libvpx-vp9", "libopus"), "mov": ("mjpeg", "pcm_s16le"), "nut": ("ffv1", "flac"),
}


def seed(path: Path, kind: str) -> bytes:
    picture, sound = KINDS[kind]
    if picture not in av.codecs_available or sound not in av.codecs_available:
        pytest.skip(f"this PyAV has no {picture} or {sound}")
    rate = 48_000 if kind in ("webm", "ogv") else 44_100
    pixels = {"mjpeg": "yuvj420p", "ffv1": "yuv420p"}.get(picture, "yuv420p")
    options = {"g": "5", "lag-in-frames": "0"} if picture == "libvpx-vp9" else {"g": "5"}
    write_movie(path, num_frames=NUM_FRAMES, frame_rate=Fraction(25), codec=picture, pixels=pixels, grain=20,
                size=(96, 128), options=options, sound=tone(0.8, rate), sound_rate=rate, sound_codec=sound,
                layout="stereo" if kind == "ogv" else "mono")
    return path.read_bytes()


def num_left_out(path: Path) -> int:
    """Frames that the file itself says not to show: a fault can make such an edit list."""
    if path.suffix not in (".mp4", ".mov"):
        return 0
    with av.open(str(path), metadata_errors="replace") as container:
        return sum(packet.is_discard for packet in container.demux(picture_stream(container)))


def ends_between_packets(path: Path, whole: int) -> bool:
    """Whether a file of ``whole`` bytes was cut so that a whole MPEG-TS is left: nothing in it tells what followed."""
    return path.suffix == ".ts" and path.stat().st_size < whole and path.stat().st_size % 188 == 0


def read_video(path: Path, expected: int, whole: int) -> None:
    source = open_source(path)
    frames = list(source.frames())
    seconds = [f.seconds for f in frames]
    assert seconds == sorted(seconds) and all(f.image.dtype == np.uint8 for f in frames)
    assert len(frames) <= 10 * expected, f"{len(frames)} frames out of a file of {expected}"
    source.sound()
    assert all(p.isprintable() and p.startswith(str(path)) for p in source.problems), source.problems
    if ends_between_packets(path, whole):
        return
    if not source.problems and len(frames) + num_left_out(path) < expected:
        raise Silent(f"{len(frames)} of {expected} frames")


@pytest.mark.parametrize("kind", KINDS)
def test_videos(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    data = seed(path, kind)
    expected = len(list(open_source(path).frames()))
    assert expected >= NUM_FRAMES - 1
    silent = attack(f"video .{kind}", [data], path, lambda p: read_video(p, expected, len(data)))
    assert not silent, f"cases {silent} of seed {SEED} lost frames without a word, kept in {tmp_path}"


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
def test_animations(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    shots = [Image.fromarray(np.full((48, 64, 3), 40 * i, np.uint8)) for i in range(6)]
    shots[0].save(path, save_all=True, append_images=shots[1:], duration=40)
    data = path.read_bytes()
    silent = attack(f"animation .{suffix}", [data], path, lambda p: read_video(p, 6, len(data)))
    assert not silent, f"cases {silent} of seed {SEED} lost frames without a word, kept in {tmp_path}"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "avif", "jp2", "pfm"])
def test_pictures(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    seeds = []
    if suffix == "pfm":
        cv2.imwrite(str(path), image[..., 0].astype(np.float32) / 255)
        seeds.append(path.read_bytes())
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = io.BytesIO()
        Image.fromarray(image).save(data, {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(suffix, suffix.upper()),
                                    **({"exif": exif} if suffix not in ("bmp", "jp2") else {}))
        seeds.append(data.getvalue())
        if suffix in ("png", "tif"):
            for values in (image[..., 0].astype(np.uint16) * 256, image[..., 0].astype(np.float32) / 255)[: 1 + (
                    suffix == "tif")]:
                cv2.imwrite(str(path), values)
                seeds.append(path.read_bytes())

    def read(path):
        header = read_header(path)
        assert read_picture(path).shape == (header.height, header.width, 3)
        read_grey(path)

    attack(f"picture .{suffix}", seeds, path, read)
