"""What a training run tells while it goes: a progress bar on a terminal, the log, TensorBoard, wandb if installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffsal.training.config import TrainConfig
from diffsal.training.run_folder import RunFolder


class Meter:
    """Between ``with`` and its end; only the main process shows and writes anything."""

    def __init__(self, folder: RunFolder, config: TrainConfig, phases: list[Any], shard: Any, step: int) -> None:
        self.folder, self.config, self.main, self.step = folder, config, shard.rank == 0, step
        self.total = sum(phase.num_steps for phase in phases)
        self.since, self.clips, self.loss_sum, self.losses = time.perf_counter(), 0, 0.0, 0
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, disable=not (self.main and console.is_terminal))
        self.writers: list[Any] = []

    def __enter__(self) -> Meter:
        self.progress.start()
        self.task = self.progress.add_task("training", total=self.total, completed=self.step)
        if self.main:
            self.writers.append(_TensorBoard(self.folder, self.step))
            if find_spec("wandb") is not None:
                self._add_wandb()
        return self

    def _add_wandb(self) -> None:
        try:
            self.writers.append(_Wandb(self.folder))
        except Exception as error:  # no account, no network: no reason to stop a training
            self.folder.tell(self.step, f"wandb is left out ({error})")

    def __exit__(self, *error: Any) -> None:
        self.progress.stop()
        for writer in self.writers:
            writer.close()

    @contextmanager
    def watched(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A second bar: the function that it gives takes the number done and the total."""
        task = self.progress.add_task(name, total=None)
        try:
            yield lambda done, total: self.progress.update(task, completed=done, total=total)
        finally:
            self.progress.remove_task(task)

    def advance(self, step: int, phase: Any, loss: float, learning_rate: float) -> None:
        """One optimiser step is done; every ``log_steps`` of them their means are written."""
        self.clips += self.config.batch_size
        self.loss_sum, self.losses = self.loss_sum + loss, self.losses + 1
        rate = self.clips / max(1e-9, time.perf_counter() - self.since)
        text = f"{phase.name}  loss {loss:.4g}  lr {learning_rate:.2g}  {rate:.1f} clips/s"
        self.progress.update(self.task, completed=step, description=text)
        if step % self.config.log_steps == 0 or step == self.total:
            values = {
                "loss": self.loss_sum / self.losses, "learning_rate": learning_rate, "clips_per_second": rate,
                "epoch": round(step * self.config.batch_size / phase.epoch_examples, 4),
            }
            self._write(step, phase, values)
            self.since, self.clips, self.loss_sum, self.losses = time.perf_counter(), 0, 0.0, 0

    def scores(self, step: int, phase: Any, scores: dict[str, Any]) -> None:
        """A validation's; the time it took does not count as training."""
        self._write(step, phase, {"scores": scores})
        self.since, self.clips = time.perf_counter(), 0

    def _write(self, step: int, phase: Any, values: dict[str, Any]) -> None:
        self.folder.log({"step": step, "phase": phase.name, **values})
        for writer in self.writers:
            writer.write(step, dict(_flat(values)))


class _TensorBoard:
    def __init__(self, folder: RunFolder, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        self.writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    """Where wandb is installed and set up; ``WANDB_MODE=disabled`` switches it off, as everywhere."""

    def __init__(self, folder: RunFolder) -> None:
        import wandb

        known = folder.read_json("wandb.json", {})
        config = folder.read_json("config.json", {})
        self.run = wandb.init(project="diffsal", dir=str(folder.path), config=config, resume="allow", **known)
        folder.write_json("wandb.json", {"id": self.run.id})

    def write(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()


def _flat(values: dict[str, Any], prefix: str = ""):
    """Nested scores as ``scores/CC``."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", float(value)
