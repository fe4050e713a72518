"""A video in, one saliency map per frame out, as a stream."""

from __future__ import annotations

import queue
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffsal.audio import MelTrack
from diffsal.config import SamplingConfig, Spacing
from diffsal.errors import InputError
from diffsal.media import Frame, Source, open_source
from diffsal.model import DiffSal
from diffsal.windows import window_indices

T = TypeVar("T")
PREFETCHED = 16  # items that wait between two threads, at most
JOIN_SECONDS = 2.0  # a thread that is deep in the network or in a slow address is left behind
PREFETCHED_BYTES = 64 << 20  # fewer where pictures are large: 2 of 4K


@dataclass(frozen=True, eq=False)
class Prediction:
    """One frame: 0-based index, time in seconds, float32 saliency (height, width) in [0, 1], and the RGB picture."""

    index: int
    seconds: float
    saliency: np.ndarray
    image: np.ndarray


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
    device: str = "cpu",
    batch_size: int = 8,
) -> Iterator[Prediction]:
    """Algorithm 2 for every frame of ``source`` (anything that :func:`diffsal.media.open_source` takes).

    A frame's window is the 16 frames around it, the clip's first and last repeating at its ends; its noise comes from
    its own generator, so ``batch_size``, ``start`` and ``end`` do not change a frame's map. ``start`` and ``end`` are
    seconds: frames before ``start`` or from ``end`` on are left out, but still stand in the windows of those inside.
    ``mute`` ignores the sound. Predictions come as soon as their windows are whole; memory does not grow.

    Raises :class:`diffsal.errors.InputError` for a source that cannot be read and ``ValueError`` for settings. What is
    damaged in the middle of a file, or missing at its end, is in ``source.problems``; where ``source`` is not yet
    opened, each problem is a ``UserWarning`` after the last frame.
    """
    sampling = SamplingConfig(steps, spacing, seed)
    if start is not None and end is not None and end <= start:
        raise ValueError(f"end is {end} s, expected more than start, {start} s")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    check_device(device)
    opened = source if isinstance(source, Source) else open_source(source)
    stream = _Stream(model.to(device).eval(), opened, sampling, mute, (start, end), device, batch_size)
    return stream.predictions() if opened is source else _warning(stream.predictions(), opened)


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


class _Stream:
    """One clip on its way through the network.

    ``scales`` holds, for the frames ``first``, ``first + 1`` … of those read, what windows need of each: the features
    of an encoder that sees single frames, computed once per frame, or else the normalised frames themselves.
    """

    def __init__(
        self, model: DiffSal, source: Source, sampling: SamplingConfig, mute: bool,
        span: tuple[float | None, float | None], device: str, batch_size: int,
    ) -> None:
        self.model, self.source, self.sampling, self.span = model, source, sampling, span
        self.device, self.batch_size, self.config = device, batch_size, model.config
        self.mels = MelTrack(self.config, None if mute else self._sound())
        self.before, self.after = self.config.num_frames // 2, self.config.num_frames // 2 - 1
        preprocessing = self.config.preprocessing
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) * 255 for v in (
            preprocessing.mean, preprocessing.std))
        self.scales: list[Tensor] = []
        self.first = 0
        self.pending: deque[Frame] = deque()  # read, not yet predicted

    def _sound(self):
        if self.model.audio_encoder is None:
            return None
        return self.source.sound(None) if self.config.preprocessing.sound == "released" else self.source.sound()

    def predictions(self) -> Iterator[Prediction]:
        frames = prefetch(self._resized(), queue_size(self.source, 3))
        read = target = 0  # frames read so far; the next to predict
        try:
            while True:
                fresh = list(islice(frames, self.batch_size))
                if fresh:
                    self._hold([small for _, small in fresh])
                self.pending.extend(frame for frame, _ in fresh)
                read += len(fresh)
                ended = len(fresh) < self.batch_size
                ready = read if ended else max(target, read - self.after)
                while target < ready:
                    count = min(self.batch_size, ready - target)
                    yield from self._predict([(target + i, self.pending.popleft()) for i in range(count)], read)
                    target += count
                self._release(target - self.before)
                if ended:
                    return
        finally:
            frames.close()

    def _resized(self) -> Iterator[tuple[Frame, np.ndarray]]:
        """The frames that the windows need, each with its picture at the network's size."""
        start, end = self.span
        beyond = 0
        for frame in self.source.frames(start, self.before):
            beyond += end is not None and frame.seconds >= end
            if beyond > self.after:
                return
            size = (self.config.width, self.config.height)
            yield frame, cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)

    @torch.inference_mode()
    def _hold(self, images: list[np.ndarray]) -> None:
        """Encode frames and keep what windows need of them."""
        pixels = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float()
        pixels = (pixels - self.mean) / self.std
        fresh = self.model.encode_frames(pixels) if self.model.encodes_frames else [pixels]
        held = self.scales or [x[:0] for x in fresh]
        self.scales = [torch.cat(pair) for pair in zip(held, fresh, strict=True)]

    def _release(self, oldest: int) -> None:
        """Let go of frames before the ``oldest`` that a window still needs."""
        if oldest > self.first:
            self.scales = [x[oldest - self.first :] for x in self.scales]
            self.first = oldest

    @torch.inference_mode()
    def _predict(self, targets: list[tuple[int, Frame]], read: int) -> list[Prediction]:
        """The maps of ``targets``, (position among the frames read, frame); ``read`` frames are known so far."""
        start, end = self.span
        inside = [(p, f) for p, f in targets
                  if (start is None or f.seconds >= start) and (end is None or f.seconds < end)]
        if not inside:
            return []
        rows = torch.tensor([window_indices(p, read, self.config.num_frames) for p, _ in inside], device=self.device)
        windows = [x[rows - self.first].transpose(1, 2) for x in self.scales]  # (b, c, 16, h, w) each
        mels = [self.mels.window(f.seconds, self.source.frame_rate, f.index) for _, f in inside]
        mel = None if mels[0] is None else torch.stack(mels).to(self.device)
        features = self.model.encode_window(windows, mel) if self.model.encodes_frames else self.model.encode(
            windows[0], mel)
        size = (self.config.height, self.config.width)
        noise = torch.stack([frame_noise(*size, self.sampling.seed, f.index) for _, f in inside]).to(self.device)
        maps = self.model.sample(features, noise, self.sampling.steps, self.sampling.spacing)
        maps = maps[:, 0].float().clamp(0, 1).cpu().numpy()
        return [
            Prediction(f.index, f.seconds, cv2.resize(m, f.image.shape[1::-1], interpolation=cv2.INTER_LINEAR), f.image)
            for (_, f), m in zip(inside, maps, strict=True)
        ]


def prefetch(items: Iterator[T], size: int = PREFETCHED) -> Iterator[T]:
    """The same items, made in a thread of their own, at most ``size`` ahead; what fails there is raised here.

    Closing the iterator stops the thread and closes ``items``.
    """
    waiting: queue.Queue = queue.Queue(size)
    stopped = threading.Event()
    end = object()

    def put(item: object, error: BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put(item, None):
                    return
            put(end, None)
        except BaseException as error:
            put(end, error)
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
        thread.join(JOIN_SECONDS)
