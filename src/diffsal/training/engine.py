"""The training loop: one process or many, exact resumption, and an end that loses nothing.

A run is a list of :class:`Phase`, each with its own data, network and optimiser. The loop is accelerate's
(torch.distributed underneath): started plainly it is one process, under ``accelerate launch`` or ``torchrun`` as many
as these start, on CPUs (gloo) or GPUs.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object, reduce
from torch import Tensor, nn

from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.training.config import TrainConfig
from diffsal.training.logging import Meter
from diffsal.training.phase import Phase
from diffsal.training.run_folder import RunFolder
from diffsal.training.shard import Shard
from diffsal.weights.files import save

MOST_BROKEN = 0.01  # of an epoch's samples; more stop the run


class Engine:
    """One run of ``phases`` over ``model``, in a folder. :meth:`fit` returns the average, or None where it was stopped.

    ``self.average`` is the exponential moving average of weights and batch statistics (with ``ema_decay`` 0, a copy).
    """

    def __init__(self, config: TrainConfig, model: DiffSal, folder: RunFolder, accelerator: Accelerator) -> None:
        self.config, self.model, self.folder, self.accelerator = config, model, folder, accelerator
        self.shard = shard_of(config, accelerator)
        self.average = copy.deepcopy(model).requires_grad_(False).eval().to(accelerator.device)
        self.step = 0  # optimiser steps done, over all phases
        self.best = -math.inf
        self.broken = 0  # samples that could not be read in this epoch, over all processes
        self.stopped_by: int | None = None  # a signal to this process
        self.stopping = False  # agreed among all

    def fit(self, phases: list[Phase], resume: bool = False) -> DiffSal | None:
        state = self.folder.load_checkpoint() if resume else None
        if state is not None:
            self.restore(state)
        first = 0
        with _Signals(self), Meter(self.folder, self.config, phases, self.shard, self.step) as meter:
            for phase in phases:
                if self.step < first + phase.num_steps:
                    if not self.run_phase(phase, first, state, meter):
                        return None
                    state = None
                first += phase.num_steps
        return self.average

    def run_phase(self, phase: Phase, first: int, state: dict[str, Any] | None, meter: Meter) -> bool:
        """The rest of a phase that began after ``first`` steps; False where a signal ended it early."""
        network = phase.prepare(self.model)
        optimiser = self.optimiser(phase)
        network, optimiser = self.accelerator.prepare(network, optimiser)
        rest_alike(self.average, self.model)
        if state is not None and state["phase"] == phase.name:  # else the checkpoint is from the end of the one before
            optimiser.load_state_dict(state["optimiser"])
            if self.accelerator.scaler is not None and state["scaler"]:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        batches = phase.batches(self.step - first)
        phase.train_mode(self.model)
        end = first + phase.num_steps
        while self.step < end:
            factor = learning_rate_factor(self.config, self.step - first, phase.num_steps)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            loss = self.train_step(phase, network, optimiser, batches)
            self.step += 1
            update_average(self.average, self.model, phase.ema_decay, self.step)
            meter.advance(self.step, phase, loss, optimiser.param_groups[0]["lr"])
            validated = self.step == end or self.step % self.config.validation_steps == 0
            if validated or self.stopping or self.step % self.config.checkpoint_steps == 0:
                self.save(phase, optimiser)
            if self.stopping and self.step < meter.total:
                return False
            if validated:
                self.validate(phase, meter)
        return True

    def train_step(self, phase: Phase, network: nn.Module, optimiser: Any, batches: Iterator[Any]) -> float:
        """One optimiser step; the mean loss over all processes. The weights have not moved where it raises."""
        totals = torch.zeros(5, dtype=torch.float64)  # loss, samples, batches not finite, samples not read, signals
        culprits: list[str] = []
        problems: list[str] = []
        torch.manual_seed(step_seed(self.config.seed, self.step, self.shard.rank))  # of dropout and stochastic depth
        for _ in range(self.config.accumulation):
            batch = next(batches)
            with self.accelerator.accumulate(network):
                losses = phase.losses(network, batch)
                self.accelerator.backward(losses.mean())
                finite = bool(losses.detach().isfinite().all())
                culprits += [] if finite else batch.names
                totals += torch.tensor([
                    losses.detach().double().sum().item(), len(losses), not finite, len(batch.problems), 0,
                ], dtype=torch.float64)
                problems += batch.problems
                if self.accelerator.sync_gradients:
                    self.check(phase, totals, culprits, problems)
                    self.accelerator.clip_grad_norm_(network.parameters(), self.config.clip_norm)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)  # here, so that the next phase finds none of this one's
        return (totals[0] / totals[1]).item()

    def check(self, phase: Phase, totals: Tensor, culprits: list[str], problems: list[str]) -> None:
        """Sum ``totals`` over the processes, in place, and stop all of them where one has reason to."""
        totals[4] = self.stopped_by is not None
        here = totals.to(self.accelerator.device, torch.float32 if self.accelerator.device.type == "mps" else None)
        totals.copy_(reduce(here, "sum"))
        self.stopping = bool(totals[4])
        if totals[3]:
            for problem in gather_object(problems):
                self.folder.tell(self.step + 1, problem)
        if totals[2]:
            names = ", ".join(gather_object(culprits))
            raise InputError(
                f"step {self.step + 1}: the loss is not finite on {names}; look at these samples, or lower "
                f"learning_rate; the last checkpoint is from before"
            )
        samples_before = self.step * self.config.batch_size
        if samples_before // phase.epoch_examples != (samples_before + totals[1].item()) // phase.epoch_examples:
            self.broken = 0
        self.broken += int(totals[3])
        if self.broken > MOST_BROKEN * phase.epoch_examples:
            raise InputError(
                f"step {self.step + 1}: {self.broken} samples of an epoch of {phase.epoch_examples} cannot be read, "
                "more than 1 %: check the data with `diffsal validate`, then --resume"
            )

    # --- weights, scores, checkpoints -----------------------------------------------------------------------------

    def optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        groups = phase.parameter_groups(self.model)
        return torch.optim.AdamW(
            groups, lr=self.config.learning_rate, weight_decay=self.config.weight_decay, eps=self.config.adam_epsilon
        )

    def validate(self, phase: Phase, meter: Meter) -> None:
        """Score the average; the best so far is kept."""
        with meter.watched("validation") as show:
            scores = phase.validate(self.average, show)
        phase.train_mode(self.model)
        meter.scores(self.step, phase, scores)
        if self.shard.rank or not scores:
            return
        known = self.folder.read_json("scores.json", {})
        line = {"step": self.step, "phase": phase.name, **scores}
        if scores.get("CC", -math.inf) > self.best:
            self.best, known["best"] = scores["CC"], line
            save(self.average, self.folder.path / "best.safetensors", {"diffsal.step": str(self.step)})
        self.folder.write_json("scores.json", {**known, "last": line})

    def save(self, phase: Phase, optimiser: Any) -> None:
        """Everything that a resumed run needs: what it draws is a function of the seed and the step."""
        if self.shard.rank:
            return
        scaler = self.accelerator.scaler
        self.folder.save_checkpoint({
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimiser": optimiser.state_dict(), "scaler": scaler.state_dict() if scaler is not None else {},
            "phase": phase.name, "step": self.step, "broken": self.broken,
            "epoch": self.step * self.config.batch_size / phase.epoch_examples,
        })

    def restore(self, state: dict[str, Any]) -> None:
        """Weights and counts from a checkpoint; the optimiser follows when its phase begins."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.step, self.broken = state["step"], state["broken"]
        self.best = self.folder.read_json("scores.json", {}).get("best", {}).get("CC", -math.inf)
        self.folder.rewind_log(self.step)


def step_seed(seed: int, step: int, rank: int) -> int:
    """What seeds torch's random numbers in one process's step: a resumed run draws what it would have drawn."""
    return int(np.random.SeedSequence([seed, 3, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and batch statistics, faster at first; counters are copied."""
    decay = min(decay, (1 + step) / (10 + step))
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point() and decay > 0:
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])


@torch.no_grad()
def rest_alike(average: nn.Module, model: nn.Module) -> None:
    """What does not learn is the same in both: kept features are then those of the weights that are scored."""
    for kept, value in zip(average.parameters(), model.parameters(), strict=True):
        if not value.requires_grad:
            kept.copy_(value)


def learning_rate_factor(config: TrainConfig, step: int, num_steps: int) -> float:
    """Linear warm-up, then as ``config.schedule`` says: ``decay`` at each milestone, or half a cosine to 2 %."""
    if step < config.warm_up_steps:
        return (step + 1) / config.warm_up_steps
    if config.schedule == "steps":
        return config.decay ** sum(step >= m * num_steps for m in config.milestones)
    done = (step - config.warm_up_steps) / max(1, num_steps - config.warm_up_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def accelerator_of(config: TrainConfig) -> Accelerator:
    """This process's place in the run. Raises :class:`InputError` where the machine cannot do what is asked."""
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise InputError("precision=fp16: needs a GPU; use bf16 or fp32 on this machine")
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")  # channels last
    AcceleratorState._reset_state()  # of an earlier run in this process, which may have had another precision
    return Accelerator(
        cpu=not has_gpu,
        mixed_precision={"fp32": "no"}.get(config.precision, config.precision),
        gradient_accumulation_steps=config.accumulation,
    )


def shard_of(config: TrainConfig, accelerator: Accelerator) -> Shard:
    parts = accelerator.num_processes * config.accumulation
    if config.batch_size % parts:
        raise InputError(
            f"batch_size is {config.batch_size}: not divisible by {accelerator.num_processes} processes times "
            f"{config.accumulation} micro-batches; give a multiple of {parts}"
        )
    return Shard(
        accelerator.process_index, accelerator.num_processes, accelerator.device, config.batch_size // parts,
        config.accumulation,
    )


class _Signals:
    """While this lasts, SIGTERM and Ctrl-C end the run after the step at hand; a second one ends it at once.

    In a thread that is not the main one, such as Ray Train's, signals are left to whoever has that one.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self.before[number] = signal.signal(number, self.note)

    def note(self, number: int, frame: Any) -> None:
        if self.engine.stopped_by is not None:
            signal.signal(number, self.before[number])
            signal.raise_signal(number)
        self.engine.stopped_by = number

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
