"""What `explain` shows is what the network computes: its interactions, and its maps with each sound."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import torch

from diffsal.config import ModelConfig
from diffsal.errors import InputError
from diffsal.figures.explain import LISTENS, SPEAKS, explain, frame_seconds, with_faces
from diffsal.media.mel import MelTrack
from diffsal.media.source import open_source
from diffsal.networks.diffsal import DiffSal
from diffsal.outputs.panels import Panel, figure, heat, signed_heat, writable, write_figure
from diffsal.prediction.maps import Prediction
from diffsal.prediction.noise import frame_noise
from diffsal.prediction.pipeline import predict
from diffsal.prediction.speakers import SpeakingFace
from diffsal.training.recipes import compact
from diffsal.weights.files import save
from tests.commands import outcome
from tests.movies import tone, write_movie
from tests.narrow import narrow_encoders  # noqa: F401

WIDTHS = (32, 16, 16, 8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DiffSal(replace(compact()[0], height=64, width=96)).eval()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds: a tone in the first, silence in the second."""
    sound = np.concatenate([tone(1.0, 16_000), np.zeros(16_000, np.float32)])
    path = tmp_path_factory.mktemp("clips") / "a.mp4"
    return write_movie(path, num_frames=20, frame_rate=10, sound=sound)


def by_hand(model, clip, index):
    """The interactions of frame ``index`` from `unet.modulate` itself, at the first of the grid's timesteps."""
    source, config = open_source(clip), model.config
    frames = list(source.frames())
    window = [frames[min(max(i, 0), len(frames) - 1)].image for i in range(index - 8, index + 8)]
    images = [cv2.resize(x, (config.width, config.height), interpolation=cv2.INTER_AREA) for x in window]
    pixels = torch.from_numpy(np.stack(images)).permute(3, 0, 1, 2)[None].float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1, 1) for v in (config.preprocessing.mean, config.preprocessing.std))
    sound = source.sound(None if config.preprocessing.sound == "released" else 16_000)
    mel = torch.from_numpy(MelTrack(config, sound).window(frames[index].seconds, source.frame_rate, index))
    with torch.no_grad():
        features = model.encode((pixels - mean) / std, mel[None])
        noise = torch.from_numpy(frame_noise(config.height, config.width, 0, index))[None]
        _, interactions = model.unet.modulate(noise, torch.tensor([999]), features.video, features.audio)
    return [x[0].pow(2).mean(0).sqrt().numpy() for x in interactions]


def test_interactions_are_those_of_modulate(model, clip):
    (seen,) = explain(model, clip, frame=7)
    assert seen.prediction.index == 7 and seen.prediction.seconds == pytest.approx(0.7)
    expected = by_hand(model, clip, 7)
    assert [x.shape for x in seen.interactions] == [(2, 3), (4, 6), (8, 12), (16, 24)]
    for ours, theirs in zip(seen.interactions, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-5)
    assert not any(stage._forward_hooks for stage in model.unet.stages)


@pytest.mark.usefixtures("narrow_encoders")
def test_released_layout(clip):
    torch.manual_seed(0)
    config = replace(ModelConfig.released(True), height=64, width=96, widths=WIDTHS, fusion_width=16, time_width=32)
    released = DiffSal(config).eval()
    (seen,) = explain(released, clip, frame=12)
    for ours, theirs in zip(seen.interactions, by_hand(released, clip, 12), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-5)


def test_each_map_is_the_prediction_with_that_sound(model, clip):
    span = list(explain(model, clip, start=0.45, end=0.65, shift_seconds=1.0))
    assert [x.prediction.index for x in span] == [5, 6]
    own, muted = (list(predict(model, clip, start=0.45, end=0.65, mute=mute)) for mute in (False, True))
    for seen, with_sound, without in zip(span, own, muted, strict=True):
        np.testing.assert_allclose(seen.prediction.saliency, with_sound.saliency, atol=1e-5)
        np.testing.assert_allclose(seen.muted, without.saliency, atol=1e-5)
        here, there = (x[:, 40:54].max() for x in seen.heard)
        assert here > there + 1  # a tone here, silence a second later
    (alone,) = explain(model, clip, frame=6, shift_seconds=1.0)
    np.testing.assert_allclose(alone.elsewhere, span[1].elsewhere, atol=1e-5)
    (round_trip,) = explain(model, clip, frame=6, shift_seconds=open_source(clip).sound().duration_seconds)
    np.testing.assert_array_equal(round_trip.elsewhere, round_trip.prediction.saliency)


def test_without_sound_there_is_a_map_and_nothing_else(model, tmp_path):
    path = write_movie(tmp_path / "silent.mp4", num_frames=3)
    (seen,) = explain(model, path, frame=1)
    assert seen.muted is None and seen.interactions == () and seen.prediction.saliency.shape == (48, 64)


def test_frames_are_found_by_index_in_a_variable_frame_rate(tmp_path):
    times = [i * 0.04 if i < 120 else 4.8 + (i - 120) * 0.2 for i in range(140)]
    source = open_source(write_movie(tmp_path / "a.mp4", seconds=times, size=(16, 16)))
    for index in (0, 101, 119, 139):
        assert frame_seconds(source, index) == pytest.approx(times[index], abs=1e-3)
    with pytest.raises(InputError, match="no frame 140, its last is 139"):
        frame_seconds(source, 140)


@pytest.fixture
def run(model, monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    save(model, tmp_path / "tiny.safetensors")

    return lambda *arguments: outcome(capfd, "explain", *map(str, arguments), "--weights", "tiny.safetensors")


def test_command(run, clip, tmp_path):
    code, out, _ = run(clip, "--frame", 3, "-o", "a.png")
    assert code == 0 and "a.png" in out and cv2.imread("a.png").shape[1] > 1920
    code, _, err = run(clip, "--frame", 3, "-o", "a.png")
    assert code == 1 and "--force" in err
    code, _, err = run(clip, "--frame", 20, "-o", "b.png")
    assert code == 1 and "no frame 20" in err and not (tmp_path / "b.png").exists()
    assert run(clip, "--frame", 3, "--start", 1)[0] == 2
    assert run(clip, "--start", 0.5, "--end", 0.8, "-o", "a.mp4")[0] == 0
    with av.open("a.mp4") as made:
        assert len(made.streams.audio) == 1 and len(list(made.decode(video=0))) == 3
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_colours_grow_lighter_all_the_way():
    ramp = np.linspace(0, 1, 64)[None]
    for colours in (heat(ramp), signed_heat(2 * ramp - 1)):
        lightness = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
        assert (np.diff(lightness) >= 0).all() and lightness[-1] - lightness[0] > 150


def test_figures_hold_odd_pictures_and_names(tmp_path):
    row = [Panel(np.zeros((3, 1, 3), np.uint8), "très – long " * 12, "ß"), Panel(None)]
    image = figure([row, row[:1]], "Ünïcode 映画")
    assert image.shape[1] == 2 * 408 + 8 and image.dtype == np.uint8
    assert writable("Café – 映画") == "Cafe - ??"
    for name in ("a.jpg", "a.png", "a.pdf"):
        write_figure(tmp_path / name, image)
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == image.shape
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], image)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_who_speaks_has_a_box_of_its_own_colour():
    faces = (SpeakingFace(1, 40, 60, 80, 100, 0.9, 0.93), SpeakingFace(2, 260, 60, 80, 100, 0.9, 0.04))
    dark = np.zeros((240, 400, 3), np.uint8)

    def boxed(shown):
        drawn = with_faces(dark, Prediction(0, 0.0, dark[..., 0].astype(np.float32), dark, faces=shown))
        return [np.argwhere(np.all(drawn == colour, axis=2)) for colour in (SPEAKS, LISTENS)]

    speaks, listens = boxed(faces)
    assert len(speaks) > 300 and speaks[:, 1].max() < 200  # around the first alone
    assert len(listens) > 300 and listens[:, 1].min() > 200
    assert not any(len(x) for x in boxed(()))
