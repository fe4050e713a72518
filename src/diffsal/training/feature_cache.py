"""A frozen video encoder's features on disk, so that it runs once and not once per epoch: of frames, or of windows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from diffsal.data.clip import Clip
from diffsal.files import write_whole
from diffsal.media.windows import window_indices
from diffsal.networks.diffsal import DiffSal
from diffsal.training.samplers import View

Scales = list[Tensor]


@dataclass(frozen=True)
class FeatureCache:
    """Half-precision files that runs with the same encoder and picture size share: one for each frame where the encoder
    encodes frames one by one, else one for each window. Mirrored pictures have their own: strided convolutions of a
    mirrored picture are not mirrored features.

    The folder's name holds a digest of the encoder's weights, so features of other weights are never taken. Each file
    is computed by itself, so what else is computed with it cannot change its last bits. A full-size window (three
    scales of MViTv2-S at 224x384) takes 7.2 MB, a compact network's frame 0.14 MB.
    """

    folder: Path
    num_frames: int  # of a window
    frame_step: int  # of a window's frames one in so many is encoded; 0: windows are encoded whole

    @classmethod
    def of(cls, root: Path, model: DiffSal) -> FeatureCache:
        config = model.config
        encoder = model.video_encoder.features if model.encodes_frames else model.video_encoder
        assert isinstance(encoder, nn.Module)
        settings = (config.height, config.width, config.num_frames, config.preprocessing)
        step = model.frame_step if model.encodes_frames else 0
        return cls(root / f"{config.video_encoder}-{digest(encoder, settings)[:12]}", config.num_frames, step)

    def find(self, clip: Clip, num_frames: int, view: View) -> Scales | None:
        """float32 scales (c, slots, h, w), fine to coarse, of a window; of frames what ``mix`` takes. None where some
        are not there, or not whole. ``num_frames`` are the clip's."""
        found = []
        for kind, frame in self._units(num_frames, view):
            tensors = self._read(self.path(clip, frame, view.mirrored, kind))
            if tensors is None:
                return None
            found.append((kind, tensors))
        return self._together(found)

    def keep(
        self, clip: Clip, num_frames: int, view: View, frames: UInt8[Tensor, "f h w 3"],
        encode: Callable[[str, UInt8[Tensor, "n h w 3"]], Scales],
    ) -> Scales:
        """What :meth:`find` will give, of the window's ``frames``; what is not there yet is encoded and written.

        ``encode(kind, frames)`` gives the scales, each with a first dimension of 1: of a ``window``, or of a frame
        the ``brightness`` or the ``features``.
        """
        found = []
        units = self._units(num_frames, view)
        positions = {unit: i for i, unit in reversed(list(enumerate(self._window(num_frames, view))))}
        for kind, frame in units:
            path = self.path(clip, frame, view.mirrored, kind)
            tensors = self._read(path)
            if tensors is None:
                seen = frames if kind == "window" else frames[positions[frame]][None]
                half = {f"scale{i}": x[0].half().cpu().contiguous() for i, x in enumerate(encode(kind, seen))}
                write_whole(path, save(half), flush=False)
                tensors = [x.float() for x in half.values()]
            found.append((kind, tensors))
        return self._together(found)

    def path(self, clip: Clip, frame: int, mirrored: bool, kind: str) -> Path:
        name = f"{frame:06d}{'m' if mirrored else ''}-{kind}.safetensors"
        return self.folder / clip.dataset / clip.split / clip.name / name

    def _window(self, num_frames: int, view: View) -> list[int]:
        return window_indices(view.index, num_frames, self.num_frames)

    def _units(self, num_frames: int, view: View) -> list[tuple[str, int]]:
        """What a window is put together from: kind, and frame of the clip."""
        if not self.frame_step:
            return [("window", view.index)]
        window = self._window(num_frames, view)
        return [*(("brightness", i) for i in window), *(("features", i) for i in window[:: self.frame_step])]

    @staticmethod
    def _together(found: list[tuple[str, Scales]]) -> Scales:
        if found[0][0] == "window":
            return found[0][1]
        kinds = ([scales for kind, scales in found if kind == wanted] for wanted in ("brightness", "features"))
        return [torch.stack(scale, dim=1) for units in kinds for scale in zip(*units, strict=True)]

    @staticmethod
    def _read(path: Path) -> Scales | None:
        try:
            tensors = load_file(path)
        except (FileNotFoundError, SafetensorError):
            return None
        return [tensors[name].float() for name in sorted(tensors)]


def digest(network: nn.Module, settings: tuple) -> str:
    """SHA-256 of what features depend on: a network's weights, and ``settings``."""
    found = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(network.state_dict().items()):
        found.update(name.encode(errors="surrogateescape"))
        found.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
