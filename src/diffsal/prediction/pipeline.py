"""A video in, one saliency map per frame out: read → encode → window → sample → finish → smooth → interpolate.

Each stage is a generator over the one before, so memory does not grow with a video's length. What happens to which
frame is :mod:`diffsal.prediction.plan`'s to say, what a network does is the engine's.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy import ndarray

from diffsal.config import SamplingConfig, Spacing
from diffsal.diffusion.samplers import ddim
from diffsal.diffusion.schedule import NoiseSchedule
from diffsal.media.mel import Sound
from diffsal.media.source import Frame, Source, open_source
from diffsal.media.threads import PREFETCHED, ahead, prefetch
from diffsal.prediction.finish import brightness, finish_map, moving_alone, smoothing_of
from diffsal.prediction.hearing import Heard, Hearing
from diffsal.prediction.maps import FinishedMaps, Predictions, enlarge, interpolate, smooth
from diffsal.prediction.noise import frame_noise
from diffsal.prediction.plan import Plan, PlannedFrame
from diffsal.prediction.window_buffer import WindowBuffer
from diffsal.runtime.engine import Engine, as_engine
from diffsal.shapes import Float

if TYPE_CHECKING:
    from diffsal.networks.diffsal import DiffSal
    from diffsal.prediction.spans import DrawnMaps

PREFETCHED_BYTES = 16 << 20  # fewer where pictures are large: 1 of 4K
PACKED_BYTES = 1.5  # of a pixel as most decoders give it
HALVED_RATE = 20.0  # frames per second above which every second frame goes through the network
SEEK_MARGIN_SECONDS = 1.0  # before the time at which a frame of known index should be


def predict(
    model: DiffSal | Engine,
    source: str | Path | int | Source,
    *,
    steps: int = 1,
    seed: int = 0,
    spacing: Spacing | None = None,
    mute: bool = False,
    start: float | None = None,
    end: float | None = None,
    indices: Collection[int] | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    samples: int = 1,
    every: int | None = None,
    drawn: DrawnMaps | None = None,
) -> Predictions:
    """Algorithm 2 for every frame of ``source`` (anything that :func:`diffsal.media.source.open_source` takes).

    ``model`` is what :func:`diffsal.load` returns. A frame's window is the 16 frames around it, the clip's first and
    last repeating at its ends; its noise comes from its own generator, so ``batch_size``, ``start``, ``end`` and their
    like do not change a frame's map. ``start`` and ``end`` are seconds: frames before ``start`` or from ``end`` on are
    left out, but still stand in the windows of those inside; ``start_index`` and ``end_index`` (exclusive) are the
    same by index. With ``indices`` only these frames get a map. ``mute`` ignores the sound.
    Predictions come as soon as their windows are whole; memory does not grow.
    ``spacing`` of the timesteps is by default the weights' own (``leading`` for a converted released network).
    ``batch_size`` frames go through the network together; by default as many as are fastest. ``samples`` maps are drawn
    of each frame, the k-th as the seed ``seed + k`` draws it: a prediction holds their mean and spread.
    Frames whose index is a multiple of ``every`` go through the network; a map between two of them is the weighted mean
    of theirs. By default that is every frame or every second one, see :func:`usual_every`.
    ``drawn`` are the network's maps of all frames from before (:mod:`diffsal.prediction.spans`): it does not run again.

    Raises :class:`diffsal.errors.InputError` for a source that cannot be read and ``ValueError`` for settings. What is
    damaged in the middle of a file, or missing at its end, is in ``source.problems``; where ``source`` is not yet
    opened, each problem is a ``UserWarning`` after the last frame.
    """
    for name, first, last in (("end", start, end), ("end_index", start_index, end_index)):
        if first is not None and last is not None and last <= first:
            raise ValueError(f"{name} is {last}, expected more than {name.replace('end', 'start')}, {first}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    if samples < 1:
        raise ValueError(f"samples is {samples}, expected at least 1")
    engine = as_engine(model, device)
    sampling = SamplingConfig(steps, spacing or engine.spacing, seed)
    if every is not None and not 1 <= every <= engine.config.num_frames // 2:
        raise ValueError(f"every is {every}, expected 1 to {engine.config.num_frames // 2}")
    opened = source if isinstance(source, Source) else open_source(source)
    every = every or usual_every(engine, opened)
    smoothing = smoothing_of(engine.finish, opened.frame_rate, every)
    plan = Plan(engine.config.num_frames, every, 1, start, end, start_index, end_index, indices,
                smoothing.before, smoothing.after)
    stream = Stream(engine, opened, plan, [None if mute else sound_for(engine, opened)], batch_size, drawn)
    maps = stream.maps(sampling, samples)
    return Predictions(maps if opened is source else _warning(maps, opened))


def usual_every(model: DiffSal | Engine, source: Source) -> int:
    """2 for a video of more than 20 frames per second and a network that sees single frames; else 1."""
    return 2 if model.encodes_frames and not source.pictures and source.frame_rate > HALVED_RATE else 1


def queue_size(source: Source) -> int:
    """How many frames of ``source`` may wait between two threads; of a camera few, for they would be old."""
    frame_bytes = max(1, source.height * source.width) * PACKED_BYTES
    return max(1, min(PREFETCHED if source.camera is None else 2, int(PREFETCHED_BYTES / frame_bytes)))


def sound_for(engine: Engine, source: Source) -> Sound | None:
    """The sound of ``source`` as the network wants it cut; None where it has none or the network takes none."""
    if engine.config.audio_encoder is None:
        return None
    return source.sound(None) if engine.config.preprocessing.sound == "released" else source.sound()


def _warning(maps: Iterator[FinishedMaps], source: Source) -> Iterator[FinishedMaps]:
    yield from maps
    for problem in source.problems:
        warnings.warn(problem, UserWarning, stacklevel=2)


@dataclass(frozen=True, eq=False)
class ReadFrame:
    """A frame, its picture at the network's size (uint8), and its brightness where the network or a prior wants it.

    The frame is packed: some twenty wait for the windows of those before them.
    """

    frame: Frame
    small: ndarray
    brightness: ndarray | None

    @property
    def index(self) -> int:
        return self.frame.index

    @property
    def seconds(self) -> float:
        return self.frame.seconds


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """A frame that was read, whether its own map is needed, and what the engine gave for it (None: not encoded)."""

    planned: PlannedFrame[ReadFrame]
    needs_map: bool
    features: Any | None


@dataclass(frozen=True, eq=False)
class WindowFrame:
    """What windows need of a frame: what the engine gave for it, and its brightness. Its picture is not kept."""

    features: Any | None
    brightness: ndarray | None


@dataclass(frozen=True, eq=False)
class Window:
    """What a frame's map is made of: what the engine gave for the window's frames, and under each sound what is heard.

    ``brightness`` (num_frames, h, w) is that of all the window's frames, or None.
    """

    frame: Frame
    frames: list[Any]
    brightness: ndarray | None
    heard: tuple[Heard, ...]


class Stream:
    """One clip on its way through an engine, under one sound or several."""

    def __init__(
        self, engine: Engine, source: Source, plan: Plan, sounds: Sequence[Sound | None],
        batch_size: int | None = None, drawn: DrawnMaps | None = None,
    ) -> None:
        self.engine, self.source, self.config, self.drawn = engine, source, engine.config, drawn
        # Where pictures may be missing, indices do not tell which frames the windows need
        encode_every = 1 if source.pictures else math.gcd(plan.every, engine.frame_step)
        self.batch_size = batch_size or engine.batch_size
        kept = plan.num_frames + plan.every * self.batch_size
        self.hearings = [Hearing(engine.config, engine.finish, s, source.frame_rate, kept) for s in sounds]
        history = max(hearing.num_before for hearing in self.hearings)
        self.plan = Plan(**{**vars(plan), "encode_every": encode_every, "history": history})
        self.buffer: WindowBuffer[WindowFrame] = WindowBuffer(2 * plan.num_frames)
        self.schedule = NoiseSchedule.named(engine.config.noise_schedule)
        # In a camera's stream each frame is waited for
        self.num_workers = engine.num_workers if source.camera is None else 1
        # Work ahead of large pictures would keep more of them, and they keep the cores busy themselves
        self.num_ahead = self.num_workers if source.camera is None and not source.is_large else 0
        self.encoded_ahead = 0 if source.is_large else self.num_workers - 1

    def maps(self, sampling: SamplingConfig, samples: int = 1) -> Iterator[FinishedMaps]:
        """The maps of each frame asked for, under the first of the sounds."""
        read = self.read() if self.source.is_large else prefetch(self.read(), queue_size(self.source))
        asked: deque[Frame] = deque()
        try:
            with self.engine.workers(self.num_workers) as pool:
                windows = self.windows(self.encode(read, pool), asked)
                finished = self.finish(self.sample(windows, pool, sampling, samples))
                yield from interpolate(map(self.enlarged, self.smooth(finished)), asked)
        finally:
            read.close()

    def read(self) -> Generator[ReadFrame]:
        """The frames that the plan may need."""
        size, preprocessing = (self.config.width, self.config.height), self.config.preprocessing
        looks_at_change = self.engine.encodes_frames or self.engine.finish.motion_gain or self.plan.history
        for packed in self._frames():
            frame = packed.packed()  # whose RGB is gone while the next is waited for
            small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
            if self.drawn is not None:
                self.drawn.check(frame.index, frame.seconds, small)
            change = brightness(small, preprocessing.mean, preprocessing.std) if looks_at_change else None
            for hearing in self.hearings:
                hearing.look(frame)
            del frame
            yield ReadFrame(packed, small, change)
        if self.drawn is not None:
            self.drawn.check_end()

    def _frames(self) -> Iterator[Frame]:
        first = max(0, (self.plan.start_index or 0) - self.plan.num_before)
        if first == 0:
            return self.source.frames(self.plan.start, self.plan.num_before)
        return frames_from(self.source, first)

    def encode(self, read: Iterator[ReadFrame], pool: Executor) -> Iterator[EncodedFrame]:
        """Each frame with its features, if a window needs them; ``batch_size`` frames are encoded together."""
        decided = self.plan.decided(read)
        batches = iter(lambda: list(islice(decided, self.batch_size * self.plan.every)), [])

        def submit(batch: list[tuple[PlannedFrame[ReadFrame], bool]]) -> Future[list[EncodedFrame]]:
            return pool.submit(self._encoded, batch)

        for batch in ahead((submit(batch) for batch in batches), self.encoded_ahead):
            yield from batch

    def _encoded(self, batch: list[tuple[PlannedFrame[ReadFrame], bool]]) -> list[EncodedFrame]:
        chosen = [planned.frame.small for planned, _ in batch if planned.is_encoded]
        features = iter(self._features(np.stack(chosen)) if chosen else ())
        return [EncodedFrame(p, needed, next(features) if p.is_encoded else None) for p, needed in batch]

    def _features(self, images: ndarray) -> Sequence[Any]:
        return self.engine.encode_frames(images) if self.drawn is None else [()] * len(images)

    def windows(self, encoded: Iterable[EncodedFrame], asked: deque[Frame]) -> Iterator[Window]:
        """The window of each frame whose map is needed; all frames that get a map are put into ``asked``."""
        after, waiting = self.plan.after, deque[EncodedFrame]()
        for here in encoded:
            self.buffer.add(WindowFrame(here.features, here.planned.frame.brightness))
            for hearing in self.hearings:
                hearing.add(here.planned.frame.frame, here.planned.frame.brightness)
            waiting.append(here)
            if len(waiting) > after:
                yield from self._window(waiting.popleft(), self.buffer.count - 1 - after, asked)
        if waiting and waiting[-1].features is None and any(x.needs_map for x in waiting):  # the last is repeated
            last = waiting[-1]
            features = self._features(last.planned.frame.small[None])[0]
            self.buffer.replace_last(WindowFrame(features, last.planned.frame.brightness))
        for position in range(self.buffer.count - len(waiting), self.buffer.count):
            yield from self._window(waiting.popleft(), position, asked)

    def _window(self, here: EncodedFrame, position: int, asked: deque[Frame]) -> Iterator[Window]:
        frame = here.planned.frame.frame
        if here.planned.is_asked:
            asked.append(frame)
        if not here.needs_map:
            return
        first, length = position - self.plan.before, self.plan.num_frames
        frames = [x.features for x in self.buffer.window(first, length, self.engine.frame_step)]
        change = [x.brightness for x in self.buffer.window(first, length)]
        heard = tuple(h.of(frame, position + self.plan.after) for h in self.hearings)
        yield Window(frame, frames, None if change[0] is None else np.stack(cast("list[ndarray]", change)), heard)

    def sample(
        self, windows: Iterator[Window], pool: Executor, sampling: SamplingConfig, samples: int = 1
    ) -> Iterator[tuple[Window, ndarray]]:
        """Each window with the raw maps drawn of it under its first sound; ``batch_size`` windows go together."""
        batches = iter(lambda: list(islice(windows, self.batch_size)), [])

        def submit(batch: list[Window]) -> Future[list[tuple[Window, ndarray]]]:
            return pool.submit(lambda: list(zip(batch, self.draw(batch, sampling, samples), strict=True)))

        for batch in ahead((submit(batch) for batch in batches), self.num_ahead):
            yield from batch

    def draw(
        self, windows: list[Window], sampling: SamplingConfig, samples: int = 1, heard: list[Heard] | None = None
    ) -> Float[ndarray, "b samples h w"]:
        """Algorithm 2: raw maps of ``windows`` under what is ``heard`` (by default each window's first sound)."""
        if self.drawn is not None:
            return np.stack([self.drawn.of(window.frame.index) for window in windows])
        heard = [window.heard[0] for window in windows] if heard is None else heard
        mels = [one.mel for one in heard if one.mel is not None]
        audio = self.engine.encode_sound(np.stack(mels)) if mels else None
        change = [window.brightness for window in windows if window.brightness is not None]
        conditions = self.engine.encode_windows(
            [window.frames for window in windows],
            np.stack(change) if change and self.engine.encodes_frames else None, audio)
        size = (self.config.height, self.config.width)
        drawn = []
        for seed in range(sampling.seed, sampling.seed + samples):
            noise = np.stack([frame_noise(*size, seed, window.frame.index) for window in windows])
            drawn.append(ddim(
                lambda x_t, t: self.engine.denoise(x_t, t, conditions), noise, self.schedule, sampling.steps,
                sampling.spacing, lambda x_0: np.stack([enlarge(x[0], size)[None] for x in x_0]))[:, 0])
        return np.stack(drawn, axis=1)

    def finish(self, drawn: Iterable[tuple[Window, ndarray]]) -> Iterator[FinishedMaps]:
        """Each window's maps finished, at their own stride."""
        for window, raw in drawn:
            heard = window.heard[0]
            yield FinishedMaps(window.frame, self.finished(window, raw, heard), heard.faces)

    def finished(self, window: Window, raw: Float[ndarray, "n h w"], heard: Heard) -> Float[ndarray, "n h w"]:
        """One window's raw maps, finished under what is heard."""
        finish = self.engine.finish
        motion = moving_alone(window.brightness) if finish.motion_gain and window.brightness is not None else None
        return np.stack([finish_map(one, finish, motion, heard.synchrony, heard.speaker) for one in raw])

    def smooth(self, finished: Iterable[FinishedMaps]) -> Iterable[FinishedMaps]:
        """Each finished map as the mean of those around it in time, where the plan counts these as part of it."""
        if not self.plan.maps_before and not self.plan.maps_after:
            return finished
        return smooth(finished, smoothing_of(self.engine.finish, self.source.frame_rate, self.plan.every))

    def enlarged(self, finished: FinishedMaps) -> FinishedMaps:
        """Finished maps at the network's size."""
        size = (self.config.height, self.config.width)
        return replace(finished, maps=np.stack([enlarge(one, size).clip(0, 1) for one in finished.maps]))


def frames_from(source: Source, index: int) -> Iterator[Frame]:
    """The frames of ``source`` from ``index`` on; by a jump where its file allows one."""
    frames = source.frames(max(0.0, index / source.frame_rate - SEEK_MARGIN_SECONDS))
    first = next(frames, None)
    if first is None or first.index > index:  # frames come unevenly: look from the beginning
        yield from (frame for frame in source.frames() if frame.index >= index)
        return
    if first.index == index:
        yield first
    yield from (frame for frame in frames if frame.index >= index)
