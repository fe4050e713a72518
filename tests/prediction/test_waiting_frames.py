"""Frames that wait for their windows keep what the decoder gave, not their RGB; what is made of them is the same."""

from __future__ import annotations

import weakref

import av
import numpy as np
import pytest

from diffsal.media import source as sources
from diffsal.media.source import Frame, open_source
from diffsal.prediction.pipeline import predict, queue_size
from tests.movies import picture, tone, turn, write_movie
from tests.standin import StandIn


def decoded(path) -> list[np.ndarray]:
    """All pictures of a file as PyAV alone converts them."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("width", [48, 50])  # rows without and with a gap between them
def test_a_packed_frame_has_the_same_picture_again(tmp_path, width):
    path = write_movie(tmp_path / "a.mp4", num_frames=4, size=(40, width))
    for frame, expected in zip(open_source(path).frames(), decoded(path), strict=True):
        assert frame.size == (40, width) and (frame.image == expected).all()
        packed = frame.packed()
        assert "image" not in vars(packed) and (packed.image == expected).all()
        assert packed.image is packed.image


def test_a_turned_frame_knows_its_size_before_its_rgb(tmp_path):
    path = turn(write_movie(tmp_path / "a.mp4", num_frames=1, size=(40, 48)), 90)
    (frame,) = open_source(path).frames()
    assert frame.size == (48, 40) and "image" not in vars(frame) and frame.image.shape == (48, 40, 3)


@pytest.mark.parametrize("is_large", [False, True])
def test_no_rgb_waits_and_large_pictures_change_nothing(tmp_path, monkeypatch, is_large):
    path = write_movie(tmp_path / "a.mp4", num_frames=40, sound=tone(1.6, 16_000))
    expected = [p.saliency for p in predict(StandIn(by_frame=True), path)]
    alive = most = 0
    upright = sources.upright

    class Picture(np.ndarray):
        pass

    def counted(frame):
        nonlocal alive, most
        image = upright(frame).view(Picture)
        alive += 1
        most = max(most, alive)
        weakref.finalize(image, gone)
        return image

    def gone():
        nonlocal alive
        alive -= 1

    monkeypatch.setattr(sources, "upright", counted)
    monkeypatch.setattr(sources, "LARGE_PIXELS", 0 if is_large else 10**9)
    found = []
    for prediction in predict(StandIn(by_frame=True), path):
        found.append(prediction.saliency)
        del prediction
    assert len(found) == 40 and all((a == b).all() for a, b in zip(found, expected, strict=True))
    assert most <= 4  # of the reader, of who speaks, and of the prediction


def test_fewer_large_pictures_are_read_ahead():
    sizes = {height: queue_size(sources.Source("a", width=height * 16 // 9, height=height)) for height in (360, 2160)}
    assert sizes == {360: 12, 2160: 1}
    assert not sources.Source("a", width=1920, height=1080).is_large
    assert sources.Source("a", width=3840, height=2160).is_large


def test_a_picture_is_its_own_array():
    image = picture(0, 8, 8)
    assert Frame(0, 0.0, image).image is image and Frame(0, 0.0, image).packed().size == (8, 8)
