"""What moves in a picture that is otherwise still draws the map; where all moves, or nothing does, it stays."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage, special

from diffsal.config import Finish
from diffsal.prediction.finish import brightness, energy, finish_map, moving_alone, prior_gain, smoothing_of


def random(*shape, seed=1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def maps(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A map without and with what moves."""
    raw = random(32, 48) * 0.5
    return raw, finish_map(raw, Finish(motion_gain=0.75), moving_alone(change))


def test_what_moves_alone_gains_and_the_rest_keeps_its_proportions():
    change = np.zeros((16, 16, 24), np.float32)
    change[::2, 6:10, 16:20] = 1.0  # flickers
    plain, drawn = maps(change)
    gain = drawn / plain
    assert drawn.min() >= 0 and drawn.max() == pytest.approx(plain.max())  # it moves attention, and does not dim it
    assert gain[16, 36] > 1.5 * gain[16, 8] and gain[16, 36] == pytest.approx(gain.max())
    assert gain[4:28, :16].std() < 1e-4 * gain[16, 8]


@pytest.mark.parametrize("frames", [1, 16])
def test_nothing_changes_where_nothing_moves_or_everything_does(frames):
    change = np.random.default_rng(0).normal(size=(frames, 16, 24)).astype(np.float32)
    np.testing.assert_allclose(*maps(np.broadcast_to(change, (16, 16, 24)) if frames == 1 else change), rtol=1e-5)


def test_energy_is_the_logarithm_of_the_change_smoothed_inside_the_picture():
    change, kernel = random(12, 20), np.ones((5, 5))
    count = ndimage.convolve(np.ones((12, 20)), kernel, mode="constant")
    smooth = change.astype(float)
    for _ in range(2):
        smooth = ndimage.convolve(smooth, kernel, mode="constant") / count
    np.testing.assert_allclose(energy(change), np.log1p(smooth / 0.01), rtol=1e-5)


def test_energy_does_not_depend_on_brightness_and_grows_with_the_motion():
    still = np.repeat(random(1, 32, 48), 16, axis=0)
    slight, strong = still.copy(), still.copy()
    slight[8:, 12:16, 20:28] += 0.1
    strong[8:, 12:16, 20:28] += 0.5
    assert not moving_alone(still).any()
    np.testing.assert_allclose(moving_alone(slight + 1), moving_alone(slight), atol=1e-4)
    assert moving_alone(strong)[14, 24] > moving_alone(slight)[14, 24] > 0


def test_motion_counts_less_the_more_of_the_picture_moves():
    change = np.cumsum(random(16, 12, 20) * 0.01, axis=0, dtype=np.float32)
    moving = energy(np.abs(np.diff(change, axis=0)).mean(axis=0))
    assert 0.3 < moving.mean() < 0.6
    np.testing.assert_allclose(moving_alone(change), moving * (1 - moving.mean() / 0.9), rtol=1e-5)


def test_brightness_is_the_mean_of_the_normalised_channels_at_stride_four():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalised = (image / 255.0 - mean) / std
    expected = normalised.reshape(8, 4, 12, 4, 3).mean((1, 3, 4))
    np.testing.assert_allclose(brightness(image, mean, std), expected, atol=1e-6)


def test_the_centre_is_added_to_the_logit_and_the_exponent_comes_after():
    raw = random(16, 24)
    finish = Finish(1.5, centre_gain=0.5, centre=((0.0, -4.0),))
    centre = F.interpolate(torch.tensor([[[[0.0, -4.0]]]]), size=(16, 24), mode="bilinear")[0, 0].numpy()
    expected = special.expit(special.logit(raw.astype(float)) + 0.5 * centre) ** 1.5
    np.testing.assert_allclose(finish_map(raw, finish), expected, rtol=1e-5)
    edges = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(finish_map(edges, finish), edges)


def test_priors_multiply_the_map_and_its_peak_stays():
    raw, motion, sound, speaker = (random(16, 24, seed=i) for i in range(4))
    found = finish_map(raw, Finish(1.1, 0.75, 3.0, 1.0), motion, sound, speaker)
    expected = raw**1.1 * np.exp(0.75 * motion + 3.0 * sound + speaker)
    np.testing.assert_allclose(found, expected * ((raw**1.1).max() / expected.max()), rtol=1e-5)


def test_the_gain_of_what_is_there_is_1_where_it_is_highest():
    speaker = random(16, 24)
    gain = prior_gain(Finish(motion_gain=0.75, sound_gain=3.0, speaker_gain=2.0), (24, 16), None, None, speaker)
    np.testing.assert_allclose(gain, np.exp(2 * (speaker - speaker.max())), rtol=1e-6)


def test_a_black_map_stays_black():
    assert not finish_map(np.zeros((8, 8), np.float32), Finish(2.0, 0.75), random(8, 8)).any()


def test_an_exponent_of_two_squares_the_map():
    np.testing.assert_allclose(finish_map(random(8, 8), Finish(2.0)), random(8, 8) ** 2, rtol=1e-6)


def test_maps_count_from_two_and_a_half_time_constants_before_to_one_and_a_half_after():
    finish = Finish(past_seconds=0.2, future_seconds=0.1)
    assert smoothing_of(finish, 25) == (12, 3, 5, 2.5) and smoothing_of(Finish(), 25) == (0, 0, 0, 0)
    assert smoothing_of(finish, 25, 2) == (12, 2, 5, 2.5) and smoothing_of(finish, 30, 4) == (12, 4, 6, 3)


def test_nothing_is_done_by_default():
    raw = random(8, 8)
    np.testing.assert_array_equal(finish_map(raw, Finish(), random(8, 8), random(4, 4), random(2, 2)), raw)
