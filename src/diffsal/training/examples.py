"""Training examples: example ``n`` is a function of the seed and ``n``, whoever reads it and when.

Stills and windows, decoded or packed, of the gaze layout or of a database: each is an :class:`Example`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffsal.data.workers import end_with_parent
from diffsal.errors import InputError
from diffsal.training.objective import Noising
from diffsal.training.reader import Reader
from diffsal.training.samplers import Sampler, View

MOST_ATTEMPTS = 10  # other views in place of one that cannot be read

Scales = list[Tensor]
Find = Callable[[View], "Scales | None"]  # a window's features where a frozen encoder's are kept


@dataclass(eq=False)
class Example:
    """One view with everything that Algorithm 1 draws for it.

    ``frames``: the window's, or one for a still; None where ``scales``, a frozen encoder's features, are there already.
    ``target`` S_0, ``noise`` ε, ``x_t`` S_t and ``t``. ``mel``: the audio encoder's input, None for a still and in a
    network without sound. ``heard`` and ``seen`` are False where the example is without sound or without picture.
    ``motion`` and ``sound`` are the finish's priors, for scores.
    """

    view: View
    name: str
    frames: UInt8[Tensor, "f h w 3"] | None
    scales: Scales | None
    mel: Float[Tensor, "1 n m k"] | None
    heard: Bool[Tensor, ""]
    seen: Bool[Tensor, ""]
    target: Float[Tensor, "1 h w"]
    fixated: Bool[Tensor, "1 h w"] | None
    noise: Float[Tensor, "1 h w"]
    x_t: Float[Tensor, "1 h w"]
    t: Int[Tensor, ""]
    motion: Float[np.ndarray, "h2 w2"] | None = None
    sound: Float[np.ndarray, "h3 w3"] | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Batch:
    """Examples together: tensors stacked along a first dimension b, the others as lists."""

    views: list[View]
    names: list[str]
    problems: list[str]
    frames: list[Tensor | None]
    scales: list[Scales | None]
    mel: Float[Tensor, "b 1 n m k"] | None
    heard: Bool[Tensor, " b"]
    seen: Bool[Tensor, " b"]
    target: Float[Tensor, "b 1 h w"]
    fixated: Bool[Tensor, "b 1 h w"] | None
    noise: Float[Tensor, "b 1 h w"]
    x_t: Float[Tensor, "b 1 h w"]
    t: Int[Tensor, " b"]
    motion: list[np.ndarray | None]
    sound: list[np.ndarray | None]

    @classmethod
    def of(cls, examples: list[Example]) -> Batch:
        def listed(name: str) -> list[Any]:
            return [getattr(example, name) for example in examples]

        def stacked(name: str) -> Any:
            values = listed(name)
            return None if any(v is None for v in values) else torch.stack(values)

        return cls(
            views=listed("view"), names=listed("name"), problems=[p for e in examples for p in e.problems],
            frames=listed("frames"), scales=listed("scales"), mel=stacked("mel"), heard=stacked("heard"),
            seen=stacked("seen"), target=stacked("target"), fixated=stacked("fixated"), noise=stacked("noise"),
            x_t=stacked("x_t"), t=stacked("t"), motion=listed("motion"), sound=listed("sound"),
        )

    def to(self, device: torch.device) -> Batch:
        """The same with its tensors on ``device``."""
        return replace(self, **{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})

    def pin_memory(self) -> Batch:
        pinned: dict[str, Any] = {name: value.pin_memory() for name, value in vars(self).items()
                                  if isinstance(value, Tensor)}
        return replace(self, **pinned)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return [_moved(v, device) for v in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Shares:
    """Of the examples: those without sound, those with another clip's or moment's, those without picture."""

    mute: float = 0.0
    other_sound: float = 0.0
    blind: float = 0.0


class Examples(Dataset):
    """Examples of one phase by number. One that cannot be read is replaced by another, and told in its ``problems``.

    ``stream`` keeps the phases' random numbers apart. ``find`` looks a window's features up where they are kept.
    """

    def __init__(
        self, reader: Reader, sampler: Sampler, noising: Noising, shares: Shares, seed: int, stream: int = 0,
        find: Find | None = None,
    ) -> None:
        self.reader, self.sampler, self.noising, self.shares = reader, sampler, noising, shares
        self.seed, self.stream, self.find = seed, stream, find

    def __len__(self) -> int:
        """Of an epoch."""
        return self.sampler.epoch_examples

    def __getitem__(self, number: int) -> Example:
        problems: list[str] = []
        for attempt in range(MOST_ATTEMPTS):
            rng = self._rng(number, attempt)
            view = self.sampler.choose(number, attempt, rng)
            try:
                example = self.draw(view, rng)
                if not example.target.any():  # nobody looked: another is drawn, as the released code does
                    continue
                return replace(example, problems=problems)
            except (InputError, OSError, ValueError) as error:
                problems.append(f"{self.reader.name(view)} skipped: {error}")
        last = problems[-1] if problems else "their maps are all zero"
        raise InputError(f"{MOST_ATTEMPTS} windows one after another cannot be learned from: {last}")

    def view(self, number: int) -> View:
        """The first that is tried for example ``number``."""
        return self.sampler.choose(number, 0, self._rng(number, 0))

    def _rng(self, number: int, attempt: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 2, self.stream, number, attempt])

    def draw(self, view: View, rng: np.random.Generator) -> Example:
        """The view with its timestep, its noise and its sound."""
        shares, target = self.shares, self.reader.target(view)
        x_t, t, noise = self.noising.draw(target, rng)
        chance, is_blind = rng.random(), bool(rng.random() < shares.blind)
        muted = chance < shares.mute
        other = rng if shares.mute <= chance < shares.mute + shares.other_sound else None
        mel, heard = self.reader.sound(view, muted, other)
        return _example(self.reader, view, self.find, mel, heard, not is_blind, target, noise, x_t, t)


class ScoredExamples(Dataset):
    """Windows for validation: of each of ``chosen`` clips the annotated frames by ``stride``.

    At most ``count`` in all, evenly spread.

    An example's noise is seeded by its number; ``t`` is not used. What cannot be read is a line that says so.
    """

    def __init__(
        self, reader: Reader, chosen: list[int], stride: int, count: int, blind: bool = False, priors: bool = False,
        find: Find | None = None,
    ) -> None:
        self.reader, self.blind, self.priors, self.find = reader, blind, priors, find
        self.problems: list[str] = []
        views = [View(clip, i) for clip in chosen for i in self._annotated(clip)[::stride]]
        count = min(count, len(views))
        self.views = [views[i * len(views) // count] for i in range(count)]

    def _annotated(self, clip: int) -> list[int]:
        try:
            return self.reader.annotated(clip)
        except (InputError, OSError) as error:
            self.problems.append(str(error))
            return []

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, number: int) -> Example | str:
        view, reader = self.views[number], self.reader
        try:
            target = reader.target(view)
            mel, heard = reader.sound(view, muted=False)
            noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(number))
            example = _example(reader, view, self.find, mel, heard, not self.blind, target, noise, noise,
                               torch.tensor(0))
            motion, sound = reader.priors(view, self.views) if self.priors else (None, None)
            return replace(example, motion=motion, sound=sound)
        except (InputError, OSError, ValueError) as error:
            return f"{reader.name(view)} not scored: {error}"


def _example(
    reader: Reader, view: View, find: Find | None, mel: Tensor | None, heard: bool, seen: bool, target: Tensor,
    noise: Tensor, x_t: Tensor, t: Tensor,
) -> Example:
    scales = find(view) if find is not None else None
    frames = torch.from_numpy(reader.frames(view)) if scales is None else None
    return Example(view, reader.name(view), frames, scales, mel, torch.tensor(heard), torch.tensor(seen), target,
                   reader.fixated(view), noise, x_t, t)


def load_batches(
    examples: Examples, numbers: Iterable[list[int]], num_workers: int, pinned: bool
) -> Iterator[Batch]:
    """The batches of ``numbers`` in their order, read by ``num_workers`` processes (0: by this one)."""
    return iter(DataLoader(
        examples, batch_sampler=_Listed(numbers), num_workers=num_workers, collate_fn=Batch.of, pin_memory=pinned,
        worker_init_fn=quieten if num_workers else None, generator=torch.Generator(),  # not the run's random state
    ))


class _Listed:
    """A batch sampler over batches that are known already."""

    def __init__(self, batches: Iterable[list[int]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def quieten(worker: int) -> None:
    """A worker ends when its training process does, not by a signal to the whole group; and computes on one thread."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
