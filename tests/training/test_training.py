"""Training on a synthetic copy of the gaze layout: both phases run, resume is exact, errors are named."""

import csv
import gzip
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from diffsal.config import Finish
from diffsal.data.databases import gaze
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.settings import nearest
from diffsal.training import packed_frames
from diffsal.training.config import DatabaseConfig, GazeConfig, TrainConfig
from diffsal.training.engine import Engine, learning_rate_factor
from diffsal.training.feature_cache import FeatureCache
from diffsal.training.packed_frames import PackedFrames
from diffsal.training.phase import Denoiser
from diffsal.training.phases import gaze_phases, is_held_out, mean_map
from diffsal.training.recipes import RECIPES, configure, train
from diffsal.training.samplers import View
from diffsal.training.shard import Shard
from diffsal.weights.files import load, save

TINY = ["height=64", "width=96", "num_frames=8", "batch_size=2", "still_steps=3", "window_steps=3",
        "checkpoint_steps=2", "picture_sets=osie", "video_sets=hevc", "validation_scenes=Lee", "log_steps=1",
        "num_workers=0"]
SHARD = Shard(0, 1, torch.device("cpu"), 2, 1)


def write_table(path: Path, header: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root, rng = tmp_path_factory.mktemp("gaze"), np.random.default_rng(0)
    for folder in ("videos/hevc", "images/osie"):
        (root / folder).mkdir(parents=True)
    header = ["observer", "start_s", "duration_s", "x", "y"]
    for name, suffix, codec in (("Lee", "mp4", "mp4v"), ("Cactus", "avi", "MJPG")):
        path = str(root / f"videos/hevc/{name}.{suffix}")
        video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*codec), 25, (96, 64))
        for _ in range(22):
            video.write(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
        video.release()
        write_table(root / f"gaze/hevc/{name}.csv", header, [[i, 0.0, 2.0, 0.4 + 0.02 * i, 0.5] for i in range(6)])
        write_table(root / f"gaze/more/{name}.csv", header, [[1000 + i, 0.0, 2.0, 0.9, 0.9] for i in range(6)])
    rows = []
    for name in ("1001", "1002"):
        cv2.imwrite(str(root / f"images/osie/{name}.jpg"), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
        rows += [[name, o, i, 0.3, 0.3 + 0.1 * i, 0.2] for o in range(4) for i in range(3)]
    write_table(root / "gaze/osie.csv.gz", ["image", "observer", "index", "x", "y", "duration_s"], rows)
    return root


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory) -> Path:
    """The weights of a run that nothing stopped."""
    return train("compact", root, tmp_path_factory.mktemp("whole"), [], settings=TINY)


def phases(root: Path, out: Path, *settings: str):
    recipe = configure("compact", [*TINY, *settings])
    model = DiffSal(recipe.model)
    model.finish = recipe.finish
    return model, gaze_phases(model, recipe.train, root, out, SHARD)


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
    torch.manual_seed(stopped_at)  # another state than the stopped run's
    part = train("compact", root, tmp_path / "part", [], resume=True, settings=TINY)
    a, b = (load(path).state_dict() for path in (whole, part))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert load(part).finish == load(whole).finish
    state = torch.load(tmp_path / "part/last.pt", weights_only=True)
    assert set(state) == {"model", "average", "optimiser", "scaler", "phase", "step", "broken", "epoch"}


def test_every_kind_of_video_is_learned_from_on_the_clock_of_the_readers(root, tmp_path):
    _, (stills, _) = phases(root, tmp_path)
    reader = stills.reader
    assert [clip.name for clip in reader.clips] == ["1001", "1002", "Cactus", "Lee"]
    assert reader.packed.num_frames == [1, 1, 22, 22]
    cactus = reader.clips[2]
    direct = cv2.resize(cactus.frames([7])[0], (96, 64), interpolation=cv2.INTER_AREA)
    assert np.array_equal(reader.frames(View(2, 7, still=True))[0], direct)
    assert cactus.seconds(7) == pytest.approx(7 / 25, abs=1e-3)


def test_frozen_features_do_not_depend_on_what_was_drawn_before_and_are_kept(root, tmp_path):
    model, (_, windows) = phases(root, tmp_path)
    reader, denoiser = windows.reader, Denoiser(model.eval())
    asked: list[str] = []

    def encode(kind, frames):
        asked.append(kind)
        with torch.no_grad():
            return denoiser.encode_unit(kind, frames)

    def kept(cache, view):
        return cache.keep(reader.clips[view.clip], 22, view, torch.from_numpy(reader.frames(view)), encode)

    one, other = View(2, 10), View(2, 14, mirrored=True)
    alone = kept(FeatureCache.of(tmp_path / "one", model), one)
    assert asked.count("brightness") == 8 and asked.count("features") == 4
    cache = FeatureCache.of(tmp_path / "two", model)
    assert cache.find(reader.clips[2], 22, one) is None
    kept(cache, other)
    assert cache.find(reader.clips[2], 22, one) is None  # its frames are mirrored: others
    for again in (kept(cache, one), cache.find(reader.clips[2], 22, one)):
        assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))
    with torch.no_grad():  # equal to the window's own features, but for half precision
        images = denoiser.normalise(torch.from_numpy(reader.frames(one))).movedim(3, 1)
        frames = [x.half().float() for x in model.encode_frames(images)]
    for found, x, step in zip(alone, frames, (1, 2, 2, 2), strict=True):
        torch.testing.assert_close(found, x[::step].transpose(0, 1), rtol=2e-3, atol=2e-3)
    count = len(asked)
    kept(FeatureCache.of(tmp_path / "two", model), one)
    assert len(asked) == count
    changed = FeatureCache.of(tmp_path / "two", DiffSal(model.config))  # other weights
    assert changed.folder != cache.folder and changed.find(reader.clips[2], 22, one) is None
    (cache.folder / "gaze/hevc/Cactus/000010-features.safetensors").write_bytes(b"torn")
    assert cache.find(reader.clips[2], 22, one) is None
    assert all(torch.equal(a, b) for a, b in zip(alone, kept(cache, one), strict=True))


def test_decoding_goes_on_where_it_was_stopped(root, tmp_path, monkeypatch):
    clips = [*gaze.read(root, "hevc"), *gaze.read(root, "osie")]
    whole = PackedFrames(clips, tmp_path / "whole", 32, 48)
    asked, stopped = [], tmp_path / "stopped"

    def stop_at(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PackedFrames(clips, stopped, 32, 48, stop_at)
    with (stopped / "frames.partial").open("ab") as frames, (stopped / "clips.partial").open("a") as journal:
        frames.write(b"half a frame")
        journal.write('{"name": "osie/10')
    read = packed_frames.Clip.__iter__
    monkeypatch.setattr(packed_frames.Clip, "__iter__", lambda clip: asked.append(clip.name) or read(clip))
    found = PackedFrames(clips, stopped, 32, 48)
    assert asked == [clip.name for clip in clips[2:]] and found.num_frames == whole.num_frames
    assert all(np.array_equal(found.read(i, [0]), whole.read(i, [0])) for i in range(4))
    assert {p.name for p in stopped.iterdir()} - {"frames.lock"} == {"frames.json", "frames.u8"}


def test_two_runs_that_share_a_folder_decode_once(root, tmp_path):
    clips = [*gaze.read(root, "hevc"), *gaze.read(root, "osie")]
    whole = PackedFrames(clips, tmp_path / "whole", 32, 48)
    shown = []
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(PackedFrames, clips, tmp_path / "shared", 32, 48, lambda i, n: shown.append(i))
                for _ in range(2)]
        found = [run.result() for run in runs]
    assert shown == list(range(len(clips)))
    for run in found:
        assert run.num_frames == whole.num_frames
        assert all(np.array_equal(run.read(i, [0]), whole.read(i, [0])) for i in range(len(clips)))


def test_log_holds_every_step_and_the_scores_of_real_sampling(whole):
    log = [json.loads(line) for line in (whole.parent / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["phase"]) for line in log if "loss" in line] == [
        *((i, "stills") for i in (1, 2, 3)), *((i, "windows") for i in (4, 5, 6))]
    assert log[-1]["step"] == 6 and 0 <= log[-1]["scores"]["hevc"]["SIM"] <= 1
    assert log[-1]["scores"]["windows"] == 3  # every tenth of 22 frames
    best = json.loads((whole.parent / "scores.json").read_text())["best"]
    assert best["CC"] == pytest.approx(best["hevc"]["CC"], abs=1e-4)


def test_validation_samples_in_as_many_steps_as_asked(root, tmp_path, monkeypatch):
    calls, denoise = [], DiffSal.denoise

    def counted(model, x_t, t, features, enlarged):
        calls.append(int(t[0]))
        return denoise(model, x_t, t, features, enlarged)

    monkeypatch.setattr(DiffSal, "denoise", counted)
    settings = [*TINY, "still_steps=0", "window_steps=1", "sampling_steps=2", "audio_encoder=none", "batch_size=4"]
    train("compact", root, tmp_path / "run", [], settings=settings)
    assert calls == [999, 499]


def test_best_weights_are_chosen_with_the_finish_on(root, tmp_path):
    model, (stills, _) = phases(root, tmp_path)
    stills.prepare(model)
    model.eval()
    plain = {}
    for name, finish in (("none", Finish()), ("own", model.finish), ("exponent", replace(Finish(), exponent=3.0))):
        model.finish = finish
        plain[name] = stills.validate(model, lambda done, total: None)
    assert plain["none"]["CC"] != plain["own"]["CC"] and plain["none"]["SIM"] != plain["exponent"]["SIM"]
    assert stills.scored[0].motion is not None and stills.scored[0].sound is None  # these clips are silent


def test_a_finished_run_is_not_overwritten(root, tmp_path):
    train("compact", root, tmp_path / "run", [], settings=[*TINY, "still_steps=1", "window_steps=0"])
    with pytest.raises(InputError, match="--resume"):
        train("compact", root, tmp_path / "run", [], settings=TINY)


def test_the_finish_is_the_recipes_and_its_centre_is_where_people_look(root, whole, tmp_path):
    model, (stills, _) = phases(root, tmp_path, "centre_gain=2")
    centre = mean_map(stills.examples)
    assert centre.shape == (2, 3) and centre.max() == 0 and centre[0, 1] > -1 and torch.equal(centre, centre.flip(-1))
    assert torch.equal(torch.tensor(model.finish.centre), centre) and model.finish.centre_gain == 2
    learned, recipe = load(whole), configure("compact", TINY)
    assert learned.config == recipe.model and learned.finish == replace(recipe.finish, centre=model.finish.centre)
    assert configure("compact", ["audio_encoder=none"]).finish.sound_gain == 0


def test_the_centre_is_not_added_twice(root, whole, tmp_path):
    """Weights that were finished before keep their centre, and the learned prior is the network's own."""
    one = [*TINY, "still_steps=1", "window_steps=0", "learning_rate=1e-12", "backbone_learning_rate=1e-12"]
    again = load(train("compact", root, tmp_path / "again", [whole], settings=one))
    before = load(whole)
    torch.testing.assert_close(again.unet.fusion.prior, before.unet.fusion.prior, rtol=1e-3, atol=1e-4)
    assert again.finish == before.finish
    before.finish = Finish(exponent=1.1, motion_gain=1.0)  # as older weights: their centre is in the learned prior
    save(before, tmp_path / "old.safetensors")
    old = load(train("compact", root, tmp_path / "old", [tmp_path / "old.safetensors"], settings=one))
    assert old.finish.centre_gain == 0 and old.finish.centre is None and old.finish.motion_gain == 1.25
    asked = load(train("compact", root, tmp_path / "asked", [tmp_path / "old.safetensors"],
                       settings=[*one, "centre_gain=0.2"]))
    assert asked.finish.centre_gain == 0.2 and len(asked.finish.centre) == 2


def test_observers_are_pooled_by_what_each_set_is_worth(root, tmp_path):
    _, (own, _) = phases(root, tmp_path)
    _, (both, _) = phases(root, tmp_path, "observer_weights=more=0.25")
    view = View(2, 4)
    places, weights = both.reader.people(view)
    assert len(places) == 12 and sorted(set(weights.tolist())) == [0.25, 1.0]
    alone, pooled = own.reader.target(view)[0], both.reader.target(view)[0]
    corner = (int(0.9 * 64), int(0.9 * 96))
    assert alone[corner] < 0.01 and pooled.max() == pytest.approx(1, abs=0.1)
    # six fixations worth a quarter each on one place, six of one each spread over 0.4 to 0.5
    _, (alike, _) = phases(root, tmp_path, "observer_weights=more=1")
    targets = [phase.reader.target(view)[0] for phase in (both, alike)]
    ratio = [(target[corner] / target[32, 43]).item() for target in targets]
    assert ratio[1] == pytest.approx(4 * ratio[0], rel=0.02)
    lee = View(3, 4)
    assert is_held_out(both.reader.clips[3], configure("compact", TINY).train)
    assert torch.equal(own.reader.target(lee), both.reader.target(lee))  # scores stay those of its own people
    with pytest.raises(InputError, match=r"observer_weights=nobody=1.0: no tables CLIP.csv in .*gaze/nobody"):
        phases(root, tmp_path, "observer_weights=nobody=1")


def test_a_balanced_example_is_a_function_of_seed_and_number(root, tmp_path):
    _, (stills, windows) = phases(root, tmp_path)
    _, (again, _) = phases(root, tmp_path)
    _, (other, _) = phases(root, tmp_path, "seed=1")
    later, sooner = stills.examples[17], stills.examples[3]
    assert torch.equal(again.examples[3].x_t, sooner.x_t) and again.examples[3].view == sooner.view
    assert torch.equal(stills.examples[17].x_t, later.x_t)
    assert not torch.equal(other.examples[3].x_t, sooner.x_t) and not torch.equal(later.noise, sooner.noise)
    assert not torch.equal(windows.examples[3].noise, sooner.noise)
    views = [stills.examples.view(n) for n in range(300)]
    pictures = sum(view.clip < 2 for view in views) / 300
    assert pictures == pytest.approx(0.4, abs=0.1) and {view.clip for view in views} == {0, 1, 2}  # Lee is held out
    assert sum(view.mirrored for view in views) / 300 == pytest.approx(0.5, abs=0.1)
    assert sum(view.crop[2] < 1 for view in views) / 300 == pytest.approx(0.3, abs=0.1)
    of_windows = [windows.examples.view(n) for n in range(300)]
    assert all(view.index % 2 == 0 and view.crop[2] == 1 and not view.still for view in of_windows)
    assert sum(view.clip < 2 for view in of_windows) / 300 == pytest.approx(0.2, abs=0.1)


def test_a_cropped_still_sees_its_fixations_where_its_picture_is(root, tmp_path):
    _, (stills, _) = phases(root, tmp_path)
    reader = stills.reader
    plain, crop = View(0, 0, still=True), (0.0, 0.2, 0.8)
    cut = replace(plain, crop=crop)
    turned = replace(cut, mirrored=True)
    places = reader.people(plain)[0]
    expected = (places - (0.0, 0.2)) / 0.8
    np.testing.assert_allclose(reader.people(cut)[0], expected)
    np.testing.assert_allclose(reader.people(turned)[0][:, 0], 1 - expected[:, 0])
    assert torch.equal(reader.target(turned), reader.target(cut).flip(-1)) or torch.allclose(
        reader.target(turned), reader.target(cut).flip(-1), atol=0.1)
    assert np.array_equal(reader.frames(turned)[0], reader.frames(cut)[0][:, ::-1])
    peak = np.unravel_index(int(reader.target(cut)[0].argmax()), (64, 96))
    assert abs(peak[1] / 96 - 0.3 / 0.8) < 0.05
    narrow = replace(plain, crop=(0.5, 0.5, 0.5))
    assert len(reader.people(narrow)[0]) == 0 and not reader.is_enough(narrow)


def test_settings_are_typed_and_unknown_ones_get_the_nearest_name():
    recipe = configure("compact", ["modulation_stages=2", "learning_rate=1e-4", "video_sets=find", "exponent=1.3"])
    assert recipe.model.modulation_stages == 2 and recipe.train.learning_rate == 1e-4
    assert recipe.train.video_sets == ("find",) and recipe.finish.exponent == 1.3
    for setting, told in (("batchsize=4", "did you mean batch_size"), ("modulation_stages=9", "at most 4"),
                          ("noise_widths=8,4", "expected 3 whole numbers"), ("motion_prior=0", "no such setting"),
                          ("num_frames=10", "multiple of 4"), ("epochs=2", "no such setting")):
        with pytest.raises(InputError, match=told):
            configure("compact", [setting])
    with pytest.raises(InputError, match="did you mean compact"):
        train("compakt", Path("."), Path("."), [])
    with pytest.raises(InputError, match="not for databases"):
        configure("dhf1k", ["exponent=2"])
    with pytest.raises(InputError, match="video_encoder=mobilenet_v2 or efficientnet_lite0"):
        freeze_a_window_encoder()
    assert nearest("motion_prior", ["motion_gain"]) == "did you mean motion_gain?"


def freeze_a_window_encoder() -> None:
    from diffsal.training.trainable import freeze_blocks

    freeze_blocks(DiffSal(configure("dhf1k", ["video_encoder=s3d", "height=64", "width=64"]).model), 1)


def test_every_setting_has_one_owner():
    for recipe in RECIPES.values():
        owners = [{field.name for field in fields(part)} for part in recipe()]
        assert not (owners[0] & owners[1]) and not (owners[0] & owners[2]) and not (owners[1] & owners[2])
    assert issubclass(GazeConfig, TrainConfig) and issubclass(DatabaseConfig, TrainConfig)


def test_learning_rate_warms_up_and_falls():
    config = configure("compact").train
    rates = [learning_rate_factor(config, step, 200) for step in range(200)]
    assert rates[0] < rates[49] == 1.0 and rates[-1] < 0.03


def test_what_a_run_started_from_is_mixed_into_what_it_ends_with(root, whole, tmp_path):
    few = [*TINY, "still_steps=2", "window_steps=0"]
    alone, mixed = (
        load(train("compact", root, tmp_path / share, [whole], settings=[*few, f"init_share={share}"])).state_dict()
        for share in ("0", "0.25"))
    moved = 0.0
    for name, before in load(whole).state_dict().items():
        expected = alone[name] if not before.is_floating_point() else 0.75 * alone[name] + 0.25 * before
        torch.testing.assert_close(mixed[name], expected, rtol=2e-3, atol=2e-4)  # float16 in the files
        moved = max(moved, (alone[name] - before).abs().max().item())
    assert moved > 1e-3


def test_a_run_that_starts_from_no_whole_network_has_nothing_to_mix_in(root, tmp_path):
    with pytest.raises(InputError, match=r"init_share mixes in a whole network.*no --init"):
        train("compact", root, tmp_path / "run", [], settings=[*TINY, "init_share=0.5"])
    assert not (tmp_path / "run" / "last.pt").exists()
