"""What a network is to prediction: encode frames, encode sound, a window and a noise → its raw map. No torch here.

:class:`diffsal.runtime.onnx.OnnxEngine` and :class:`diffsal.runtime.torch.TorchEngine` are the two there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy import ndarray

from diffsal.config import Finish, ModelConfig, Spacing
from diffsal.errors import InputError

if TYPE_CHECKING:
    from diffsal.networks.diffsal import DiffSal

MOST_WORKERS = 8  # threads that call the network side by side: decoding and drawing do not keep up with more


@runtime_checkable
class Engine(Protocol):
    """One network, ready to predict. Its calls may come from several threads at once."""

    config: ModelConfig
    finish: Finish
    spacing: Spacing  # of the timesteps, where nobody asks for another
    encodes_frames: bool  # whether frames are encoded one by one, once each; else whole windows
    frame_step: int  # of how many frames of a window one is encoded
    num_workers: int  # calls side by side that are fastest
    batch_size: int  # windows per call that are fastest

    def workers(self, count: int) -> AbstractContextManager[Executor]:
        """``count`` threads for this engine's calls."""
        ...

    def encode_frames(self, images: ndarray) -> Sequence[Any]:
        """uint8 RGB (n, height, width, 3) of the network's size → what :meth:`encode_windows` needs of each frame.

        Where :attr:`encodes_frames` is False that is the picture itself.
        """
        ...

    def encode_sound(self, mel: ndarray) -> Any:
        """Log-mel float32 (b, 1, n, m, k), as :class:`diffsal.media.mel.MelTrack` cuts it, → f_a of each window."""
        ...

    def encode_windows(self, frames: Sequence[Sequence[Any]], brightness: ndarray | None, audio: Any | None) -> Any:
        """f_v and f_a of b windows, which condition :meth:`denoise`; ``audio`` None: without sound.

        ``frames`` holds each window's frames, every ``frame_step``-th of them, as :meth:`encode_frames` gave them;
        ``brightness`` float32 (b, num_frames, height / 4, width / 4) those of all its frames, where the engine
        :attr:`encodes_frames`; else None.
        """
        ...

    def denoise(self, x_t: ndarray, t: ndarray, conditions: Any) -> ndarray:
        """One network call: float32 (b, 1, height, width) and int64 (b,) → x_0 at ``config.map_stride``.

        Raw: nothing is finished. Networks that predict noise give x_0 at the full size.
        """
        ...


def available_cores() -> int:
    """How many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)


def as_engine(model: DiffSal | Engine, device: str = "cpu") -> Engine:
    """``model`` itself if it is an engine, else the torch network as one on ``device``.

    Raises :class:`InputError` for a device that this machine or this engine lacks.
    """
    if isinstance(model, Engine):
        if device != "cpu" and str(getattr(model, "device", "cpu")) != device:
            raise InputError(f"device {device}: these graphs run on the CPU; give --engine torch for other devices")
        return model
    from diffsal.runtime.torch import TorchEngine  # needs torch, which predicting by graphs does not

    return TorchEngine(model, device)
