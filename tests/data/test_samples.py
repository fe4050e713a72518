"""Several samples of a map: their mean and spread are those of the same seeds drawn one by one, in every output."""

import json

import av
import cv2
import numpy as np
import pytest

from diffsal.outputs.render import Outputs, render
from diffsal.prediction.pipeline import predict
from tests.movies import write_movie
from tests.standin import StandIn


@pytest.fixture
def clip(tmp_path):
    return write_movie(tmp_path / "a.mp4", num_frames=4)


def test_mean_and_spread_are_those_of_the_seeds(clip):
    model = StandIn(noise=0.1)
    together = list(predict(model, clip, seed=5, samples=3))
    apart = np.stack([[p.saliency for p in predict(model, clip, seed=seed)] for seed in (5, 6, 7)])
    for frame, mean in zip(together, apart.mean(0), strict=True):
        np.testing.assert_allclose(frame.saliency, mean, atol=1e-5)
        assert frame.spread.shape == mean.shape
    assert next(iter(predict(model, clip))).spread is None
    with pytest.raises(ValueError, match="samples is 0"):
        predict(model, clip, samples=0)


def test_spread_of_one_pixel_is_a_standard_deviation(tmp_path):
    path = write_movie(tmp_path / "a.mp4", num_frames=1, size=(32, 32))  # the network's own size: nothing is stretched
    model = StandIn(noise=0.1)
    (together,) = predict(model, path, samples=4)
    apart = np.stack([next(iter(predict(model, path, seed=seed))).saliency for seed in range(4)])
    np.testing.assert_allclose(together.spread, apart.std(0, ddof=1), atol=1e-5)
    assert together.spread.mean() > 0.05


def test_outputs(clip, tmp_path):
    outputs = Outputs(tmp_path / "o.mp4", None, tmp_path / "o.npz", tmp_path / "o.png", tmp_path / "o.json")
    assert render(StandIn(noise=0.1), str(clip), outputs, samples=3).frames == 4
    with np.load(outputs.npz, allow_pickle=False) as arrays:
        assert arrays["spread"].shape == arrays["saliency"].shape == (4, 48, 64)
        spread, saliency = arrays["spread"].astype(float), arrays["saliency"].astype(float)
    frames = json.loads(outputs.json.read_text())["frames"]
    for i, frame in enumerate(frames):
        assert frame["spread"] == pytest.approx(spread[i].mean() / saliency[i].mean(), rel=5e-3)
    with av.open(str(outputs.overlay)) as made:
        first = next(made.decode(video=0)).to_ndarray(format="rgb24")
    assert first.shape == (48, 128, 3) and np.abs(first[:, :64].astype(int) - first[:, 64:]).mean() > 10
    height = 28 + 3 * 240 + 4  # times, pictures, mean, spread, margin
    assert cv2.imread(str(outputs.sheet)).shape[0] == height


def test_without_samples_nothing_is_wider(clip, tmp_path):
    outputs = Outputs(tmp_path / "o.mp4", None, tmp_path / "o.npz", tmp_path / "o.png", tmp_path / "o.json")
    render(StandIn(noise=0.1), str(clip), outputs)
    with np.load(outputs.npz, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["index", "saliency", "seconds"]
    with av.open(str(outputs.overlay)) as made:
        assert made.streams.video[0].width == 64
    assert {f["spread"] for f in json.loads(outputs.json.read_text())["frames"]} == {None}
