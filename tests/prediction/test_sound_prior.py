"""What changes with the sound draws the map; another sound, no sound and a still picture leave it as it is."""

import numpy as np
import pytest
import torch

from diffsal.config import Finish
from diffsal.media.mel import Sound
from diffsal.media.source import Frame
from diffsal.networks.diffsal import DiffSal
from diffsal.prediction.hearing import HISTORY_SECONDS, Heard, Hearing, Synchrony
from diffsal.prediction.pipeline import predict
from diffsal.training.recipes import configure
from tests.movies import write_movie

RATE = 25.0
LEFT, RIGHT = (slice(8, 20), slice(6, 18)), (slice(8, 20), slice(30, 42))


def speech(seed: int, frames: int) -> np.ndarray:
    """Loudness from frame to frame: syllables, as a logarithm."""
    return np.repeat(np.random.default_rng(seed).normal(0, 2, frames // 4 + 1), 4)[:frames]


def talkers(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two mouths (frames, 56, 96): each moves as much as its own sound is loud."""
    pictures = np.zeros((len(left), 28, 48), np.float32)
    for loud, place in ((left, LEFT), (right, RIGHT)):
        for i, level in enumerate(loud):
            pictures[i][place] = float(0.02 * np.exp(level / 2) * (-1) ** i)
    return pictures.repeat(2, axis=1).repeat(2, axis=2)


def correlations(brightness: np.ndarray, loudness: np.ndarray, frame: int) -> np.ndarray:
    synchrony = Synchrony(RATE, len(loudness))
    for picture, loud in zip(brightness, loudness, strict=True):
        synchrony.add(picture, float(loud))
    return synchrony.at(frame)


def test_who_moves_with_the_sound_is_found_and_changes_with_it():
    first, second = speech(1, 150), speech(2, 150)
    pictures = talkers(first, second)
    for loudness, speaker, listener in ((first, LEFT, RIGHT), (second, RIGHT, LEFT)):
        found = correlations(pictures, loudness, 149)
        assert found[speaker].mean() > 0.2 and found[speaker].mean() > 3 * found[listener].mean()
    assert correlations(pictures, speech(3, 150), 149).max() < 0.2
    assert correlations(np.zeros((150, 56, 96), np.float32), first, 149).max() == 0
    assert correlations(pictures, np.zeros(150), 149).max() == 0


def test_the_correlation_is_numpys_and_remembers_five_seconds():
    loudness = speech(1, 400)
    pictures = talkers(loudness, speech(2, 400))
    found = correlations(pictures, loudness, 300)
    history = round(HISTORY_SECONDS * RATE)
    short = correlations(pictures[300 - history : 301], loudness[300 - history : 301], history)
    np.testing.assert_allclose(found, short, atol=1e-6)
    row, column = 14, 12
    change = torch.nn.functional.avg_pool2d(torch.from_numpy(pictures)[:, None], 2).diff(dim=0).abs()
    change = change[300 - history : 300]
    for _ in range(2):
        change = torch.nn.functional.avg_pool2d(change, 5, 1, 2, count_include_pad=False)
    series, heard = torch.log1p(change[:, 0, row, column] / 0.01).double().numpy(), loudness[301 - history : 301]
    expected = np.cov(series, heard, bias=True)[0, 1] / ((series.std() + 0.4) * (heard.std() + 0.1))
    assert found[row, column].item() == pytest.approx(max(expected, 0), abs=1e-5)


def frame_at(index: int) -> Frame:
    return Frame(index, index / RATE, np.zeros((4, 4, 3), np.uint8))


def test_a_hearing_gives_log_mels_and_correlations_or_neither():
    config = configure("compact", ["height=64", "width=96"]).model
    sound = Sound(np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32), 16_000)
    for weight, given in ((0.0, sound), (3.0, sound), (3.0, None)):
        hearing = Hearing(config, Finish(motion_gain=0.75, sound_gain=weight), given, RATE, 40)
        for i in range(40):
            hearing.add(frame_at(i), np.random.default_rng(i).random((16, 24), dtype=np.float32))
        heard = hearing.of(frame_at(10), 17)
        assert (heard.mel is None) == (given is None)
        assert (heard.synchrony is None) == (given is None or weight == 0)
    assert Heard() == (None, None, None, ())


@pytest.fixture(scope="module")
def network() -> DiffSal:
    torch.manual_seed(0)
    config = configure("compact", ["height=64", "width=96"]).model
    return DiffSal(config, Finish(motion_gain=0.5, sound_gain=8.0)).eval()


@pytest.fixture(scope="module")
def conversation(tmp_path_factory):
    """Eight seconds in which the right half flickers whenever a tone sounds, and the left half when it does not."""
    rng, frames = np.random.default_rng(0), 200
    loud = np.repeat(rng.random(frames // 10) < 0.5, 10)
    pictures = np.full((frames, 64, 96, 3), 90, np.uint8)
    for i in range(frames):
        pictures[i, 16:48, 60:84 if loud[i] else 60] = rng.integers(0, 255)
        pictures[i, 16:48, 12:12 if loud[i] else 36] = rng.integers(0, 255)
    seconds = np.arange(frames * 640) / 16_000
    tone = (np.sin(2 * np.pi * 440 * seconds) * 0.3 * loud[(seconds * RATE).astype(int)]).astype(np.float32)
    path = tmp_path_factory.mktemp("sound") / "talk.mp4"
    return write_movie(path, num_frames=frames, frame_rate=RATE, size=(64, 96), sound=tone, images=pictures)


def shares(predictions) -> np.ndarray:
    maps = np.stack([p.saliency for p in predictions])
    return maps[:, 16:48, 60:84].mean((1, 2)) / maps[:, 16:48, 12:36].mean((1, 2))


def test_in_a_video_the_side_that_sounds_gains(network, conversation):
    heard, muted = (shares(predict(network, conversation, mute=mute)) for mute in (False, True))
    assert (heard[75:] > 1.3 * muted[75:]).all()


def test_the_map_of_a_frame_does_not_depend_on_where_one_begins_or_on_the_batch(network, conversation):
    whole = {p.index: p.saliency for p in predict(network, conversation)}
    for settings in ({"start": 6.4, "end": 7.0}, {"start": 6.4, "end": 7.0, "batch_size": 5}, {"indices": {170, 171}}):
        part = list(predict(network, conversation, **settings))
        assert part
        for p in part:
            np.testing.assert_allclose(p.saliency, whole[p.index], atol=1e-5)
