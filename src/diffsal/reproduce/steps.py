"""What a target is made of: trainings, evaluations, a drawing. Each knows its needs, its result, its cost, its command.

A command is a line for a shell: run again it goes on, and it can be run on any machine that sees the same folders.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from diffsal.bars import watched
from diffsal.config import ModelConfig
from diffsal.data.databases import root_of
from diffsal.errors import InputError
from diffsal.reproduce.costs import Cost, evaluation_cost, training_cost
from diffsal.runtime.loading import load_engine
from diffsal.scoring.evaluate import evaluate
from diffsal.scoring.results import read
from diffsal.training.recipes import CHANGEABLE, configure, train


class Step(Protocol):
    """One piece of work. :meth:`run` does it; done is what has left its result, whoever made it."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Sequence[Step]: ...
    @property
    def is_done(self) -> bool: ...

    def cost(self) -> Cost: ...

    def check(self) -> None:
        """Before anything is done: raises :class:`InputError` where this step cannot be, or was another's."""
        ...

    def run(self) -> list[str]:
        """Do it; problems, a line each. Raises :class:`InputError` where it could not be done."""
        ...


class Network(Protocol):
    """Where weights come from: a file that was given, or a training."""

    @property
    def name(self) -> str: ...
    @property
    def weights(self) -> Path: ...


@dataclass(frozen=True)
class Given:
    """Weights that were given: nothing is trained."""

    name: str
    weights: Path


@dataclass(frozen=True)
class Training:
    """``diffsal train RECIPE`` into ``folder``; ``init`` are files, or the training that comes first.

    ``lacks`` says which pretrained weights nobody gave.
    """

    name: str
    recipe: str
    data: Path
    folder: Path
    settings: tuple[str, ...]
    init: tuple[Path | Training | Given, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[Training, ...]:
        return tuple(step for step in self.init if isinstance(step, Training))

    @property
    def is_done(self) -> bool:
        return (self.folder / f"{self.recipe}.safetensors").exists()

    @property
    def weights(self) -> Path:
        """The best on held-out videos; the last where nothing was held out."""
        last = self.folder / f"{self.recipe}.safetensors"
        best = self.folder / "best.safetensors"
        return last if last.exists() and not best.exists() else best

    def init_files(self) -> list[Path]:
        return [place if isinstance(place, Path) else place.weights for place in self.init]

    def command(self) -> str:
        init = [word for path in self.init_files() for word in ("--init", str(path))]
        return shlex.join(["diffsal", "train", self.recipe, "--data", str(self.data), "--out", str(self.folder), *init,
                           "--resume", *self.settings])

    def cost(self) -> Cost:
        return training_cost(self.recipe, self.settings, self.data)

    def run(self) -> list[str]:
        if train(self.recipe, self.data, self.folder, self.init_files(), True, list(self.settings)) is None:
            raise InputError(f"{self.folder}: stopped and saved; the same command goes on")
        return []

    def check(self) -> None:
        """A finished training had these settings, and one that is to begin has weights to start from."""
        found = self.folder / "config.json"
        if self.is_done and found.exists():
            wanted, there = configure(self.recipe, list(self.settings)), json.loads(found.read_text())
            for part, settings in (("model", wanted.model), ("train", wanted.train)):
                before = type(settings).from_dict(there[part])
                for key, value in vars(settings).items():
                    if key not in CHANGEABLE and getattr(before, key) != value:
                        raise InputError(f"{self.folder}: was trained with {key}={getattr(before, key)}, not {value}; "
                                         "give another --out")
        if not self.is_done and self.lacks:
            names = " ".join(f"--init {name}=FILE" for name in self.lacks)
            raise InputError(f"{self.name}: the paper starts from pretrained encoders: give {names} (docs/paper.md), "
                             "or NAME=none to start from nothing")


@dataclass(frozen=True)
class Evaluation:
    """``diffsal evaluate DATASET`` of a network's weights into ``out``; ``maps``: the folder that keeps every map."""

    network: Network
    dataset: str
    data: Path
    out: Path
    protocol: str
    fold: int | None = None
    maps: Path | None = None
    device: str = "cpu"
    workers: int = 1

    @property
    def name(self) -> str:
        return f"{self.network.name} on {self.dataset}" + (f", fold {self.fold}" if self.fold else "")

    @property
    def needs(self) -> tuple[Training, ...]:
        return (self.network,) if isinstance(self.network, Training) else ()

    @property
    def is_done(self) -> bool:
        return (self.out / "scores.json").exists()

    @property
    def root(self) -> Path:
        return root_of(self.data, self.dataset)

    def command(self) -> str:
        options = {"--fold": self.fold, "--maps": self.maps, "--device": self.device if self.device != "cpu" else None}
        given = [word for key, value in options.items() if value is not None for word in (key, str(value))]
        return shlex.join(["diffsal", "evaluate", self.dataset, "--data", str(self.root), "--weights",
                           str(self.network.weights), "--protocol", self.protocol, *given, "--no-baselines",
                           "--workers", str(self.workers), "--out", str(self.out)])

    def cost(self) -> Cost:
        return evaluation_cost(config_of(self.network), self.dataset, self.data, self.fold, self.maps is not None)

    def run(self) -> list[str]:
        try:
            with watched(self.name, unit="clips/s") as show:
                document = evaluate(
                    self.dataset, self.root, self.network.weights, self.out, protocol=self.protocol, fold=self.fold,
                    device=self.device, maps=self.maps, baselines=False, workers=self.workers, on_done=show)
        except KeyboardInterrupt:
            raise InputError(f"{self.out}: stopped; the same command goes on where it stood") from None
        return document["problems"]

    def scores(self) -> dict:
        return read(self.out / "scores.json")

    def check(self) -> None:
        """Scores that lie there are of these weights."""
        if self.is_done and isinstance(self.network, Given):
            there = self.scores()["settings"]["networks"][0]["weights"]
            if there != str(self.network.weights):
                raise InputError(f"{self.out}: holds scores of {there}, not of {self.network.weights}; give another "
                                 "--out")


@dataclass(frozen=True)
class Drawing:
    """The last step: what the target shows, from what its ``needs`` have left. ``draw`` returns problems."""

    name: str
    needs: tuple[Training | Evaluation, ...]
    results: tuple[Path, ...]
    draw: Callable[[], list[str]]

    @property
    def is_done(self) -> bool:
        """Never: it is cheap, and what it is drawn from may have changed."""
        return False

    def cost(self) -> Cost:
        return Cost(0.0, 0.0)

    def run(self) -> list[str]:
        return self.draw()

    def check(self) -> None:
        """Nothing can be wrong before."""


def config_of(network: Network) -> ModelConfig:
    """What a network is: as it is trained, or as the weights that were given say."""
    if isinstance(network, Training):
        return configure(network.recipe, list(network.settings)).model
    return load_engine(str(network.weights)).config


def in_order(goal: Step, missing_only: bool = False) -> list[Step]:
    """``goal`` and all that it needs, each once, after what it needs itself.

    With ``missing_only`` nothing that is done, nor what only that needs.
    """
    found: dict[str, Step] = {}

    def add(step: Step) -> None:
        if step.name in found or (missing_only and step.is_done):
            return
        for first in step.needs:
            add(first)
        found[step.name] = step

    add(goal)
    return list(found.values())
