"""The training engine: exact resumption after a kill, several processes, signals, broken samples, a full disk."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffsal.config import Finish
from diffsal.data.databases import synthetic
from diffsal.errors import InputError
from diffsal.training.config import DatabaseConfig, TrainConfig
from diffsal.training.engine import learning_rate_factor, step_seed, update_average
from diffsal.training.phase import Phase
from diffsal.training.recipes import configure, dhf1k
from diffsal.training.recipes import train as train_here
from tests.processes import NARROW, run, start, train, train_and_die, train_on_a_full_disk, train_smooth

ALIKE = ["dropout=0", "batch_size=4", "window_stride=4", "epochs=1", "adam_epsilon=1e-2", "learning_rate=1e-2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return synthetic.write("dhf1k", tmp_path_factory.mktemp("dhf1k"))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "dhf1k.safetensors")


def log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def gone(process: int) -> bool:
    """Whether the process ends within a minute."""
    for _ in range(600):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A run of six steps that nothing stopped."""
    out = tmp_path_factory.mktemp("whole")
    assert run(train, "dhf1k", data, out, []) == [0]
    return out


def test_killed_at_any_point_and_resumed_is_bit_for_bit_the_run_that_never_stopped(data, whole, tmp_path):
    for step, writing in ((1, False), (4, True), (5, False)):
        told = tmp_path / f"told{step}"
        assert run(train_and_die, "dhf1k", data, tmp_path, ["num_workers=1"], step, writing, told=told) == [-9]
    (worker,) = (tmp_path / "told1").read_text().split()
    assert gone(int(worker)), "a worker outlived the training that was killed"
    assert run(train, "dhf1k", data, tmp_path, ["num_workers=1"], True) == [0]
    a, b = weights(whole), weights(tmp_path)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert [line["step"] for line in log(tmp_path) if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert not list(tmp_path.glob(".*.partial"))
    assert json.loads((tmp_path / "scores.json").read_text()) == json.loads((whole / "scores.json").read_text())


def test_the_folder_holds_settings_machine_logs_and_scores(whole):
    assert json.loads((whole / "config.json").read_text())["train"]["batch_size"] == 2
    (machine,) = json.loads((whole / "environment.json").read_text())
    assert torch.__version__.startswith(machine["packages"]["torch"].split("+")[0])
    assert len(machine["git"].rstrip("+")) == 40 and machine["processes"] == 1
    assert log(whole)[-1]["scores"]["windows"] == 2 and (whole / "best.safetensors").exists()
    assert list((whole / "tensorboard").glob("events*"))
    rates = [line["learning_rate"] for line in log(whole) if "loss" in line]
    assert rates == pytest.approx([1e-4] * 3 + [1e-5] * 2 + [1e-6])  # times 0.1 at 50 % and 75 %


def test_two_processes_and_accumulation_are_one_process_with_the_whole_batch(data, tmp_path):
    frozen = "batch_norm=frozen"  # else the statistics are those of the parts
    runs = {"one": (1, []), "two": (2, []), "one_frozen": (1, [frozen]), "parts": (1, [frozen, "accumulation=2"])}
    for name, (processes, more) in runs.items():
        done = run(train_smooth, "dhf1k", data, tmp_path / name, [*ALIKE, *more], processes=processes)
        assert done == [0] * processes
    for whole, divided in (("one", "two"), ("one_frozen", "parts")):
        assert largest_difference(weights(tmp_path / whole), weights(tmp_path / divided)) < 1e-5
        losses = [[line["loss"] for line in log(tmp_path / name) if "loss" in line] for name in (whole, divided)]
        assert len(losses[0]) == 2 and losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_sigterm_saves_and_ends_cleanly(data, whole, tmp_path):
    process = start(train, "dhf1k", data, tmp_path, ["num_workers=1", "checkpoint_steps=1000"])
    deadline = time.monotonic() + 60
    while not (tmp_path / "log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 0
    step = torch.load(tmp_path / "last.pt", weights_only=True)["step"]
    assert 1 <= step < 6 and log(tmp_path)[-1]["step"] == step and not (tmp_path / "dhf1k.safetensors").exists()
    assert run(train, "dhf1k", data, tmp_path, [], True) == [0]
    assert largest_difference(weights(whole), weights(tmp_path)) == 0


def test_a_full_disk_keeps_the_checkpoint_before(data, tmp_path):
    assert run(train_on_a_full_disk, "dhf1k", data, tmp_path, [], told=tmp_path / "told") == [1]
    told = (tmp_path / "told").read_text().splitlines()
    assert len(told) == 1 and "last.pt: cannot be written" in told[0] and "--resume" in told[0]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 2
    assert not list(tmp_path.glob(".*.partial"))


def test_broken_samples_are_named_and_too_many_stop_the_run(tmp_path, monkeypatch, capsys):
    root = synthetic.write("dhf1k", tmp_path / "data")
    (root / "annotation/0001/maps/0004.png").write_bytes(b"no picture")
    settings = [*NARROW, "jitter=false", "epochs=1"]
    with pytest.raises(InputError, match="1 samples of an epoch of 6 cannot be read, more than 1 %"):
        train_here("dhf1k", root, tmp_path / "strict", [], settings=settings)
    monkeypatch.setattr("diffsal.training.engine.MOST_BROKEN", 0.2)
    assert train_here("dhf1k", root, tmp_path / "lenient", [], settings=settings) is not None
    skipped = [line["skipped"] for line in log(tmp_path / "lenient") if "skipped" in line]
    assert len(skipped) == 1 and "dhf1k 0001 frame 3 skipped" in skipped[0] and "0004.png" in skipped[0]
    assert "0004.png" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_with_its_batch_and_moves_nothing(data, tmp_path, monkeypatch):
    losses, calls = Phase.losses, []

    def third_is_nan(phase, network, batch):
        calls.append(batch.names)
        value = losses(phase, network, batch)
        return value * float("nan") if len(calls) == 3 else value

    monkeypatch.setattr(Phase, "losses", third_is_nan)
    with pytest.raises(InputError, match=r"step 3: the loss is not finite on dhf1k 000[12] frame") as error:
        train_here("dhf1k", data, tmp_path, [], settings=NARROW)
    assert all(name in str(error.value) for name in calls[2])
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["step"] == 2 and all(v.isfinite().all() for v in state["model"].values())


def test_a_resumed_run_keeps_its_settings(data, tmp_path):
    settings = [*NARROW, "epochs=1", "window_stride=18"]
    train_here("dhf1k", data, tmp_path, [], settings=settings)
    with pytest.raises(InputError, match="holds a run already"):
        train_here("dhf1k", data, tmp_path, [], settings=settings)
    with pytest.raises(InputError, match=r"learning_rate=0.1: the run began with 0.0001"):
        train_here("dhf1k", data, tmp_path, [], resume=True, settings=["learning_rate=0.1"])
    with pytest.raises(InputError, match="run of dhf1k, not of hollywood2"):
        train_here("hollywood2", data, tmp_path, [], resume=True)
    assert train_here("dhf1k", data, tmp_path, [], resume=True, settings=["num_workers=1"]) is not None


def test_batch_size_is_that_of_all_processes(data, tmp_path):
    with pytest.raises(InputError, match="batch_size is 2: not divisible by 1 processes times 3 micro-batches"):
        train_here("dhf1k", data, tmp_path, [], settings=[*NARROW, "accumulation=3"])
    with pytest.raises(InputError, match="fp16: needs a GPU"):
        train_here("dhf1k", data, tmp_path, [], settings=[*NARROW, "precision=fp16"])


def test_the_average_moves_towards_the_weights():
    model, average = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    torch.nn.init.constant_(model.weight, 3.0)
    model.num_batches_tracked += 5
    update_average(average, model, 0.9, step=1)  # (1 + 1) / (10 + 1) at first
    assert average.weight.item() == pytest.approx(3 - 2 * 2 / 11) and average.num_batches_tracked == 5
    update_average(average, model, 0.0, step=100)
    assert average.weight.item() == 3


def test_the_papers_settings():
    model, config, finish = dhf1k()
    assert finish == Finish() and model.audio_encoder is None and model.video_encoder == "mvit_v2_s"
    assert isinstance(config, DatabaseConfig) and isinstance(config, TrainConfig)
    assert (config.batch_size, config.learning_rate, config.clip_norm, config.epochs) == (16, 1e-4, 1.0, 3)
    assert (config.milestones, config.decay, config.weight_decay) == ((0.5, 0.75), 0.1, 0.0)
    assert (config.mse_weight, config.kl_weight, config.cc_weight, config.target_noise) == (1.0, 0.0, 0.0, 0.01)
    assert not config.relative_error and config.mirror and config.hold_out == 10


def test_released_trains_as_the_released_code_does():
    """Three epochs of about 21,900 windows: times 0.1 after the first and the second, nothing mirrored or held out."""
    config = configure("dhf1k", ["released=true"]).train
    assert config.released and not config.mirror and config.hold_out == 0
    steps = 3 * 21_900 // config.batch_size
    rates = [learning_rate_factor(config, step, steps) for step in (0, steps // 3 - 1, steps // 3 + 1,
                                                                    2 * steps // 3 - 1, 2 * steps // 3 + 1, steps - 1)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert configure("dhf1k", ["released=true", "mirror=true"]).train.mirror  # what is typed counts


def test_dropout_is_drawn_from_seed_step_and_process():
    seeds = {step_seed(seed, step, rank) for seed in range(3) for step in range(5) for rank in range(2)}
    assert len(seeds) == 30 and step_seed(1, 2, 0) == step_seed(1, 2, 0) and all(0 <= s < 2**63 for s in seeds)
