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
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from diffsal.config import ModelConfig
from diffsal.data.databases import DATASETS, stavis, synthetic
from diffsal.diffusion.samplers import ddim_step
from diffsal.diffusion.schedule import NoiseSchedule
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.training.config import DatabaseConfig
from diffsal.training.examples import Batch, Examples, Shares
from diffsal.training.initialisation import initialise
from diffsal.training.objective import Noising
from diffsal.training.phase import Denoiser, Phase
from diffsal.training.phases import database_phases, split_clips
from diffsal.training.reader import Reader
from diffsal.training.recipes import audio_visual, configure, train
from diffsal.training.samplers import EveryWindow, View
from diffsal.training.shard import Shard
from diffsal.training.trainable import checkpoint_gradients, freeze, synchronise_batch_norm
from diffsal.weights.files import save
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
    narrow = configure("dhf1k", [*SHORT, "widths=32,32,32,16"]).model
    with pytest.raises(InputError, match=r"dhf1k.safetensors: unet\..*, this network expects"):
        initialise(DiffSal(narrow), dhf1k_run)


def test_a_run_starts_from_one_with_more_or_fewer_stages(dhf1k_run, tmp_path):
    before = load_file(dhf1k_run)
    for stages in (1, 2, 3):
        model = DiffSal(configure("dhf1k", [*SHORT, f"modulation_stages={stages}"]).model)
        initialise(model, dhf1k_run)
        state = model.state_dict()
        assert all(torch.equal(state[name], before[name]) for name in state)
        assert len(state) < len(before) and not any(name.startswith("unet.stages.3.") for name in state)
    fewer = tmp_path / "fewer.safetensors"
    save(model, fewer)
    whole = DiffSal(configure("dhf1k", SHORT).model)
    fresh = whole.unet.stages[3].attention.out.weight.clone()
    initialise(whole, fewer)
    assert torch.equal(whole.unet.stages[2].attention.out.weight, model.unet.stages[2].attention.out.weight)
    assert torch.equal(whole.unet.stages[3].attention.out.weight, fresh)


def phase_of(
    root: Path, settings: list[str], recipe: str = "dhf1k", out: Path = Path("unused")
) -> tuple[DiffSal, Phase]:
    begun = configure(recipe, settings)
    model = DiffSal(begun.model)
    (phase,) = database_phases(model, begun.train, root, out, Shard(0, 1, torch.device("cpu"), 2, 1))
    return model, phase


def without_gradient(network: nn.Module) -> list[str]:
    return [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]


def test_vggish_hears_and_silence_is_its_input_without_sound(data):
    model, phase = phase_of(data, [*SHORT, "databases=avad"], "audio_visual")
    (loud, is_heard), (mute, is_mute_heard) = (phase.reader.sound(View(0, 9), muted) for muted in (False, True))
    assert loud.shape == mute.shape == (1, 9, 112, 192) and is_heard and not is_mute_heard
    assert mute.unique().numel() == 1 and loud.max() > mute.max() + 1
    network = phase.prepare(model)
    phase.losses(network, Batch.of([phase.examples[0]])).mean().backward()
    features = network.model.audio_encoder.features.parameters()
    assert all(p.grad is None for p in features) and without_gradient(network) == []


SETTINGS = {  # the paper's ablations, each a value of a setting
    "noise": ["video_encoder=s3d", "modulation_stages=2", "predicts=noise"],
    "the map at once": ["video_encoder=resnet3d_50", "modulation_stages=1", "predicts=map", "mse_weight=0",
                        "kl_weight=1", "cc_weight=1"],
    "three stages": ["video_encoder=mvit_v2_s", "modulation_stages=3", "kl_weight=0.1"],
    "cross-entropy": ["mse_weight=0", "ce_weight=1"],
    "SIM": ["mse_weight=0", "sim_weight=1"],
    "NSS": ["mse_weight=0", "nss_weight=1"],
    "linear schedule": ["noise_schedule=linear"],
    "addition of sound": ["audio_encoder=yamnet", "sound_fusion=addition"],
    "concatenation with sound": ["audio_encoder=yamnet", "sound_fusion=concatenation"],
    "cross-attention to sound": ["audio_encoder=yamnet", "sound_fusion=cross_attention"],
    "without picture": ["blind_share=1"],
    "without sound": ["mute_share=1", "audio_encoder=yamnet"],
}


@pytest.mark.parametrize("name", SETTINGS)
def test_variations_train_everything_that_should_learn(data, name):
    """Three steps of plain gradient descent on two examples: the loss falls, and every weight has a gradient."""
    recipe, sets = ("audio_visual", ["databases=avad"]) if "sound" in name else ("dhf1k", [])
    model, phase = phase_of(data, [*SHORT, "dropout=0", *sets, *SETTINGS[name]], recipe)
    network = phase.prepare(model)
    phase.train_mode(model)
    batch = Batch.of([phase.examples[0], phase.examples[1]])
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    found = []
    for _ in range(4):
        losses = phase.losses(network, batch)
        optimiser.zero_grad()
        losses.mean().backward()
        if not found and name != "without picture":
            assert without_gradient(network) == []
        optimiser.step()
        found.append(losses.mean().item())
    assert losses.shape == (2,) and all(np.isfinite(found)) and found[-1] < found[0]


def test_nothing_is_seen_or_heard_where_a_modality_is_dropped(data):
    model, phase = phase_of(data, [*SHORT, "databases=avad", "audio_encoder=yamnet", "blind_share=1"], "audio_visual")
    batch = Batch.of([phase.examples[0], phase.examples[1]])
    assert not batch.seen.any() and not phase.scored[0].seen and batch.heard.all()
    denoiser = Denoiser(model.eval())
    with torch.no_grad():
        blind = denoiser.features(torch.stack(batch.frames), None, batch.mel, batch.heard, batch.seen)
        black = denoiser.features(torch.zeros_like(torch.stack(batch.frames)), None, batch.mel, batch.heard, batch.seen)
        seeing = denoiser.features(torch.stack(batch.frames), None, batch.mel, batch.heard, ~batch.seen)
    assert all(torch.equal(a, b) for a, b in zip(blind.video, black.video, strict=True))
    assert not torch.equal(blind.video[0], seeing.video[0]) and torch.equal(blind.audio, seeing.audio)
    _, deaf = phase_of(data, [*SHORT, "databases=avad", "audio_encoder=yamnet", "mute_share=1"], "audio_visual")
    assert not any(deaf.examples[n].heard for n in range(4)) and deaf.examples[0].seen


def test_an_own_estimate_makes_s_t_as_sampling_comes_to_it(data):
    settings = [*SHORT, "dropout=0"]
    model, phase = phase_of(data, [*settings, "own_estimate=true"])
    network, (_, plain) = phase.prepare(model), phase_of(data, settings)
    batch = Batch.of([phase.examples[0], phase.examples[1]])
    batch.t = torch.tensor([499, 999])
    inputs, seen = phase.inputs(batch), []
    model.eval().unet.register_forward_pre_hook(lambda unet, arguments: seen.append(arguments[:2]))
    features = network.features(*inputs)
    expected = model.sample(features, batch.noise, steps=1)[0]
    del seen[:]
    phase.losses(network, batch).sum().backward()
    (_, first), (x_t, t) = seen
    assert first.tolist() == [999, 999] and torch.equal(t, batch.t)
    by_hand = ddim_step(model.schedule, batch.noise[0], expected, 999, 499)  # Algorithm 2's second state
    torch.testing.assert_close(x_t[0], by_hand, rtol=0, atol=1e-4)
    assert torch.equal(x_t[1], batch.x_t[1]) and not torch.allclose(x_t[0], batch.x_t[0], atol=0.01)
    own = phase.losses(network, batch).detach()
    as_before = plain.losses(plain.prepare(model), batch).detach()
    assert own[0] != as_before[0] and own[1] == pytest.approx(as_before[1].item(), rel=1e-5)
    with pytest.raises(InputError, match="own_estimate=true is for networks that predict x_0"):
        configure("dhf1k", ["own_estimate=true", "predicts=noise"])


def test_a_direct_prediction_ignores_noise_and_timestep_and_sampling_a_noise_target_gives_a_map():
    frames = torch.randint(0, 255, (1, 8, 64, 64, 3), dtype=torch.uint8)
    no, yes = torch.zeros(1, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    maps, starts = {}, {}
    for predicts in ("map", "noise"):
        network = Denoiser(DiffSal(configure("dhf1k", [*SHORT, f"predicts={predicts}"]).model).eval())
        with torch.no_grad():
            features = network.features(frames, None, None, no, yes)
            noises = torch.randn(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
            maps[predicts] = [network.model.sample(features, noise, steps=4) for noise in noises]
            starts[predicts] = network.model.predict(noises[0], torch.tensor([500]), features).mean().item()
    assert abs(starts["noise"]) < 1 and starts["map"] < 0.2  # noise has no mean; maps are mostly dark
    assert torch.equal(*maps["map"]) and not torch.equal(*maps["noise"])
    assert all(m.min() >= 0 and m.max() <= 1 for pair in maps.values() for m in pair)


def test_unknown_names_get_the_nearest_right_one(tmp_path):
    with pytest.raises(InputError, match="did you mean modulation_stages"):
        train("dhf1k", tmp_path, tmp_path / "run", [], settings=["modulationstages=2"])
    with pytest.raises(InputError, match=r"dfh1k.*did you mean dhf1k"):
        split_clips(tmp_path, DatabaseConfig(databases=("dfh1k",)))
    with pytest.raises(InputError, match="cache_features needs frozen=video"):
        configure("dhf1k", ["cache_features=true"])


def test_splits_keep_a_videos_shots_together_and_use_dhf1ks_own(data):
    training, validation = split_clips(data, DatabaseConfig(databases=("dhf1k", "hollywood2"), hold_out=2))
    assert [c.name for c in training] == ["0001", "0002", "actioncliptrain00001_1", "actioncliptrain00001_2"]
    assert [c.name for c in validation] == ["0601", "0602", "actioncliptrain00004_1"]
    training, _ = split_clips(data, replace(audio_visual().train, fold=2))
    assert len(training) == 12 and {c.dataset for c in training} == set(stavis.SETS)
    training, validation = split_clips(data, configure("hollywood2", ["released=true"]).train)
    assert {c.split for c in training} == {"train"} and {c.split for c in validation} == {"test"}
    assert len(training) == 3


def test_an_example_is_a_function_of_its_number(data):
    settings = [*SHORT, "window_stride=6"]
    examples, again = (phase_of(data, settings)[1].examples for _ in range(2))
    a, b, later = examples[3], again[3], examples[3 + len(examples)]
    assert a.name == b.name and torch.equal(a.x_t, b.x_t) and torch.equal(a.frames, b.frames) and a.t == b.t
    assert not torch.equal(a.noise, later.noise)
    epoch = {(v.clip, v.index // 6) for v in (examples[n].view for n in range(len(examples)))}
    assert len(examples) == 6 == len(epoch)  # every run of frames once
    assert {examples[n].view.mirrored for n in range(12)} == {True, False}
    _, released = phase_of(data, [*settings, "released=true"])
    assert {released.examples[n].view.mirrored for n in range(12)} == {False}


def test_an_example_is_noised_by_algorithm_1(data):
    _, phase = phase_of(data, [*SHORT, "window_stride=6"])
    example = phase.examples[3]
    target = phase.reader.target(example.view)
    assert torch.equal(example.target, target) and target.max() > 0.9
    alpha = float(NoiseSchedule.cosine().alphas_cumprod[int(example.t)])
    rest = (example.x_t - alpha**0.5 * target - (1 - alpha) ** 0.5 * example.noise) / alpha**0.5
    assert 0.008 < rest.std() < 0.012 and abs(rest.mean()) < 0.001  # 0.01 times N(0, 1)
    assert abs(example.noise.std() - 1) < 0.05 and abs(example.noise.mean()) < 0.05


def test_a_map_on_which_nobody_looks_is_drawn_again(tmp_path):
    root = synthetic.write("dhf1k", tmp_path)
    maps = sorted((root / "annotation").glob("0001/maps/*.png"))
    for path in maps:
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    _, phase = phase_of(root, [*SHORT, "window_stride=6"])
    assert {phase.examples[n].view.clip for n in range(6)} == {1}
    assert all(not phase.examples[n].problems and phase.examples[n].target.any() for n in range(6))
    for path in sorted((root / "annotation").glob("0002/maps/*.png")):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    with pytest.raises(InputError, match="their maps are all zero"):
        phase.examples[0]


def test_mirroring_turns_picture_map_and_fixations_and_leaves_the_sound(data):
    _, phase = phase_of(data, [*SHORT, "audio_encoder=yamnet", "databases=avad"], "audio_visual")
    reader, plain, turned = phase.reader, View(0, 9), View(0, 9, mirrored=True)
    frames = reader.frames(plain)
    assert np.array_equal(frames[:, :, ::-1], reader.frames(turned)) and frames.shape == (8, 64, 64, 3)
    assert torch.equal(reader.target(plain).flip(-1), reader.target(turned))
    assert torch.equal(reader.fixated(plain).flip(-1), reader.fixated(turned)) and reader.fixated(plain).any()
    assert torch.equal(reader.sound(plain, False)[0], reader.sound(turned, False)[0])
    assert 0.9 < reader.target(plain).max() <= 1
    peak = int(reader.target(plain)[0].argmax())  # fixations lie where the map is bright
    assert reader.target(plain)[reader.fixated(plain)].mean() > 0.3 * reader.target(plain).flatten()[peak]


def test_another_clips_sound_is_of_the_same_set(data):
    recipe = configure("audio_visual", [*SHORT, "audio_encoder=yamnet", "databases=avad"])
    clips = DATASETS["avad"](data / "avad", "train", 1)
    reader = Reader(clips, recipe.model)
    sampler = EveryWindow(clips, list(range(len(clips))), 6, True, False, 0)
    noising = Noising(NoiseSchedule.cosine())
    own, others, mute = (Examples(reader, sampler, noising, shares, 0) for shares in (
        Shares(), Shares(other_sound=1.0), Shares(mute=1.0)))
    assert own[0].heard and others[0].heard and not mute[0].heard
    assert any(not torch.equal(own[n].mel, others[n].mel) for n in range(4))
    shares = Shares(mute=0.25, other_sound=0.25)
    mixed = Examples(reader, sampler, noising, shares, 0)
    assert sum(not mixed[n].heard for n in range(100)) == pytest.approx(25, abs=12)


def test_kept_features_are_the_encoders_and_spare_it_the_second_epoch(data, tmp_path):
    for encoder in ("mobilenet_v2", "resnet3d_50"):
        settings = [*SHORT, "frozen=video", "jitter=false", "mirror=false", "cache_features=true",
                    f"video_encoder={encoder}"]
        model, phase = phase_of(data, settings, out=tmp_path)
        network = phase.prepare(model)
        model.eval()
        fresh = Batch.of([phase.examples[0], phase.examples[1]])
        assert all(x is not None for x in fresh.frames)
        with torch.no_grad():
            first = phase.losses(network, fresh)
        kept = Batch.of([phase.examples[0], phase.examples[1]])
        assert kept.frames == [None, None]
        with torch.no_grad():
            assert torch.equal(phase.losses(network, kept), first)
            nothing, scales, *rest = phase.inputs(kept)
            exact = network.features(torch.stack(fresh.frames), None, *rest).video[0]
            stored = network.features(nothing, scales, *rest).video[0]
        assert torch.allclose(exact, stored, atol=4e-3 * exact.abs().max().item())


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
