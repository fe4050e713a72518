"""A video in, one saliency map per frame out, as a stream."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffsal.config import SamplingConfig, Spacing
from diffsal.errors import InputError
from diffsal.media.mel import Sound
from diffsal.media.source import Frame, Source, open_source
from diffsal.media.threads import PREFETCHED, ahead, prefetch, result_of, worker_threads
from diffsal.networks.diffsal import DiffSal
from diffsal.prediction.finish import finished, moving_alone
from diffsal.prediction.hearing import Heard, Hearing
from diffsal.runtime.fused import for_inference

FRAMES_PER_CALL = {("cpu", True): 2, ("cpu", False): 1, ("gpu", True): 16, ("gpu", False): 4}  # by frame?
PREFETCHED_BYTES = 64 << 20  # fewer where pictures are large: 2 of 4K
HALVED_RATE = 20.0  # frames per second above which every second frame goes through the network


@dataclass(frozen=True, eq=False)
class Prediction:
    """One frame: 0-based index, time in seconds, float32 saliency (height, width) in [0, 1], and the RGB picture.

    With several samples ``saliency`` is their mean and ``spread`` (height, width) their standard deviation; else None.
    """

    index: int
    seconds: float
    saliency: np.ndarray
    image: np.ndarray
    spread: np.ndarray | None = None


class Drawn(NamedTuple):
    """A frame and the maps drawn of it, (samples, height, width) at the network's size."""

    frame: Frame
    maps: np.ndarray

    def prediction(self) -> Prediction:
        frame, maps = self
        spread = _at_size(maps.std(0, ddof=1), frame.image) if len(maps) > 1 else None
        return Prediction(frame.index, frame.seconds, _at_size(maps.mean(0), frame.image), frame.image, spread)


def predict(
    model: DiffSal,
    source: str | Path | int | Source,
    *,
    steps: int = 1,
    seed: int = 0,
    spacing: Spacing = "linspace",
    mute: bool = False,
    start: float | None = None,
    end: float | None = None,
    indices: Collection[int] | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    samples: int = 1,
    every: int | None = None,
) -> Iterator[Prediction]:
    """Algorithm 2 for every frame of ``source`` (anything that :func:`diffsal.media.source.open_source` takes).

    A frame's window is the 16 frames around it, the clip's first and last repeating at its ends; its noise comes from
    its own generator, so ``batch_size``, ``start`` and ``end`` do not change a frame's map. ``start`` and ``end`` are
    seconds: frames before ``start`` or from ``end`` on are left out, but still stand in the windows of those inside.
    With ``indices`` only these frames get a map; the others are read for their windows. ``mute`` ignores the sound.
    Predictions come as soon as their windows are whole; memory does not grow.
    ``batch_size`` frames go through the network together; by default as many as are fastest. ``samples`` maps are drawn
    of each frame, the k-th as the seed ``seed + k`` draws it: a prediction holds their mean and spread.
    Frames whose index is a multiple of ``every`` go through the network; a map between two of them is the weighted mean
    of theirs. By default that is every frame or every second one, see :func:`usual_every`.

    Raises :class:`diffsal.errors.InputError` for a source that cannot be read and ``ValueError`` for settings. What is
    damaged in the middle of a file, or missing at its end, is in ``source.problems``; where ``source`` is not yet
    opened, each problem is a ``UserWarning`` after the last frame.
    """
    sampling = SamplingConfig(steps, spacing, seed)
    if start is not None and end is not None and end <= start:
        raise ValueError(f"end is {end} s, expected more than start, {start} s")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    if samples < 1:
        raise ValueError(f"samples is {samples}, expected at least 1")
    if every is not None and not 1 <= every <= model.config.num_frames // 2:
        raise ValueError(f"every is {every}, expected 1 to {model.config.num_frames // 2}")
    check_device(device)
    opened = source if isinstance(source, Source) else open_source(source)
    settings = (opened, sampling, mute, (start, end), device, batch_size, samples, indices,
                every or usual_every(model, opened))
    stream = Stream(model.to(device).eval(), *settings)
    return stream.predictions() if opened is source else _warning(stream.predictions(), opened)


def usual_every(model: DiffSal, source: Source) -> int:
    """2 for a video of more than 20 frames per second and a network that sees single frames; else 1."""
    return 2 if model.encodes_frames and not source.pictures and source.frame_rate > HALVED_RATE else 1


def check_device(device: str) -> None:
    """:class:`InputError` if this machine has no such device, or torch was built without it."""
    kind = torch.device(device).type
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise InputError(f"device {device}: not available on this machine with this build of torch; use cpu")


def queue_size(source: Source, bytes_per_pixel: int) -> int:
    """How many frames of ``source`` may wait between two threads; of a camera few, for they would be old."""
    frame_bytes = max(1, source.height * source.width * bytes_per_pixel)
    return max(1, min(PREFETCHED if source.camera is None else 2, PREFETCHED_BYTES // frame_bytes))


def frame_noise(height: int, width: int, seed: int, index: int) -> Float[Tensor, "1 {height} {width}"]:
    """S_T of one frame, from a generator of its own."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
    return torch.randn(1, height, width, generator=generator)


def _warning(predictions: Iterator[Prediction], source: Source) -> Iterator[Prediction]:
    yield from predictions
    for problem in source.problems:
        warnings.warn(problem, UserWarning, stacklevel=2)


class Stream:
    """One clip on its way through the network.

    Workers encode frames and predict maps; this thread hands them their work and keeps the order. ``kept`` holds what
    windows need of each frame: the features of an encoder that sees single frames, computed once per frame, or else
    the normalised frames themselves.
    """

    def __init__(
        self, model: DiffSal, source: Source, sampling: SamplingConfig, mute: bool,
        span: tuple[float | None, float | None], device: str, batch_size: int | None = None, samples: int = 1,
        indices: Collection[int] | None = None, every: int = 1,
    ) -> None:
        self.samples, self.every = samples, every
        # Of how many frames one is encoded. Where pictures may be missing, indices do not tell which windows need
        self.stride = 1 if source.pictures else math.gcd(every, model.frame_step)
        self.model, self.source, self.sampling, self.span = for_inference(model), source, sampling, span
        self.indices, self.device, self.config = indices, device, model.config
        self.before, self.after = self.config.num_frames // 2, self.config.num_frames // 2 - 1
        preprocessing = self.config.preprocessing
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) * 255 for v in (
            preprocessing.mean, preprocessing.std))
        self.kept = _Kept(self.config.num_frames)
        self.hearings = [self._hearing(None if mute else self._sound())]
        self.num_whole = 0  # frames whose windows have been whole
        # Networks that see single frames keep a CPU busiest with a call per core, each on what its cache holds
        on_cpu, by_frame = torch.device(device).type == "cpu", model.encodes_frames
        self.workers = torch.get_num_threads() if on_cpu and by_frame and source.camera is None else 1
        self.in_flight = self.workers if source.camera is None else 0
        self.batch_size = batch_size or FRAMES_PER_CALL["cpu" if on_cpu else "gpu", by_frame]
        self.pending: deque[_Read] = deque()  # not yet predicted
        self.asked: deque[Frame] = deque()  # these get a map, as soon as their neighbours' are there
        self.owing = False  # whether a frame that the next map is needed for is among them
        self.is_first = True  # the next frame
        self.last: np.ndarray | None = None  # the picture of the last frame, where that is not encoded

    def _sound(self):
        if self.model.audio_encoder is None:
            return None
        return self.source.sound(None) if self.config.preprocessing.sound == "released" else self.source.sound()

    def _hearing(self, sound: Sound | None) -> Hearing:
        return Hearing(self.config, self.model.finish, sound, self.source.frame_rate, self.kept.capacity)

    def predictions(self) -> Iterator[Prediction]:
        frames = prefetch(self._resized(), queue_size(self.source, 3))
        batches = iter(lambda: list(islice(frames, self.batch_size * self.every)), [])
        try:
            with worker_threads(self.workers) as pool:
                encoded = ahead((self._encode_later(pool, batch) for batch in batches), self.workers - 1)
                jobs = (job for features in encoded for job in self._predict_later(pool, features))
                done = ahead(chain(jobs, self._predict_rest(pool)), self.in_flight)
                yield from self.finished(chain.from_iterable(done))
        finally:
            frames.close()

    def _resized(self) -> Iterator[tuple[Frame, np.ndarray]]:
        """The frames that the windows need, each with its picture at the network's size."""
        start, end = self.span
        beyond, further = 0, self.every - 1  # to the next frame that goes through the network
        for frame in self.source.frames(start, self.before + further + self.hearings[0].num_before):
            beyond += end is not None and frame.seconds >= end
            if beyond > self.after + further:
                return
            size = (self.config.width, self.config.height)
            yield frame, cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)

    def _encode_later(self, pool: Executor, batch: list[tuple[Frame, np.ndarray]]) -> Future:
        deep = []
        for i, (frame, _) in enumerate(batch):
            self.pending.append(_Read(frame, self.is_first or frame.index % self.every == 0, self._is_asked(frame)))
            if self.is_first or frame.index % self.stride == 0:
                deep.append(i)
            self.is_first = False
            for hearing in self.hearings:
                hearing.read(frame)
        deep = deep or [0]
        self.last = None if deep[-1] == len(batch) - 1 else batch[-1][1]
        return pool.submit(self._encode, [small for _, small in batch], deep)

    def _is_asked(self, frame: Frame) -> bool:
        start, end = self.span
        inside = (start is None or frame.seconds >= start) and (end is None or frame.seconds < end)
        return inside and (self.indices is None or frame.index in self.indices)

    @torch.inference_mode()
    def _encode(self, images: list[np.ndarray], deep: list[int]) -> list[Tensor]:
        """What windows need of these frames; of those that are not ``deep``, what windows of others need."""
        pixels = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float()
        pixels = pixels.sub_(self.mean).div_(self.std)
        if not self.model.encodes_frames:
            return [pixels]
        return self.model.encode_frames(pixels, None if len(deep) == len(images) else deep)

    def _predict_later(self, pool: Executor, features: list[Tensor]) -> Iterator[Future]:
        """Keep new frames' features; have every map predicted whose window they make whole."""
        if not self.kept.count:
            self.kept.add([x[:1].expand(self.before, *x.shape[1:]) for x in features])  # the first frame repeats
        self.kept.add(features)
        for hearing in self.hearings:
            hearing.encoded(features[0])
        yield from self._predict_whole(pool)

    def _predict_rest(self, pool: Executor) -> Iterator[Future]:
        if self.kept.count:
            last = self.kept.last() if self.last is None else result_of(pool.submit(self._encode, [self.last], [0]))
            self.kept.add([x.expand(self.after, *x.shape[1:]) for x in last])  # the last frame repeats
            yield from self._predict_whole(pool)

    @torch.inference_mode()
    def _predict_whole(self, pool: Executor) -> Iterator[Future]:
        while (count := min(self.batch_size * self.every, self.kept.num_windows)) > 0:
            windows, needed, frames, last = self.kept.windows(count), [], [], []
            for i in range(count):
                read = self.pending.popleft()
                self.num_whole += 1
                if read.asked:
                    self.asked.append(read.frame)
                    self.owing = True
                if read.through:
                    between = takewhile(lambda later: not later.through, self.pending)
                    if self.owing or any(later.asked for later in between):
                        needed.append(i)
                        frames.append(read.frame)
                        last.append(self.num_whole + self.after - 1)
                    self.owing = False
            if frames:
                windows = windows if len(frames) == count else [x[needed] for x in windows]
                heard = (hearing.of(frames, last) for hearing in self.hearings)
                yield pool.submit(self.predict_windows, frames, windows, *heard)

    def finished(self, drawn: Iterator[Drawn]) -> Iterator[Prediction]:
        """The predictions of the frames asked for, from the maps drawn: its own, or its neighbours' weighted mean."""
        before = None
        for here in drawn:
            while self.asked and self.asked[0].index <= here.frame.index:
                frame, maps = self.asked.popleft(), here.maps
                if before is not None and frame.index < here.frame.index:
                    share = (frame.index - before.frame.index) / (here.frame.index - before.frame.index)
                    maps = cv2.addWeighted(before.maps, 1 - share, maps, share, 0)
                yield Drawn(frame, maps).prediction()
            before = here
        while self.asked:
            yield Drawn(self.asked.popleft(), before.maps).prediction()

    @torch.inference_mode()
    def predict_windows(self, frames: list[Frame], windows: list[Tensor], heard: Heard) -> list[Drawn]:
        """The maps of ``frames`` from their windows, (b, c, 16, h, w) each scale, and their sound."""
        mel = None if heard.mel is None else heard.mel.to(self.device)
        if self.model.encodes_frames:
            features = self.model.encode_window(windows, mel)
        else:
            features = self.model.encode(windows[0], mel)
        finish = self.model.finish
        moving = moving_alone(windows[0][:, 0]) if self.model.encodes_frames and finish.motion_gain else None
        size = (self.config.height, self.config.width)
        drawn = []
        for seed in range(self.sampling.seed, self.sampling.seed + self.samples):
            noise = torch.stack([frame_noise(*size, seed, f.index) for f in frames]).to(self.device)
            raw = self.model.sample(features, noise, self.sampling.steps, self.sampling.spacing, enlarged=False)
            maps = self.model.enlarge(finished(raw, finish, moving, heard.synchrony))
            drawn.append(maps[:, 0].float().clamp(0, 1).cpu())
        return [Drawn(f, maps) for f, maps in zip(frames, torch.stack(drawn, dim=1).numpy(), strict=True)]


class _Read(NamedTuple):
    frame: Frame
    through: bool  # the network
    asked: bool


def _at_size(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    return cv2.resize(values, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


class _Kept:
    """Tensors of the frames that windows of ``length`` still need, so laid out that a window is a view of them."""

    def __init__(self, length: int) -> None:
        self.length, self.capacity = length, 4 * length
        self.buffers: list[Tensor] = []
        self.first = self.count = 0  # the next window's first frame, and one past the last frame, in the buffers

    @property
    def num_windows(self) -> int:
        return self.count - self.first - self.length + 1

    @torch.inference_mode()
    def add(self, fresh: list[Tensor]) -> None:
        """One tensor (n, …) for each scale."""
        added = len(fresh[0])
        if not self.buffers or self.count + added > len(self.buffers[0]):
            size = max(self.capacity, self.count - self.first + added)
            old, self.buffers = self.buffers, [x.new_empty(size, *x.shape[1:]) for x in fresh]
            for buffer, x in zip(self.buffers, old, strict=False):  # views of the old ones may still be in use
                buffer[: self.count - self.first] = x[self.first : self.count]
            self.first, self.count = 0, self.count - self.first
        for buffer, x in zip(self.buffers, fresh, strict=True):
            buffer[self.count : self.count + added] = x
        self.count += added

    def last(self) -> list[Tensor]:
        return [x[self.count - 1 : self.count] for x in self.buffers]

    def windows(self, count: int) -> list[Tensor]:
        """The next ``count`` windows, (count, c, length, h, w) for each scale."""
        frames = slice(self.first, self.first + count + self.length - 1)
        self.first += count
        return [x[frames].unfold(0, self.length, 1).movedim(-1, 2) for x in self.buffers]
