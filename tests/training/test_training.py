"""Training on a synthetic copy of the gaze layout: both phases run, resume is exact, errors are named."""

import csv
import gzip
import json
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from diffsal.data.databases.gaze import read, read_set, saliency_map
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.training import packed_frames as store
from diffsal.training.engine import Engine, learning_rate_factor
from diffsal.training.gaze_examples import GazeSamples, Sample
from diffsal.training.gaze_phase import FrozenFrames
from diffsal.training.packed_frames import FrameStore
from diffsal.training.recipes import compact, configure, finish_of, train
from diffsal.weights.files import load

TINY = ["height=64", "width=96", "batch_size=2", "still_steps=3", "window_steps=3", "checkpoint_steps=2",
        "picture_sets=osie", "video_sets=hevc", "validation_scenes=Lee", "log_steps=1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root, rng = tmp_path_factory.mktemp("gaze"), np.random.default_rng(0)
    for folder in ("videos/hevc", "gaze/hevc", "images/osie"):
        (root / folder).mkdir(parents=True)
    for name in ("Lee", "Cactus"):
        video = cv2.VideoWriter(str(root / f"videos/hevc/{name}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (96, 64))
        for _ in range(22):
            video.write(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
        video.release()
        with (root / f"gaze/hevc/{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["observer", "start_s", "duration_s", "x", "y"])
            writer.writerows([i, 0.0, 2.0, 0.4 + 0.02 * i, 0.5] for i in range(6))
    rows = []
    for name in ("1001", "1002"):
        cv2.imwrite(str(root / f"images/osie/{name}.jpg"), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
        rows += [[name, o, i, 0.3, 0.3 + 0.1 * i, 0.2] for o in range(4) for i in range(3)]
    with gzip.open(root / "gaze/osie.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "observer", "index", "x", "y", "duration_s"])
        writer.writerows(rows)
    return root


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory) -> Path:
    """The weights of a run that nothing stopped."""
    return train("compact", root, tmp_path_factory.mktemp("whole"), [], settings=TINY)


def test_reader_drops_the_first_fixation_of_a_picture_and_keeps_time_on_a_clip(root):
    picture = read_set(root, "osie")[0]
    assert len(picture.fixations) == 8  # four observers, fixations 1 and 2
    clip = read_set(root, "hevc")[0]
    assert len(clip.on_frame(1.999)) == 6 and len(clip.on_frame(2.0)) == 0


def test_saliency_map_is_round_on_the_picture():
    fixation = np.array([[0, 0, 1, 0.5, 0.5]])
    grid = saliency_map(fixation, 100, 100, aspect=2.0)  # a 2:1 picture squeezed into a square
    half_width, half_height = (grid[50] > 0.5).sum(), (grid[:, 50] > 0.5).sum()
    assert grid.max() == 1 and half_height == pytest.approx(2 * half_width, rel=0.15)


def test_scenes_stand_on_one_side(root):
    assert {c.scene for c in read_set(root, "hevc")} == {"Lee", "Cactus"}


@pytest.mark.parametrize("stopped_at", [2, 3, 5])  # among the stills, between, among the windows
def test_resumed_run_equals_one_that_never_stopped(root, whole, tmp_path, monkeypatch, stopped_at):
    step_once = Engine.train_step

    def train_step(engine, *rest):
        if engine.step + 1 == stopped_at:
            signal.raise_signal(signal.SIGTERM)
        return step_once(engine, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "train_step", train_step)
        assert train("compact", root, tmp_path / "part", [], settings=TINY) is None
    part = train("compact", root, tmp_path / "part", [], resume=True, settings=TINY)
    a, b = (load(path).state_dict() for path in (whole, part))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_frozen_features_do_not_depend_on_what_was_drawn_before_and_are_kept(root, tmp_path, monkeypatch):
    model_config, config = configure(*compact(), TINY)
    samples, model = GazeSamples(model_config, config, root, tmp_path), DiffSal(model_config)
    clip = next(c for c in samples.videos if not c.is_picture)
    one, other = Sample(clip, 10), Sample(clip, 14, mirrored=True)
    (tmp_path / "one").mkdir()
    alone = FrozenFrames(model, samples, tmp_path / "one", False).window(one)
    frozen = FrozenFrames(model, samples, tmp_path, False)
    frozen.window(other)
    assert all(torch.equal(a, b) for a, b in zip(alone, frozen.window(one), strict=True))
    picture = samples.picture(Sample(clip, 10))[None]
    with torch.no_grad():
        encoded = [x[0].half().float() for x in model.encode_frames(picture)]
    slots = (8, 4, 4, 4)  # of the frame itself: brightness of 16, features of 8 (they begin at frame 2)
    assert all(torch.equal(x[:, slot], y) for x, y, slot in zip(alone, encoded, slots, strict=True))

    calls = []
    monkeypatch.setattr(FrozenFrames, "_encode", lambda *a, f=FrozenFrames._encode: calls.append(a) or f(*a))
    again = FrozenFrames(model, samples, tmp_path, False)
    assert all(torch.equal(a, b) for a, b in zip(alone, again.window(one), strict=True))
    assert len(calls) == 1  # which tells the sizes
    changed = FrozenFrames(DiffSal(model_config), samples, tmp_path, False)  # other weights
    assert not torch.equal(changed.window(one)[1], alone[1]) and len(calls) > 8


def test_decoding_goes_on_where_it_was_stopped(root, tmp_path, monkeypatch):
    clips = [*read_set(root, "hevc"), *read_set(root, "osie")]
    whole = FrameStore(clips, tmp_path / "whole", 32, 48)
    asked, stopped = [], tmp_path / "stopped"

    def stop_at(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FrameStore(clips, stopped, 32, 48, stop_at)
    with (stopped / "frames.partial").open("ab") as frames, (stopped / "clips.partial").open("a") as journal:
        frames.write(b"half a frame")
        journal.write('{"name": "osie/10')
    decode = store._frames
    monkeypatch.setattr(store, "_frames", lambda clip: asked.append(clip.name) or decode(clip))
    found = FrameStore(clips, stopped, 32, 48)
    assert asked == [clip.name for clip in clips[2:]] and found.ranges == whole.ranges
    assert np.array_equal(found.frames, whole.frames)
    assert sorted(p.name for p in stopped.iterdir()) == ["frames.json", "frames.u8"]


def test_log_holds_every_step_and_the_scores_of_real_sampling(whole):
    log = [json.loads(line) for line in (whole.parent / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["phase"]) for line in log if "loss" in line] == [
        *((i, "stills") for i in (1, 2, 3)), *((i, "windows") for i in (4, 5, 6))]
    assert log[-1]["step"] == 6 and 0 <= log[-1]["scores"]["hevc"]["SIM"] <= 1
    best = json.loads((whole.parent / "scores.json").read_text())["best"]
    assert best["CC"] == best["hevc"]["CC"]


def test_validation_samples_in_as_many_steps_as_asked(root, tmp_path, monkeypatch):
    calls, denoise = [], DiffSal.denoise

    def counted(model, x_t, t, features, enlarged):
        calls.append(int(t[0]))
        return denoise(model, x_t, t, features, enlarged)

    monkeypatch.setattr(DiffSal, "denoise", counted)
    settings = [*TINY, "still_steps=0", "window_steps=1", "sampling_steps=2", "audio_encoder=none"]
    train("compact", root, tmp_path / "run", [], settings=settings)
    assert calls == [999, 499]


def test_a_finished_run_is_not_overwritten(root, tmp_path):
    train("compact", root, tmp_path / "run", [], settings=[*TINY, "still_steps=1", "window_steps=0"])
    with pytest.raises(InputError, match="--resume"):
        train("compact", root, tmp_path / "run", [], settings=TINY)


def test_a_finished_network_carries_its_finish_and_its_learned_prior_is_left_alone(root, whole, tmp_path):
    model, config = configure(*compact(), TINY)
    samples = GazeSamples(model, config, root, tmp_path)
    centre = samples.centre(2, 3)[0, 0]
    assert centre.max() == 0 and centre[0, 1] > -1 and torch.equal(centre, centre.flip(-1))
    assert torch.equal(samples.centre(2, 3)[0, 0], centre)
    learned = load(whole)
    assert learned.config == model and learned.finish == finish_of(model, config, samples)
    leaning = finish_of(model, replace(config, sharpness=2.0, centre_weight=4.0), samples)
    assert leaning.exponent == 2 and leaning.centre_gain == 2
    torch.testing.assert_close(torch.tensor(leaning.centre), centre)
    assert finish_of(replace(model, audio_encoder=None), config, samples).sound_gain == 0
    assert finish_of(model, replace(config, centre_weight=0.0), samples).centre is None


def test_a_run_from_finished_weights_does_not_add_the_centre_twice(root, whole, tmp_path):
    settings = [*TINY, "still_steps=0", "window_steps=0"]
    again = load(train("compact", root, tmp_path / "again", [whole], settings=settings))
    before = load(whole)
    torch.testing.assert_close(again.unet.fusion.prior, before.unet.fusion.prior)
    assert again.finish == before.finish


def test_settings_are_typed_and_unknown_ones_get_the_nearest_name():
    model, config = configure(*compact(), ["modulation_stages=2", "learning_rate=1e-4", "video_sets=find"])
    assert model.modulation_stages == 2 and config.learning_rate == 1e-4 and config.video_sets == ("find",)
    with pytest.raises(InputError, match="did you mean batch_size"):
        configure(*compact(), ["batchsize=4"])
    with pytest.raises(InputError, match="modulation_stages is 9"):
        configure(*compact(), ["modulation_stages=9"])
    with pytest.raises(InputError, match="did you mean compact"):
        train("compakt", Path("."), Path("."), [])


def test_missing_columns_and_sets_are_named(root, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder, or no videos/SET"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no set 'diem'"):
        read_set(root, "diem")
    (tmp_path / "videos/mine").mkdir(parents=True)
    (tmp_path / "gaze/mine").mkdir(parents=True)
    (tmp_path / "videos/mine/a.mp4").write_bytes(b"")
    (tmp_path / "gaze/mine/a.csv").write_text("observer,x,y\n1,0.5,0.5\n")
    with pytest.raises(InputError, match="no column start_s, duration_s"):
        read_set(tmp_path, "mine")
    (tmp_path / "gaze/mine/a.csv").write_text("observer,start_s,duration_s,x,y\n1,0,1,left,0.5\n")
    with pytest.raises(InputError, match=r"a\.csv: line 2 is not numeric"):
        read_set(tmp_path, "mine")


def test_learning_rate_warms_up_and_falls():
    config = compact()[1]
    rates = [learning_rate_factor(config, step, 200) for step in range(200)]
    assert rates[0] < rates[49] == 1.0 and rates[-1] < 0.03
