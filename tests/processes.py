"""Runs in processes of their own, forked from a server that has imported everything, so that they start at once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo
import torch.utils.tensorboard

import diffsal.training.recipes  # noqa: F401

NARROW = [
    "video_encoder=mobilenet_v2", "height=64", "width=64", "num_frames=8", "widths=32,32,32,32", "noise_width=32",
    "time_width=64", "fusion_width=16", "output_width=8", "batch_size=2", "window_stride=6", "validation_windows=2",
    "num_workers=0", "log_steps=1", "checkpoint_steps=2", "epochs=2",
]


def start(function: Callable, *arguments, environment: dict[str, str] | None = None):
    """``function(*arguments)`` in a process of its own, on one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(function, arguments, environment or {}))
    process.start()
    return process


def run(function: Callable, *arguments, processes: int = 1, told: Path | None = None) -> list[int]:
    """The exit codes of ``processes`` that run ``function`` together, as torchrun would start them.

    ``told`` is a file for what they say on stderr.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    started = []
    for rank in range(processes):
        together = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        environment = together if processes > 1 else {}
        started.append(start(function, *arguments, environment={**environment, "TOLD": str(told or os.devnull)}))
    for process in started:
        process.join(120)
        if process.exitcode is None:
            process.kill()
    return [process.exitcode for process in started]


def _run(function: Callable, arguments: tuple, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    sys.stderr = Path(os.environ.get("TOLD", os.devnull)).open("w", buffering=1)  # noqa: SIM115
    torch.set_num_threads(1)
    function(*arguments)


def command(arguments: list[str], folder: Path) -> None:
    """The command line in ``folder``, in a group of processes of its own."""
    from diffsal.cli.commands import main

    os.setsid()
    os.chdir(folder)
    main(arguments)


def train(recipe: str, data: Path, out: Path, settings: list[str], resume: bool = False) -> None:
    """As the command does it, exit codes included."""
    from diffsal.cli.commands import main

    main(["train", recipe, *NARROW, *settings, "--data", str(data), "--out", str(out), *["--resume"][: int(resume)]])


def train_smooth(recipe: str, data: Path, out: Path, settings: list[str]) -> None:
    """:func:`train` with rectifiers that have no kink: one whose input is 0 to rounding turns rounding into a step."""
    import torch.nn.functional as F

    F.relu = F.relu6 = lambda x, inplace=False: F.gelu(x)
    train(recipe, data, out, settings)


def train_and_die(recipe: str, data: Path, out: Path, settings: list[str], step: int, writing: bool) -> None:
    """:func:`train` with ``--resume``, killed after ``step`` steps or while it writes the checkpoint after them.

    Its workers' process numbers are then in ``TOLD``.
    """
    from diffsal.training.engine import Engine
    from diffsal.training.run_folder import RunFolder

    step_once, save = Engine.train_step, RunFolder.save_checkpoint

    def train_step(engine, *rest):
        loss = step_once(engine, *rest)
        if engine.step + 1 == step and not writing:
            print(*(child.pid for child in multiprocessing.active_children()), file=sys.stderr)
            os.kill(os.getpid(), 9)
        return loss

    def save_checkpoint(folder, state):
        if state["step"] == step and writing:
            torch.save = lambda state, file: (file.write(b"half a checkpoint"), os.kill(os.getpid(), 9))
        save(folder, state)

    Engine.train_step, RunFolder.save_checkpoint = train_step, save_checkpoint
    train(recipe, data, out, settings, resume=True)


def train_on_a_full_disk(recipe: str, data: Path, out: Path, settings: list[str]) -> None:
    """:func:`train` whose second checkpoint does not fit."""
    import resource

    from diffsal.training.run_folder import RunFolder

    save = RunFolder.save_checkpoint

    def save_checkpoint(folder, state):
        if folder.checkpoint.exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        save(folder, state)

    RunFolder.save_checkpoint = save_checkpoint
    train(recipe, data, out, settings)


def predict_stuck(video: Path, stuck: Path, fails: bool) -> None:
    """As the command does it, with a network whose second call takes minutes (``stuck`` is then there).

    Where it ``fails``, the writer does so meanwhile.
    """
    import time

    import diffsal.runtime.loading
    from diffsal.cli.commands import main
    from diffsal.outputs.overlay import VideoWriter
    from tests.standin import StandIn

    class Stuck(StandIn):
        def denoise(self, x_t, t, conditions):
            if len(self.calls) > 1:
                stuck.touch()
                time.sleep(300)
            return super().denoise(x_t, t, conditions)

    def write(*_):
        while not stuck.exists():
            time.sleep(0.01)
        raise RuntimeError("a bug")

    if fails:
        VideoWriter.write = write
    diffsal.runtime.loading.load_engine = lambda *_: Stuck()
    sys.argv = ["diffsal", "predict", str(video)]
    main()
