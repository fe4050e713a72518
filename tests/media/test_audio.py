"""Log-mel front ends against the goldens, and windows on the video's clock."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal

from diffsal.config import ModelConfig, Preprocessing
from diffsal.media.mel import (
    VGGISH_OFFSET,
    YAMNET_OFFSET,
    MelTrack,
    Sound,
    log_mel,
    released_examples,
    released_excerpt,
    resample,
    sinc_filter,
    vggish_examples,
    vggish_input,
)
from tests.golden.fill import noise

RELEASED = ModelConfig.released(sound=True)
VGGISH = ModelConfig()
YAMNET = ModelConfig(audio_encoder="yamnet")


def chirp(name: str, rate: int, seconds: float) -> np.ndarray:
    """The goldens' waveform (golden/README.md)."""
    t = np.arange(int(rate * seconds)) / rate
    sweep = 0.5 * np.sin(2 * np.pi * (200 * t + (3500 - 200) / (2 * seconds) * t**2))
    return (sweep + 0.05 * noise(name, t.shape)).astype(np.float32)


def tone_burst(at_seconds: float, seconds: float, rate: int = 16_000) -> np.ndarray:
    """Silence with 50 ms of 1 kHz centred at ``at_seconds``."""
    t = np.arange(int(rate * seconds)) / rate
    return (np.sin(2 * np.pi * 1000 * t) * (np.abs(t - at_seconds) < 0.025)).astype(np.float32)


def tolerance(rate: int) -> float:
    return 1e-4 if rate == 16_000 else 2e-2  # the reference resampled with another filter


@pytest.mark.parametrize(("rate", "seconds"), [(16000, 1.6), (16000, 0.64), (44100, 1.6), (48000, 1.6)])
def test_log_mel_examples_equal_the_reference(golden, rate, seconds):
    reference = golden("vggish_input")[f"logmel.{rate}.{seconds}"]
    waveform = resample(chirp(f"wave.{rate}.{seconds}", rate, seconds), rate, 16_000)
    examples = vggish_examples(log_mel(waveform, VGGISH_OFFSET))[:, None]
    assert examples.shape == reference.shape
    assert np.abs(examples - reference).max(initial=0) < tolerance(rate)


@pytest.mark.parametrize(("rate", "new_rate"), [(44_100, 16_000), (48_000, 16_000), (11_025, 16_000), (96_000, 16_000)])
@pytest.mark.parametrize("count", [1, 7, 400, 10_001])
def test_a_change_of_rate_is_scipys_with_the_same_filter(rate, new_rate, count):
    waveform = noise(f"resample.{count}", (count,)).astype(np.float32)
    up, down = new_rate // math.gcd(rate, new_rate), rate // math.gcd(rate, new_rate)
    expected = scipy.signal.resample_poly(waveform.astype(np.float64), up, down, window=sinc_filter(up, down))
    found = resample(waveform, rate, new_rate)
    assert len(found) == count * up // down and found.dtype == np.float32
    np.testing.assert_allclose(found, expected[: len(found)], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("rate", "frame_rate", "first"), [(16000, 25, 1), (16000, 30, 40), (44100, 25, 20), (48000, 24, 33)]
)
def test_released_windows_equal_the_reference(golden, rate, frame_rate, first):
    reference = golden("vggish_input")
    name = f"window.{rate}.{frame_rate}fps.frames{first}-{first + 15}"
    sound = Sound(chirp(f"track.{rate}", rate, 4.0), rate)
    examples = released_examples(released_excerpt(sound, frame_rate, first, first + 15))
    assert np.abs(examples - reference[f"{name}.examples"]).max() < tolerance(rate)
    window = MelTrack(RELEASED, sound).window(0.0, frame_rate, first - 1 + 8)
    assert window.shape == (1, 9, 112, 192)
    assert np.abs(window[0, :, ::8, ::8] - reference[f"{name}.input"]).max() < tolerance(rate)
    assert np.array_equal(window, vggish_input(examples))


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 96_000])
@pytest.mark.parametrize("frame_rate", [12.0, 29.97, 120.0])
def test_released_windows_exist_at_every_rate_and_frame(rate, frame_rate):
    track = MelTrack(RELEASED, Sound(chirp("rates", rate, 1.0), rate))
    for index in (0, 7, int(frame_rate), 10_000):  # before the track, in it, at its end, long after it
        window = track.window(index / frame_rate, frame_rate, index)
        assert window.shape == (1, 9, 112, 192)
        assert np.isfinite(window).all()
    assert np.allclose(track.window(0.0, frame_rate, 10_000), math.log(VGGISH_OFFSET), atol=1e-5)


@pytest.mark.parametrize("config", [VGGISH, YAMNET])
@pytest.mark.parametrize("start_seconds", [0.0, 1.5, -0.7])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_windows_are_centred_on_the_video_clock(config, start_seconds, rate):
    """A burst at a frame's time lies in the middle of that frame's window, whenever the sound starts."""
    burst_seconds = 2.0
    waveform = tone_burst(burst_seconds - start_seconds, 6.0, rate)
    track = MelTrack(config, Sound(waveform, rate, start_seconds))
    for shift_seconds in (0.0, 0.2, -0.3):
        window = track.window(burst_seconds + shift_seconds, 25.0, 0)
        if config is VGGISH:  # the middle one of the nine examples is centred on the frame
            assert window.shape == (1, 9, 112, 192)
            energy, frame_seconds = np.exp(window[0, 4]).sum(1), 0.64 / 112
        else:
            assert window.shape == (1, 1, 96, 64)
            energy, frame_seconds = np.exp(window[0, 0]).sum(1), 0.01
        energy = energy - energy.min()
        centre = float((energy * np.arange(len(energy))).sum() / energy.sum())
        seen_seconds = (centre - (len(energy) - 1) / 2) * frame_seconds
        assert seen_seconds == pytest.approx(-shift_seconds, abs=0.011)


def test_windows_are_pieces_of_one_spectrogram():
    waveform = chirp("grid", 16_000, 8.0)
    track = MelTrack(YAMNET, Sound(waveform, 16_000))
    whole = log_mel(waveform, YAMNET_OFFSET)
    for seconds in (0.5, 2.56, 3.004, 5.11, 7.2, 0.5):  # across block borders and back to an evicted block
        first = round(seconds * 100 - 48.75)
        assert np.allclose(track.window(seconds, 25.0, 0)[0, 0], whole[first : first + 96], atol=1e-5)


def test_silence_outside_the_sound():
    track = MelTrack(YAMNET, Sound(chirp("edges", 16_000, 1.0), 16_000, start_seconds=2.0))
    silence = math.log(YAMNET_OFFSET)
    for seconds in (-100.0, 0.0, 1.4, 3.6, 1e6):
        assert np.allclose(track.window(seconds, 25.0, 0), silence)
    start = track.window(2.0, 25.0, 0)[0, 0]  # half silence, half sound
    assert np.allclose(start[:45], silence)
    assert (start[50:] > silence + 1).any(1).all()


def test_int16_and_float_tracks_agree():
    waveform = chirp("pcm", 16_000, 2.0)
    pcm = (waveform * 32_768).round().astype(np.int16)
    windows = [MelTrack(VGGISH, Sound(w, 16_000)).window(1.0, 25.0, 25) for w in (waveform, pcm)]
    assert abs(windows[0] - windows[1]).max() < 5e-2
    assert abs(windows[0] - windows[1]).mean() < 1e-3


def test_no_sound_or_no_audio_encoder_gives_none():
    assert MelTrack(VGGISH, None).window(0.0, 25.0, 0) is None
    assert MelTrack(ModelConfig(audio_encoder=None), Sound(np.zeros(9, np.float32), 9)).window(0.0, 25.0, 0) is None


def test_a_long_track_keeps_few_blocks():
    track = MelTrack(YAMNET, Sound(np.zeros(16_000 * 120, np.int16), 16_000))
    for second in range(0, 120):
        track.window(float(second), 25.0, second * 25)
    assert len(track._blocks) <= 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"waveform": np.zeros((4, 2), np.float32)}, "mono"),
        ({"waveform": np.zeros(4, np.float64)}, "float64"),
        ({"waveform": np.array([0, np.nan], np.float32)}, "NaN"),
        ({"rate": 0}, "rate is 0"),
        ({"start_seconds": math.nan}, "finite"),
    ],
)
def test_a_wrong_sound_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sound(**{"waveform": np.zeros(4, np.float32), "rate": 16_000, "start_seconds": 0.0} | arguments)


def test_yamnet_cannot_cut_sound_the_released_way():
    with pytest.raises(ValueError, match="timestamps"):
        MelTrack(replace(YAMNET, preprocessing=Preprocessing(sound="released")), None)
