"""Every frame gets its map, from its own window, sound and noise, whatever the batch and wherever one starts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from diffsal.config import Finish, ModelConfig
from diffsal.errors import InputError
from diffsal.media.source import open_source
from diffsal.media.threads import prefetch
from diffsal.media.windows import window_indices
from diffsal.networks.diffsal import DiffSal
from diffsal.prediction.noise import frame_noise
from diffsal.prediction.pipeline import predict, usual_every
from diffsal.runtime.loading import load_engine
from tests.movies import tone, write_movie
from tests.standin import StandIn


@pytest.fixture(scope="module")
def small_model():
    torch.manual_seed(0)
    config = ModelConfig(
        video_encoder="mobilenet_v2", audio_encoder="yamnet", height=64, width=96, widths=(16, 16, 8, 8), noise_width=8,
        time_width=16, fusion_width=16, output_width=8, map_stride=4, audio_key="add",
    )
    return DiffSal(config).eval()


def write_steps(folder, num_frames, size=(6, 8)):
    """Numbered pictures, the i-th of brightness i."""
    folder.mkdir()
    for index in range(num_frames):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((*size, 3), index, np.uint8))
    return folder


@pytest.mark.parametrize("by_frame", [True, False])
@pytest.mark.parametrize("batch_size", [1, 5, 8, 64])
@pytest.mark.parametrize("num_frames", [1, 5, 16, 40])
def test_windows_and_edges(tmp_path, num_frames, batch_size, by_frame):
    model = StandIn(by_frame)
    maps = list(predict(model, write_steps(tmp_path / "a", num_frames), batch_size=batch_size))
    assert [p.index for p in maps] == list(range(num_frames))
    windows = np.concatenate([call.windows for call in model.calls])
    assert windows == pytest.approx(np.array([window_indices(i, num_frames) for i in range(num_frames)]), abs=0.01)
    if by_frame:
        assert model.num_encoded == num_frames  # each frame once


def test_window_indices():
    assert window_indices(20, 40) == list(range(12, 28))
    assert window_indices(0, 3) == [0] * 9 + [1] + [2] * 6
    with pytest.raises(ValueError, match="frame 3 is not in a video of 3"):
        window_indices(3, 3)


def test_maps_have_the_size_of_the_video_and_lie_in_0_to_1(tmp_path):
    for found in predict(StandIn(noise=5.0), write_steps(tmp_path / "a", 3, (50, 31))):
        assert found.saliency.shape == (50, 31) == found.image.shape[:2] and found.saliency.dtype == np.float32
        assert found.saliency.min() == 0 and found.saliency.max() == 1


def test_seeds_steps_and_batches(small_model, tmp_path):
    path = write_movie(tmp_path / "a.mp4", num_frames=20, sound=tone(0.8, 16_000))

    def maps(**settings):
        return np.stack([p.saliency for p in predict(small_model, path, **settings)])

    one = maps(batch_size=1)
    for batch_size in (3, 8, 64):
        assert abs(maps(batch_size=batch_size) - one).max() < 1e-5
    assert abs(maps(seed=1) - one).max() > 1e-4
    assert abs(maps(steps=3) - one).max() > 1e-4


def test_a_stream_is_the_same_as_window_by_window(small_model, tmp_path):
    """The features kept from frame to frame give what the network gives for each window on its own."""
    path = write_movie(tmp_path / "a.mp4", num_frames=20)
    frames = [f.image for f in open_source(path).frames()]
    config = small_model.config
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (config.preprocessing.mean, config.preprocessing.std))
    halved = {p.index: p.saliency for p in predict(small_model, path)}
    for found in predict(small_model, path, every=1):
        if found.index not in (0, 7, 8, 14, 18, 19):
            continue
        if found.index % 2 == 0:
            np.testing.assert_allclose(halved[found.index], found.saliency, atol=1e-5)
        window = [cv2.resize(frames[i], (config.width, config.height), interpolation=cv2.INTER_AREA)
                  for i in window_indices(found.index, len(frames))]
        video = (torch.from_numpy(np.stack(window)).permute(3, 0, 1, 2).float() / 255 - mean) / std
        with torch.inference_mode():
            noise = torch.from_numpy(frame_noise(config.height, config.width, 0, found.index))
            alone = small_model.sample(small_model.encode(video[None], None), noise[None])[0, 0]
        enlarged = cv2.resize(alone.numpy(), (64, 48), interpolation=cv2.INTER_LINEAR)
        assert abs(enlarged - found.saliency).max() < 1e-5


@pytest.mark.parametrize(("start", "end"), [(0.5, 1.1), (0.0, 0.3), (1.3, None), (None, 0.04), (0.93, 0.97)])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_start_and_end_change_no_map(small_model, tmp_path, start, end, every):
    path = write_movie(tmp_path / "a.mp4", num_frames=40, sound=tone(1.6, 16_000), options={"g": "8"})
    whole = list(predict(small_model, path, every=every))
    part = list(predict(small_model, path, start=start, end=end, every=every))
    wanted = [p for p in whole if (start or 0) <= p.seconds and (end is None or p.seconds < end)]
    assert [(p.index, p.seconds) for p in part] == [(p.index, p.seconds) for p in wanted] and wanted
    assert all(abs(a.saliency - b.saliency).max() < 1e-5 for a, b in zip(part, wanted, strict=True))


@pytest.mark.parametrize(("num_frames", "indices"), [(21, {0, 5, 20, 99}), (22, {5, 19}), (20, {14}), (22, {21})])
def test_only_the_frames_asked_for(small_model, tmp_path, num_frames, indices):
    path = write_movie(tmp_path / "a.mp4", num_frames=num_frames, sound=tone(num_frames / 25, 16_000))
    every = list(predict(small_model, path))
    some = list(predict(small_model, path, indices=indices))
    assert [p.index for p in some] == sorted(indices - {99})
    for found in some:
        np.testing.assert_allclose(found.saliency, every[found.index].saliency, atol=1e-5)


@pytest.mark.parametrize(("every", "batch_size", "num_frames"), [
    (2, 1, 1), (2, 1, 2), (2, 2, 20), (2, 2, 21), (2, 3, 8), (2, 64, 19), (3, 2, 20), (4, 1, 22)])
def test_maps_between_are_the_mean_of_their_neighbours(small_model, tmp_path, every, batch_size, num_frames):
    path = write_movie(tmp_path / "a.mp4", num_frames=num_frames, sound=tone(num_frames / 25, 16_000))
    full = [p.saliency for p in predict(small_model, path, every=1)]
    found = list(predict(small_model, path, every=every, batch_size=batch_size))
    assert [p.index for p in found] == list(range(num_frames))
    last = (num_frames - 1) // every * every
    for p in found:
        before, after = min(p.index // every * every, last), min(-(-p.index // every) * every, last)
        share = 0 if before == after else (p.index - before) / (after - before)
        expected = full[before] + share * (full[after] - full[before])
        np.testing.assert_allclose(p.saliency, expected, atol=1e-5)
        assert p.index % every == 0 or p.index > last or abs(p.saliency - full[p.index]).max() > 1e-4


@pytest.fixture(scope="module")
def grainy(tmp_path_factory):
    return write_movie(tmp_path_factory.mktemp("grainy") / "a.mp4", num_frames=70, grain=60, options={"g": "8"})


@pytest.mark.parametrize("limits", [{}, {"start": 1.02}, {"start_index": 33, "end_index": 41}, {"end": 0.5},
                                    {"indices": {0, 37, 69}}, {"start": 2.0, "samples": 2}])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_map_is_the_mean_of_those_around_it_in_time(grainy, every, limits):
    """Of those that the network drew, up to 2.5 times 0.2 s before and 1.5 times 0.1 s after, by exp(−distance)."""
    model = StandIn(noise=0.01, frame_step=2 if every == 2 else 1)
    drawn = {p.index: p.saliency for p in predict(model, grainy, every=every, samples=limits.get("samples", 1))}
    model.finish = Finish(past_seconds=0.2, future_seconds=0.1)
    found = list(predict(model, grainy, every=every, **limits))
    asked = {"start": 26 if limits.get("start") == 1.02 else 50, "start_index": 33}
    first = max((asked[name] for name in limits if name in asked), default=0)
    last = 12 if "end" in limits else 40 if "end_index" in limits else 69
    assert [p.index for p in found] == sorted(limits.get("indices", range(first, last + 1)))

    def mean(index):
        near = [i for i in range(max(0, index - 12), min(70, index + 4)) if i % every == 0]
        weights = [np.exp((i - index) / 5 if i < index else (index - i) / 2.5) for i in near]
        return np.average([drawn[i] for i in near], axis=0, weights=weights)

    for p in found:
        below = min(p.index // every * every, 69 // every * every)
        above = below if below == p.index or below + every > 69 else below + every
        share = 0 if above == below else (p.index - below) / every
        np.testing.assert_allclose(p.saliency, (1 - share) * mean(below) + share * mean(above), atol=2e-6)


def test_half_rate_where_frames_are_many(small_model, tmp_path):
    """Every second frame is encoded, and the last, whose features repeat; pictures and slow videos go one by one."""
    fast = write_movie(tmp_path / "a.mp4", num_frames=22)
    slow = write_movie(tmp_path / "b.mp4", seconds=np.arange(22) / 15)
    for path, encoded in ((fast, 12), (slow, 22), (write_steps(tmp_path / "c", 22), 22)):
        model = StandIn(frame_step=2)
        maps = list(predict(model, path))
        assert [p.index for p in maps] == list(range(22)) and model.num_encoded == encoded
        assert usual_every(model, open_source(path)) == (2 if path == fast else 1)
    assert usual_every(StandIn(by_frame=False), open_source(fast)) == 1


def test_half_rate_with_pictures_missing(small_model, tmp_path):
    """Maps between are means by index, whatever is missing; what comes before the first is the nearest."""
    folder = write_steps(tmp_path / "a", 12)
    for name in ("5", "6"):
        (folder / f"{name}.png").write_bytes(b"x")
    with pytest.warns(UserWarning, match="not a picture"):
        full = {p.index: p.saliency for p in predict(small_model, folder)}
    with pytest.warns(UserWarning, match="not a picture"):
        half = {p.index: p.saliency for p in predict(small_model, folder, every=2)}
    assert list(half) == list(full) == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    np.testing.assert_allclose(half[7], 0.25 * full[4] + 0.75 * full[8], atol=1e-5)
    np.testing.assert_allclose(half[10], full[10], atol=1e-5)


def test_sound_belongs_to_the_frames_of_its_time(tmp_path):
    """A click at 1.0 s is heard by frames whose 0.96 s of sound hold it, wherever picture and sound start."""
    for name, times, start in (("a", np.arange(50) / 25, 0.0), ("b", 0.4 + np.arange(50) / 25, 0.0),
                               ("c", np.cumsum([0.0, *np.random.default_rng(0).uniform(0.01, 0.07, 49)]), 0.2)):
        path = write_movie(tmp_path / f"{name}.mkv", seconds=times, sound=tone(2 - start, 16_000, 1.0 - start),
                           sound_start=start, sound_codec="pcm_s16le")
        model = StandIn()
        maps = list(predict(model, path, every=1))
        loud = np.concatenate([call.loudness for call in model.calls]) > 0
        heard = [p.seconds for p, is_loud in zip(maps, loud, strict=True) if is_loud]
        assert min(heard) == pytest.approx(1.0 - 0.48, abs=0.08) and max(heard) == pytest.approx(1.02 + 0.48, abs=0.08)


def test_mute_and_no_sound_and_no_ears(tmp_path):
    loud = write_movie(tmp_path / "loud.mp4", sound=tone(0.8, 16_000))
    quiet = write_movie(tmp_path / "quiet.mp4")
    for model, path, settings in (
        (StandIn(), loud, {"mute": True}), (StandIn(), quiet, {}), (StandIn(sound=False), loud, {})
    ):
        list(predict(model, path, **settings))
        assert all(call.loudness is None for call in model.calls)


def test_pictures(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 30, 3), 100, np.uint8))
    (found,) = predict(StandIn(noise=0), tmp_path / "a.png")
    assert found.saliency == pytest.approx(np.full((20, 30), 100 / 255), abs=1e-3)


def test_maps_come_before_the_video_is_read(tmp_path):
    """An endless source gives its first map after half a window."""
    source = open_source(write_steps(tmp_path / "a", 30))
    read = []
    frames = type(source).frames

    def counted(start=None, before=0):
        for frame in frames(source, start, before):
            read.append(frame.index)
            yield frame

    source.frames = counted
    maps = predict(StandIn(), source, batch_size=1)
    next(maps)
    assert len(read) <= 8 + 16 + 1
    maps.close()
    assert len(read) < 30  # the reading thread has stopped


def test_what_is_damaged_is_warned_of(tmp_path):
    folder = write_steps(tmp_path / "a", 4)
    (folder / "2.png").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"2\.png: not a picture"):
        assert len(list(predict(StandIn(), folder))) == 3


def test_settings_that_cannot_be(tmp_path):
    folder = write_steps(tmp_path / "a", 2)
    for settings, said in (({"steps": 0}, "steps is 0"),
                           ({"start": 2.0, "end": 1.0}, "end is 1.0, expected more than start, 2.0"),
                           ({"batch_size": 0}, "batch_size is 0")):
        with pytest.raises(ValueError, match=said):
            predict(StandIn(), folder, **settings)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device cuda: these graphs run on the CPU"):
            predict(StandIn(), folder, device="cuda")
    with pytest.raises(InputError, match="no such file"):
        predict(StandIn(), tmp_path / "missing.mp4")


def test_prefetch_hands_on_errors_and_closes():
    closed = []

    def items():
        try:
            yield 1
            raise OSError("disk")
        finally:
            closed.append(True)

    taken = []
    with pytest.raises(OSError, match="disk"):
        for item in prefetch(items()):
            taken.append(item)
    assert taken == [1] and closed == [True]


@pytest.mark.parametrize("every", [1, 2])
def test_spans_equal_the_whole_byte_for_byte(tmp_path, every):
    engine = load_engine("compact", "onnx")
    path = write_movie(tmp_path / "a.mp4", num_frames=30, sound=tone(1.2, 16_000), options={"g": "8"})
    whole = {p.index: p.saliency for p in predict(engine, path, every=every)}
    for span in ((0, 7), (7, 20), (20, 30)):
        part = list(predict(engine, path, every=every, start_index=span[0], end_index=span[1]))
        assert [p.index for p in part] == list(range(*span))
        assert all(np.array_equal(p.saliency, whole[p.index]) for p in part)
