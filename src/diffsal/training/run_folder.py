"""The folder of a training run: its settings, its machine, its logs, its scores and its checkpoints.

``config.json`` (recipe and settings), ``environment.json`` (versions, git revision, machine, one entry per start),
``log.jsonl`` (losses and scores by step), ``scores.json`` (best and last validation), ``tensorboard/``, ``last.pt``
(all that a resumed run needs) and ``best.safetensors`` (the weights of the best validation). Files appear whole or not
at all: whenever the process is killed, the checkpoint before is there.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from diffsal.errors import InputError
from diffsal.files import whole_file

PACKAGES = ("diffsal", "torch", "accelerate", "numpy", "av", "opencv-python-headless", "safetensors", "einops")


class RunFolder:
    """One run's folder; only the main process may write to it (``writes``)."""

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        if writes:
            path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.path / "last.pt"

    # --- settings and machine -------------------------------------------------------------------------------------

    def open(self, settings: dict[str, Any], environment: dict[str, Any], resume: bool) -> None:
        """Note the settings and the environment of a run that starts or goes on."""
        if not self.writes:
            return
        self.write_json("config.json", settings)
        starts = self.read_json("environment.json", []) if resume else []
        self.write_json("environment.json", [*starts, environment])
        if not resume:
            (self.path / "log.jsonl").unlink(missing_ok=True)

    def read_json(self, name: str, default: Any = None) -> Any:
        path = self.path / name
        if not path.exists():
            return default
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"{path}: is not JSON ({error}); start the run anew in another folder") from None

    def write_json(self, name: str, values: Any) -> None:
        with _whole(self.path / name) as partial:
            partial.write_text(json.dumps(values, indent=1) + "\n")

    # --- logs -----------------------------------------------------------------------------------------------------

    def log(self, line: dict[str, Any]) -> None:
        if self.writes:
            with _told(self.path / "log.jsonl"), (self.path / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def tell(self, step: int, problem: str) -> None:
        """Name something that was passed over, in the log and on stderr."""
        if self.writes:
            print(f"diffsal: step {step}: {problem}", file=sys.stderr)
        self.log({"step": step, "skipped": problem})

    def rewind_log(self, step: int) -> None:
        """Forget what was logged after ``step``, the checkpoint's: those steps will be done again."""
        path = self.path / "log.jsonl"
        if self.writes and path.exists():
            kept = [line for line in path.read_text().splitlines(keepends=True) if _is_up_to(line, step)]
            with _whole(path) as partial:
                partial.write_text("".join(kept))

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """``state`` as ``last.pt``; where the disk is full, the one before stays whole and an error says so."""
        if self.writes:
            with _whole(self.checkpoint) as partial, partial.open("wb") as file:
                torch.save(state, file)

    def load_checkpoint(self) -> dict[str, Any]:
        """What :meth:`save_checkpoint` wrote, on the CPU; nothing in it is executed."""
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise InputError(f"{self.checkpoint}: no such file: start the run without --resume") from None
        except Exception as error:  # torch raises many kinds for a file that is no checkpoint
            kind = type(error).__name__
            raise InputError(f"{self.checkpoint}: not a checkpoint of a run ({kind}); remove it") from None


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its name once it is whole; a full disk is a line that says what to do."""
    with _told(path), whole_file(path) as partial:
        yield partial


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save makes a RuntimeError of what the disk says
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{path}: cannot be written ({reason}); what was saved before is whole: make room, then --resume"
        ) from error


def _is_up_to(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError):  # cut off by a kill
        return False


def environment(device: str, num_processes: int) -> dict[str, Any]:
    """What a run's numbers depend on besides its settings: versions, git revision, machine, command."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": sys.argv, "git": git_revision(),
        "python": platform.python_version(), "packages": versions, "platform": platform.platform(),
        "processor": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "device": device, "processes": num_processes, "threads": torch.get_num_threads(), "cores": os.cpu_count(),
    }


def git_revision() -> str | None:
    """The revision of the source that runs, ``+`` behind it where files differ; None outside a git checkout."""
    folder = Path(__file__).parent
    try:
        ran = [
            subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10, check=True)
            for command in (
                ["ls-files", "--error-unmatch", Path(__file__).name],  # installed inside someone else's checkout?
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no", "."],
            )
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return ran[1].stdout.strip() + ("+" if ran[2].stdout.strip() else "")
