"""Every recipe on a synthetic copy of its database, with a narrow network; its variations; launchers; windows."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from diffsal.config import DatabaseConfig, ModelConfig
from diffsal.data.databases import DATASETS, stavis, synthetic
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.training.database_phase import DatabasePhase, Denoiser, split_clips
from diffsal.training.engine import Shard
from diffsal.training.initialisation import initialise
from diffsal.training.recipes import RECIPES, audio_visual, configure, train
from diffsal.training.trainable import checkpoint_gradients, freeze, synchronise_batch_norm
from diffsal.training.window_examples import Batch, Reader, Samples, Window
from tests.processes import NARROW, run

SHORT = [*NARROW, "epochs=1", "window_stride=18", "hold_out=2", "validation_windows=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """All nine databases, each in a folder of its name."""
    root = tmp_path_factory.mktemp("databases")
    for name in ("dhf1k", "hollywood2", "ucf_sports", *stavis.SETS):
        synthetic.write(name, root / name)
    return root


@pytest.fixture(scope="module")
def dhf1k_run(data, tmp_path_factory) -> Path:
    return train("dhf1k", data, tmp_path_factory.mktemp("dhf1k"), [], settings=SHORT)


def test_video_recipes_run(data, dhf1k_run, tmp_path):
    assert dhf1k_run.exists()
    for recipe in ("hollywood2", "ucf_sports"):
        out = tmp_path / recipe
        assert train(recipe, data, out, [dhf1k_run], settings=SHORT) == out / f"{recipe}.safetensors"
        scores = json.loads((out / "scores.json").read_text())["last"]
        assert -1 <= scores["CC"] <= 1 and 0 <= scores["SIM"] <= 1


def test_audio_visual_starts_from_a_run_without_sound(data, dhf1k_run, tmp_path):
    settings = [*SHORT, "audio_encoder=yamnet", "window_stride=36", "batch_size=6", "learning_rate=1e-12"]
    path = train("audio_visual", data, tmp_path, [dhf1k_run], settings=settings)
    before, after = load_file(dhf1k_run), load_file(path)
    name = "unet.stages.0.attention.out.weight"
    assert torch.allclose(before[name], after[name]) and any(key.startswith("audio_encoder") for key in after)
    narrow, _ = configure(*RECIPES["dhf1k"](), [*SHORT, "modulation_stages=2"])
    with pytest.raises(InputError, match=r"dhf1k.safetensors: unet\..* has no place in this network"):
        initialise(DiffSal(narrow), dhf1k_run)


def test_vggish_hears_and_silence_is_its_input_without_sound(data):
    model, config = configure(*audio_visual(), [*SHORT, "databases=avad"])
    clips = DATASETS["avad"](data / "avad", "train", 1)
    loud = Reader(clips, model).read(Window(0, 9), muted=False)
    mute = Reader(clips, model).read(Window(0, 9), muted=True)
    assert loud.mel.shape == mute.mel.shape == (1, 9, 112, 192) and loud.heard and not mute.heard
    assert mute.mel.unique().numel() == 1 and loud.mel.max() > mute.mel.max() + 1
    phase = phase_of(model, config, clips)
    network = phase.prepare(DiffSal(model))
    phase.losses(network, Batch.of([phase.samples[0]])).mean().backward()
    features = network.model.audio_encoder.features.parameters()
    assert all(p.grad is None for p in features) and without_gradient(network) == []


def phase_of(model: ModelConfig, config: DatabaseConfig, clips: list, cache: Path = Path("unused")) -> DatabasePhase:
    return DatabasePhase(DiffSal(model), config, clips, [], Shard(0, 1, torch.device("cpu"), 2, 1), cache)


def without_gradient(network: nn.Module) -> list[str]:
    return [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("settings", [
    ["video_encoder=s3d", "modulation_stages=2", "predicts=noise"],
    ["video_encoder=resnet3d_50", "modulation_stages=1", "predicts=map", "mse_weight=0", "kl_weight=1", "cc_weight=1"],
    ["video_encoder=mvit_v2_s", "modulation_stages=3", "kl_weight=0.1"],
])
def test_variations_train_everything_that_should_learn(data, settings):
    model, config = configure(*RECIPES["dhf1k"](), [*SHORT, *settings])
    phase = phase_of(model, config, DATASETS["dhf1k"](data / "dhf1k", "train"))
    live = DiffSal(model)
    network = phase.prepare(live)
    phase.train_mode(live)
    losses = phase.losses(network, Batch.of([phase.samples[0], phase.samples[1]]))
    losses.mean().backward()
    assert losses.shape == (2,) and bool(losses.isfinite().all()) and without_gradient(network) == []


def test_a_direct_prediction_ignores_noise_and_timestep_and_sampling_a_noise_target_gives_a_map(data):
    frames = torch.randint(0, 255, (1, 8, 64, 64, 3), dtype=torch.uint8)
    maps, starts = {}, {}
    for predicts in ("map", "noise"):
        model, _ = configure(*RECIPES["dhf1k"](), [*SHORT, f"predicts={predicts}"])
        network = Denoiser(DiffSal(model).eval())
        with torch.no_grad():
            features = network.features(frames, None, None, torch.zeros(1, dtype=torch.bool))
            noises = torch.randn(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
            maps[predicts] = [network.model.sample(features, noise, steps=4) for noise in noises]
            starts[predicts] = network.model.predict(noises[0], torch.tensor([500]), features).mean().item()
    assert abs(starts["noise"]) < 1 and starts["map"] < 0.2  # noise has no mean; maps are mostly dark
    assert torch.equal(*maps["map"]) and not torch.equal(*maps["noise"])
    assert all(m.min() >= 0 and m.max() <= 1 for pair in maps.values() for m in pair)


def test_unknown_names_get_the_nearest_right_one(tmp_path):
    with pytest.raises(InputError, match="did you mean modulation_stages"):
        train("dhf1k", tmp_path, tmp_path / "run", [], settings=["modulationstages=2"])
    with pytest.raises(InputError, match="dfh1k: no such database; did you mean dhf1k"):
        split_clips(tmp_path, DatabaseConfig(databases=("dfh1k",)))
    with pytest.raises(InputError, match="cache_features needs frozen=video"):
        configure(*RECIPES["dhf1k"](), ["cache_features=true"])


def test_splits_keep_a_videos_shots_together_and_use_dhf1ks_own(data):
    training, validation = split_clips(data, DatabaseConfig(databases=("dhf1k", "hollywood2"), hold_out=2))
    assert [c.name for c in training] == ["0001", "0002", "actioncliptrain00001_1", "actioncliptrain00001_2"]
    assert [c.name for c in validation] == ["0601", "0602", "actioncliptrain00004_1"]
    training, _ = split_clips(data, replace(audio_visual()[1], fold=2))
    assert len(training) == 12 and {c.dataset for c in training} == set(stavis.SETS)


def test_a_sample_is_a_function_of_its_number(data):
    model, config = configure(*RECIPES["dhf1k"](), [*SHORT, "window_stride=6"])
    clips = DATASETS["dhf1k"](data / "dhf1k", "train")
    samples, again = Samples(clips, model, config), Samples(clips, model, config)
    a, b, later = samples[3], again[3], samples[3 + len(samples)]
    assert a.name == b.name and torch.equal(a.x_t, b.x_t) and torch.equal(a.frames, b.frames) and a.t == b.t
    assert not torch.equal(a.noise, later.noise)
    epoch = {(w.clip, w.index // 6) for w in (samples[n].window for n in range(len(samples)))}
    assert len(samples) == 6 == len(epoch)  # every run of frames once
    assert {samples[n].window.mirrored for n in range(12)} == {True, False}


def test_mirroring_turns_picture_and_map_and_leaves_the_sound(data):
    model, _ = configure(*audio_visual(), [*SHORT, "audio_encoder=yamnet"])
    reader = Reader(DATASETS["avad"](data / "avad", "train", 1), model)
    plain, turned = reader.read(Window(0, 9), False), reader.read(Window(0, 9, mirrored=True), False)
    assert torch.equal(plain.frames.flip(2), turned.frames) and torch.equal(plain.target.flip(-1), turned.target)
    assert torch.equal(plain.mel, turned.mel) and not torch.equal(plain.frames, turned.frames)
    assert plain.frames.shape == (8, 64, 64, 3) and 0.9 < plain.target.max() <= 1


def test_kept_features_are_the_encoders_and_spare_it_the_second_epoch(data, tmp_path):
    settings = [*SHORT, "frozen=video", "jitter=false", "mirror=false", "cache_features=true"]
    model, config = configure(*RECIPES["dhf1k"](), settings)
    clips = DATASETS["dhf1k"](data / "dhf1k", "train")
    phase = phase_of(model, config, clips, tmp_path)
    live = DiffSal(model)
    network = phase.prepare(live)
    phase.train_mode(live)
    fresh, kept = (Batch.of([phase.samples[n], phase.samples[n + 1]]) for n in (0, 0))
    torch.manual_seed(1)
    first = phase.losses(network, fresh)
    kept = Batch.of([phase.samples[0], phase.samples[1]])
    assert kept.frames == [None, None]
    network.encode = None  # not called again
    torch.manual_seed(1)
    assert torch.equal(phase.losses(network, kept), first)
    del network.encode
    exact = network.features(torch.stack(fresh.frames), None, None, fresh.heard).video[0]
    stored = network.features(*phase.inputs(network, kept, clips)).video[0]
    assert torch.allclose(exact, stored, atol=2e-3 * exact.abs().max().item())


def test_gradient_checkpointing_changes_no_gradient_and_no_statistic():
    torch.manual_seed(0)
    plain = DiffSal(ModelConfig(video_encoder="resnet3d_50", audio_encoder=None, num_frames=8, height=64, width=64))
    again = DiffSal(plain.config)
    again.load_state_dict(plain.state_dict())
    assert checkpoint_gradients(again.video_encoder) == 16  # bottlenecks
    video = torch.randn(1, 3, 8, 64, 64)
    for model in (plain, again):
        sum(x.square().mean() for x in model.video_encoder(video)).backward()
    for a, b in zip(plain.video_encoder.parameters(), again.video_encoder.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) and (a.grad is None or torch.equal(a.grad, b.grad))
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), again.buffers(), strict=True))


def test_freezing_takes_what_no_output_depends_on():
    model = DiffSal(ModelConfig(audio_encoder=None, num_frames=8, height=64, width=64))
    freeze(model, ())
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, _ in model.named_parameters()} - learning == {
        "video_encoder.norm0.weight", "video_encoder.norm0.bias"}
    freeze(model, ("video",))
    assert not any(name.startswith("video_encoder") and p.requires_grad for name, p in model.named_parameters())


def normalise_together(out: Path) -> None:
    """Half of a batch in each of two processes: outputs, gradients and statistics, float64."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    network, x, weight = normalising()
    synchronise_batch_norm(network)
    network = nn.parallel.DistributedDataParallel(network)
    half = slice(2 * rank, 2 * rank + 2)
    (network(x[half]) * weight[half]).flatten(1).sum(1).mean().backward()
    if rank == 0:
        state = {**network.module.state_dict(), **{f"d{n}": p.grad for n, p in network.module.named_parameters()}}
        torch.save(state, out)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def normalising() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 4, 1), nn.ReLU(), nn.BatchNorm3d(4)).double()
    return network, torch.randn(4, 3, 2, 5, 5).double(), torch.randn(4, 4, 2, 5, 5).double()


def test_batch_statistics_of_two_processes_are_those_of_the_whole_batch(tmp_path):
    assert run(normalise_together, tmp_path / "state", processes=2) == [0, 0]
    together = torch.load(tmp_path / "state", weights_only=True)
    network, x, weight = normalising()
    (network(x) * weight).flatten(1).sum(1).mean().backward()
    state = {**network.state_dict(), **{f"d{n}": p.grad for n, p in network.named_parameters()}}
    assert state.keys() == together.keys()
    assert all(np.allclose(state[name], together[name], rtol=1e-12, atol=1e-14) for name in state)


LAUNCHERS = {
    "torchrun": ("hollywood2", ["--nproc_per_node", "2", "--master_port"]),
    "accelerate": ("ucf_sports", [
        "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
        "--dynamo_backend", "no", "--main_process_port",
    ]),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_start_under_both_launchers(data, tmp_path, launcher):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    recipe, options = LAUNCHERS[launcher]
    program = str(Path(sys.executable).with_name(launcher))
    command = [program, *options, str(port), "-m", "diffsal.cli", "train", recipe, *SHORT, "--data", str(data),
               "--out", str(tmp_path)]
    ran = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str(tmp_path / f"{recipe}.safetensors")  # once
    assert json.loads((tmp_path / "environment.json").read_text())[0]["processes"] == 2
    assert (tmp_path / f"{recipe}.safetensors").is_file()
