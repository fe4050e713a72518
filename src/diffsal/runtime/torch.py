"""The torch network as an engine: for weights that are no graph, for GPUs, and the reference of the other engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from diffsal.errors import InputError
from diffsal.media.threads import worker_threads
from diffsal.networks.diffsal import DiffSal, Features
from diffsal.runtime.engine import MOST_WORKERS

FRAMES_PER_CALL = {("cpu", True): 2, ("cpu", False): 1, ("gpu", True): 16, ("gpu", False): 4}  # by frame?


class TorchEngine:
    """A :class:`DiffSal` on a device as an :class:`diffsal.runtime.engine.Engine`; the network is put in eval mode."""

    def __init__(self, model: DiffSal, device: str = "cpu") -> None:
        check_device(device)
        self.model, self.device = model.to(device).eval(), torch.device(device)
        self.config, self.finish, self.spacing = model.config, model.finish, model.spacing
        self.encodes_frames, self.frame_step = model.encodes_frames, model.frame_step
        preprocessing = self.config.preprocessing
        self._mean, self._std = (
            torch.tensor(v, device=device).view(3, 1, 1) * 255 for v in (preprocessing.mean, preprocessing.std)
        )
        on_cpu = self.device.type == "cpu"
        # Networks that see single frames keep a CPU busiest with a call per core, each on what its cache holds
        self.num_workers = min(torch.get_num_threads(), MOST_WORKERS) if on_cpu and self.encodes_frames else 1
        self.batch_size = FRAMES_PER_CALL["cpu" if on_cpu else "gpu", self.encodes_frames]

    @contextmanager
    def workers(self, count: int) -> Iterator[Executor]:
        """``count`` threads; where there are several, each computes on one core."""
        num_threads = torch.get_num_threads()
        try:
            with worker_threads(count, torch.set_num_threads, 1 if count > 1 else num_threads) as pool:
                yield pool
        finally:
            if count > 1:  # threads that start later take the number that was set last
                torch.set_num_threads(num_threads)

    @torch.inference_mode()
    def encode_frames(self, images: ndarray) -> Sequence[Any]:
        """As :meth:`diffsal.runtime.engine.Engine.encode_frames`."""
        if not self.encodes_frames:
            return list(images)
        scales = self.model.encode_frames(self._normalised(images))
        return list(zip(*scales[1:], strict=True))  # the first is the brightness, which the caller has

    @torch.inference_mode()
    def encode_sound(self, mel: ndarray) -> Tensor:
        """As :meth:`diffsal.runtime.engine.Engine.encode_sound`."""
        assert self.model.audio_encoder is not None, "a network without an audio encoder takes no sound"
        return self.model.audio_encoder(torch.from_numpy(mel).to(self.device))

    @torch.inference_mode()
    def encode_windows(
        self, frames: Sequence[Sequence[Any]], brightness: ndarray | None, audio: Tensor | None
    ) -> Features:
        """As :meth:`diffsal.runtime.engine.Engine.encode_windows`."""
        if brightness is None:
            video = torch.stack([self._normalised(np.stack(window)).transpose(0, 1) for window in frames])
            scales = self.model.video_encoder(video)
        else:
            change = torch.from_numpy(brightness)[:, None].to(self.device)
            windows = [[torch.stack(scale, dim=1) for scale in zip(*window, strict=True)] for window in frames]
            slots = [torch.stack(scale) for scale in zip(*windows, strict=True)]
            scales = self.model.video_encoder.mix([change, *slots])
        features = self.model.condition(scales, None)
        audio = features.audio if audio is None else audio
        return replace(features, audio=audio, stages=self.model.unet.video_stages(features.video, audio))

    @torch.inference_mode()
    def denoise(self, x_t: ndarray, t: ndarray, conditions: Features) -> ndarray:
        """As :meth:`diffsal.runtime.engine.Engine.denoise`."""
        noisy, time = torch.from_numpy(x_t).to(self.device), torch.from_numpy(t).to(self.device)
        return self.model.denoise(noisy, time, conditions, enlarged=False).float().cpu().numpy()

    def _normalised(self, images: ndarray) -> Tensor:
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        return pixels.sub_(self._mean).div_(self._std)


def check_device(device: str) -> None:
    """:class:`InputError` if this machine has no such device, or torch was built without it."""
    kind = torch.device(device).type
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise InputError(f"device {device}: not available on this machine with this build of torch; use cpu")

