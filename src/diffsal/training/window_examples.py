"""Windows of clips as training samples: sample ``n`` is a function of the seed and ``n``, whoever reads it and when.

So a run that goes on draws what it would have drawn, with any number of worker processes, and several processes share
a batch by its samples' numbers.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffsal.config import DatabaseConfig, ModelConfig
from diffsal.data.clip import Clip
from diffsal.data.workers import end_with_parent
from diffsal.diffusion.schedule import NoiseSchedule
from diffsal.errors import InputError
from diffsal.media.mel import MelTrack, Sound
from diffsal.media.windows import window_indices

MOST_ATTEMPTS = 10  # other windows in place of one that cannot be read
CACHED_TRACKS = 32  # sounds that each worker keeps open
SILENCE = Sound(np.zeros(1, np.int16), 16_000)

Scales = list[Tensor]


@dataclass(frozen=True)
class Window:
    """Which window of which clip, by position in the list of clips; mirrored left to right or not."""

    clip: int
    index: int
    mirrored: bool = False


@dataclass(eq=False)
class Sample:
    """One window with everything that Algorithm 1 draws for it.

    ``frames`` uint8 (f, h, w, 3), or None where ``scales``, a frozen encoder's features, are there already;
    ``target`` S_0, ``noise`` ε and ``x_t`` S_t, each (1, h, w); ``t`` (); ``mel`` the audio encoder's input or None;
    ``heard`` () bool, False where the clip has no sound or trains without it.
    """

    window: Window
    name: str
    frames: Tensor | None
    scales: Scales | None
    mel: Tensor | None
    heard: Tensor
    target: Tensor
    noise: Tensor
    x_t: Tensor
    t: Tensor
    fixations: Tensor | None = None  # bool (h2, w2), for scores
    truth: Tensor | None = None  # the map at its own size (h2, w2), for scores
    problems: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Batch:
    """Samples together: tensors stacked along a first dimension b, the others as lists."""

    windows: list[Window]
    names: list[str]
    problems: list[str]
    frames: list[Tensor | None]
    scales: list[Scales | None]
    mel: Tensor | None
    heard: Tensor
    target: Tensor
    noise: Tensor
    x_t: Tensor
    t: Tensor
    fixations: list[Tensor | None]
    truth: list[Tensor | None]

    @classmethod
    def of(cls, samples: list[Sample]) -> Batch:
        def stacked(name: str) -> Tensor:
            return torch.stack([getattr(s, name) for s in samples])

        return cls(
            [s.window for s in samples], [s.name for s in samples], [p for s in samples for p in s.problems],
            [s.frames for s in samples], [s.scales for s in samples],
            None if samples[0].mel is None else stacked("mel"),
            *(stacked(name) for name in ("heard", "target", "noise", "x_t", "t")),
            [s.fixations for s in samples], [s.truth for s in samples],
        )

    def to(self, device: torch.device) -> Batch:
        """The same with the network's tensors on ``device``."""
        moved = {f.name: _moved(getattr(self, f.name), device) for f in fields(self)
                 if f.name not in ("fixations", "truth")}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        return replace(self, **{
            name: value.pin_memory() for name in ("mel", "heard", "target", "noise", "x_t", "t")
            if (value := getattr(self, name)) is not None
        })


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return [_moved(v, device) for v in value] if isinstance(value, list) else value


class Samples(Dataset):
    """Training samples by number: number ``n`` is in epoch ``n // len(self)``, where every window comes once.

    A window that cannot be read is replaced by another of the epoch, and told in the sample's ``problems``.
    ``find_scales`` looks a window's features up where a frozen encoder's are kept.
    """

    def __init__(
        self, clips: list[Clip], model: ModelConfig, config: DatabaseConfig,
        find_scales: Callable[[Clip, Window], Scales | None] | None = None,
    ) -> None:
        self.reader = Reader(clips, model, find_scales)
        self.config, self.model = config, model
        self.places, self.problems = places(clips, config.window_stride)
        self.order = lru_cache(maxsize=2)(self._order)
        if not self.places:
            first = f" ({self.problems[0]})" if self.problems else ""
            raise InputError(f"{len(clips)} clips hold no window with ground truth{first}: see `diffsal validate`")

    @property
    def clips(self) -> list[Clip]:
        return self.reader.clips

    def __len__(self) -> int:
        return len(self.places)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "order": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, order=lru_cache(maxsize=2)(self._order))

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.config.seed, 1, epoch]).permutation(len(self.places))

    def __getitem__(self, number: int) -> Sample:
        epoch, position = divmod(number, len(self.places))
        place = self.order(epoch)[position]
        problems: list[str] = []
        for attempt in range(MOST_ATTEMPTS):
            rng = np.random.default_rng([self.config.seed, 2, number, attempt])
            clip, frames = self.places[place]
            index = frames[int(rng.integers(len(frames)))] if self.config.jitter else frames[len(frames) // 2]
            window = Window(clip, index, self.config.mirror and bool(rng.random() < 0.5))
            try:
                sample = self.draw(window, rng)
            except (InputError, OSError, ValueError) as error:
                problems.append(f"{self.reader.name(window)} skipped: {error}")
                place = int(rng.integers(len(self.places)))
                continue
            return replace(sample, problems=problems)
        raise InputError(f"{MOST_ATTEMPTS} windows one after another cannot be read, the last: {problems[-1]}")

    def draw(self, window: Window, rng: np.random.Generator) -> Sample:
        """The window with its timestep and noise."""
        config, schedule = self.config, schedule_of()
        t = int(rng.integers(schedule.num_timesteps))
        if rng.random() < config.last_timestep_share:
            t = schedule.num_timesteps - 1
        muted = bool(rng.random() < config.mute_share)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        sample = self.reader.read(window, muted)
        noise = torch.randn(sample.target.shape, generator=generator)
        jittered = sample.target + config.target_noise * torch.randn(sample.target.shape, generator=generator)
        x_t = schedule.add_noise(jittered[None], noise[None], torch.tensor([t]))[0]
        return replace(sample, noise=noise, t=torch.tensor(t), x_t=x_t)


class ScoredSamples(Dataset):
    """Evenly spaced windows of ``clips`` for validation: the target's own frame, its fixations, and seeded noise."""

    def __init__(
        self, clips: list[Clip], model: ModelConfig, count: int,
        find_scales: Callable[[Clip, Window], Scales | None] | None = None,
    ) -> None:
        self.reader = Reader(clips, model, find_scales)
        found, self.problems = places(clips, 1)
        count = min(count, len(found))
        spread = (found[i * len(found) // count] for i in range(count))
        self.windows = [Window(clip, frames[0]) for clip, frames in spread]

    @property
    def clips(self) -> list[Clip]:
        return self.reader.clips

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, number: int) -> Sample | str:
        window = self.windows[number]
        try:
            sample = self.reader.read(window, False)
            clip = self.reader.clips[window.clip]
            fixations = clip.fixations(window.index)
            truth = torch.from_numpy(np.ascontiguousarray(clip.saliency_map(window.index)))
        except (InputError, OSError, ValueError) as error:
            return f"{self.reader.name(window)} not scored: {error}"
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(sample.target.shape, generator=generator)
        points = None if fixations is None else torch.from_numpy(np.ascontiguousarray(fixations))
        return replace(sample, noise=noise, x_t=noise, truth=truth, fixations=points)


class Reader:
    """Windows of clips at the network's size."""

    def __init__(
        self, clips: list[Clip], model: ModelConfig,
        find_scales: Callable[[Clip, Window], Scales | None] | None = None,
    ) -> None:
        self.clips, self.model, self.find_scales = clips, model, find_scales
        self.track = lru_cache(maxsize=CACHED_TRACKS)(self._track)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "track": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, track=lru_cache(maxsize=CACHED_TRACKS)(self._track))

    def name(self, window: Window) -> str:
        clip = self.clips[window.clip]
        return f"{clip.dataset} {clip.name} frame {window.index}"

    def read(self, window: Window, muted: bool) -> Sample:
        """The sample without noise (``x_t`` is zero, ``t`` 0)."""
        clip, size = self.clips[window.clip], (self.model.width, self.model.height)
        truth = cv2.resize(clip.saliency_map(window.index), size, interpolation=cv2.INTER_LINEAR)
        target = torch.from_numpy(_turned(truth, window.mirrored))[None].float().clamp(0, 1)
        if not target.isfinite().all():
            raise InputError(f"{clip.map_path(window.index)}: the map holds NaN; fetch it again")
        scales = self.find_scales(clip, window) if self.find_scales is not None else None
        mel, heard = self.sound(window, muted)
        zero = torch.zeros_like(target)
        return Sample(
            window, self.name(window), self.frames(window) if scales is None else None, scales, mel,
            torch.tensor(heard), target, zero, zero, torch.tensor(0),
        )

    def frames(self, window: Window) -> Tensor:
        """uint8 (f, h, w, 3): each frame that the window needs is decoded and reduced once."""
        clip = self.clips[window.clip]
        wanted = window_indices(window.index, clip.num_frames, self.model.num_frames)
        distinct = sorted(set(wanted))
        images = [
            _turned(cv2.resize(image, (self.model.width, self.model.height), interpolation=cv2.INTER_AREA),
                    window.mirrored)
            for image in clip.frames(distinct)
        ]
        return torch.from_numpy(np.stack([images[distinct.index(i)] for i in wanted]))

    def sound(self, window: Window, muted: bool) -> tuple[Tensor | None, bool]:
        """The audio encoder's input and whether there is anything to hear: silence where there is no sound."""
        if self.model.audio_encoder is None:
            return None, False
        clip = self.clips[window.clip]
        track = None if muted or not clip.has_sound else self.track(window.clip)
        heard = track is not None
        track = track if track is not None else MelTrack(self.model, SILENCE)
        return torch.from_numpy(track.window(clip.seconds(window.index), clip.frame_rate, window.index)), heard

    def _track(self, clip: int) -> MelTrack | None:
        by_time = self.model.preprocessing.sound == "timestamps"
        sound = self.clips[clip].sound() if by_time else self.clips[clip].sound(None)
        return None if sound is None else MelTrack(self.model, sound)


def places(clips: list[Clip], stride: int) -> tuple[list[tuple[int, list[int]]], list[str]]:
    """Each clip's annotated frames cut into runs of ``stride``, as (clip, frames); and clips that cannot be opened."""
    found: list[tuple[int, list[int]]] = []
    problems: list[str] = []
    for number, clip in enumerate(clips):
        try:
            annotated = clip.annotated
        except (InputError, OSError) as error:
            problems.append(str(error))
            continue
        found += [(number, annotated[i : i + stride]) for i in range(0, len(annotated), stride)]
    return found, problems


@lru_cache(maxsize=1)
def schedule_of() -> NoiseSchedule:
    return NoiseSchedule.cosine()


def _turned(image: np.ndarray, mirrored: bool) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1]) if mirrored else image


def load_batches(
    samples: Samples, numbers: Iterator[list[int]], num_workers: int, pinned: bool
) -> Iterator[Batch]:
    """The batches of ``numbers`` in their order, read by ``num_workers`` processes (0: by this one)."""
    loader = DataLoader(
        samples, batch_sampler=_Listed(numbers), num_workers=num_workers, collate_fn=Batch.of, pin_memory=pinned,
        worker_init_fn=quieten if num_workers else None, generator=torch.Generator(),  # not the run's random state
    )
    return iter(loader)


class _Listed:
    """A batch sampler over batches that are known already."""

    def __init__(self, batches: Iterator[list[int]]) -> None:
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
