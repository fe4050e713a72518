"""One phase of a training: what it learns from, what of the network learns and how fast, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from diffsal.networks.diffsal import DiffSal, Features
from diffsal.training.config import EncoderPart, TrainConfig
from diffsal.training.examples import Batch, Examples, Scales, ScoredExamples, load_batches
from diffsal.training.feature_cache import FeatureCache
from diffsal.training.objective import Objective
from diffsal.training.reader import Reader
from diffsal.training.samplers import View
from diffsal.training.shard import Shard
from diffsal.training.trainable import checkpoint_gradients, freeze, freeze_blocks, synchronise_batch_norm, train_mode
from diffsal.training.validation import validate


@dataclass(frozen=True)
class Learning:
    """What of the network learns, and how fast.

    ``frozen`` encoders rest; of a frame encoder's backbone the first ``frozen_blocks`` do (None: as ``frozen`` says),
    and the others learn at ``backbone_learning_rate``.
    """

    learning_rate: float
    ema_decay: float = 0.0
    frozen: tuple[EncoderPart, ...] = ()
    frozen_blocks: int | None = None
    backbone_learning_rate: float | None = None
    gradient_checkpointing: bool = False


class Denoiser(nn.Module):
    """The network as Algorithm 1 calls it: pixels or a frozen encoder's features, sound, S_t and t → its prediction.

    With ``noise`` ε, S_t is replaced by :meth:`estimated`.
    """

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " b"], frames: UInt8[Tensor, "b f h w 3"] | None,
        scales: Scales | None, mel: Float[Tensor, "b 1 n m k"] | None, heard: Bool[Tensor, " b"],
        seen: Bool[Tensor, " b"], noise: Float[Tensor, "b 1 h w"] | None = None,
    ) -> Float[Tensor, "b 1 h w"]:
        features = self.features(frames, scales, mel, heard, seen)
        if noise is not None:
            x_t = self.estimated(x_t, t, features, noise)
        return self.model.predict(x_t, t, features)

    @torch.no_grad()
    def estimated(
        self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " b"], features: Features, noise: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, "b 1 h w"]:
        """S_t as Algorithm 2 comes to it from T − 1: the network's own S_0, and the noise that it began with.

        One more call, without gradient. At T − 1 S_t stays as it is: no step is before it.
        """
        last = self.model.schedule.num_timesteps - 1
        x_0 = self.model.denoise(noise, torch.full_like(t, last), features)
        return torch.where((t < last).view(-1, 1, 1, 1), self.model.schedule.add_noise(x_0, noise, t), x_t)

    def features(
        self, frames: UInt8[Tensor, "b f h w 3"] | None, scales: Scales | None,
        mel: Float[Tensor, "b 1 n m k"] | None, heard: Bool[Tensor, " b"], seen: Bool[Tensor, " b"],
    ) -> Features:
        """f_v and f_a. ``frames``: a window's, or one, repeated through its window; ``scales`` as the cache keeps them.

        Where nothing is seen f_v is of zeros. Where the sound is added to K's input, nothing is added where nothing is
        heard; else f_a is that of silence.
        """
        if scales is not None:
            scales = self.model.video_encoder.mix(scales) if self.model.encodes_frames else scales
        else:
            assert frames is not None
            scales = self.encode(frames)
        scales = [x * seen.view(-1, 1, 1, 1, 1).to(x) for x in scales]
        adds = self.model.config.audio_key == "add"
        learns = self.model.audio_encoder is not None and any(
            p.requires_grad for p in self.model.audio_encoder.parameters())
        if adds and not learns and not bool(heard.any()):
            mel = None  # nobody hears anything
        features = self.model.condition(scales, mel)
        if features.audio is None or mel is None or not adds:
            return features
        return replace(features, audio=features.audio * heard.view(-1, 1, 1, 1, 1).to(features.audio))

    def encode(self, frames: UInt8[Tensor, "b f h w 3"]) -> Scales:
        """The video encoder's scales, fine to coarse."""
        video = rearrange(self.normalise(frames), "b f h w c -> b c f h w")
        num_frames = self.model.config.num_frames
        if video.shape[2] == num_frames:
            return self.model.video_encoder(video)
        if not self.model.encodes_frames:
            return self.model.video_encoder(video.expand(-1, -1, num_frames, -1, -1))
        one = self.model.encode_frames(video[:, :, 0])
        return self.model.video_encoder.mix([x[:, :, None].expand(-1, -1, num_frames, -1, -1) for x in one])

    def encode_unit(self, kind: str, frames: UInt8[Tensor, "n h w 3"]) -> Scales:
        """What :class:`FeatureCache` keeps: a window's scales, or one frame's brightness or features."""
        if kind == "window":
            return self.model.video_encoder(rearrange(self.normalise(frames[None]), "b f h w c -> b c f h w"))
        images = rearrange(self.normalise(frames), "f h w c -> f c h w")
        if kind == "brightness":
            return [self.model.video_encoder.brightness(images)]
        return self.model.encode_frames(images)[1:]

    def normalise(self, frames: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
        values = self.model.config.preprocessing
        mean, std = (torch.tensor(v, device=frames.device) for v in (values.mean, values.std))
        return (frames.float() / 255 - mean) / std


class Phase:
    """``num_steps`` optimiser steps over ``examples``, counted from the phase's first.

    With ``cache_folder`` the video encoder rests, and its features are kept there.
    """

    def __init__(
        self, name: str, num_steps: int, config: TrainConfig, examples: Examples, scored: ScoredExamples,
        objective: Objective, learning: Learning, shard: Shard, cache_folder: Path | None = None,
    ) -> None:
        self.name, self.num_steps, self.config, self.shard = name, num_steps, config, shard
        self.examples, self.scored, self.objective, self.learning = examples, scored, objective, learning
        self.cache_folder = cache_folder
        self.cache: FeatureCache | None = None
        self.epoch_examples, self.ema_decay = len(examples), learning.ema_decay
        self.reader = examples.reader

    def prepare(self, model: DiffSal) -> nn.Module:
        """Freeze what does not learn, and wrap what does: :meth:`losses` calls the result, in every process alike."""
        learning = self.learning
        freeze(model, learning.frozen)
        if learning.frozen_blocks is not None:
            freeze_blocks(model, learning.frozen_blocks)
        if self.config.batch_norm == "synchronised" and self.shard.num_processes > 1:
            synchronise_batch_norm(model)
        if learning.gradient_checkpointing:
            checkpoint_gradients(model.video_encoder)
        self.denoiser = Denoiser(model)
        self.cache = FeatureCache.of(self.cache_folder, model) if self.cache_folder is not None else None
        self.examples.find = self.scored.find = None if self.cache is None else partial(_find, self.cache, self.reader)
        return cast(nn.Module, torch.compile(self.denoiser)) if self.config.compile else self.denoiser

    def train_mode(self, model: DiffSal) -> None:
        train_mode(model, self.learning.frozen, self.config.batch_norm)

    def parameter_groups(self, model: DiffSal) -> list[dict[str, Any]]:
        """The optimiser's groups; ``peak`` is the learning rate that the engine multiplies."""
        slow = self.learning.backbone_learning_rate
        backbone = [] if slow is None else [p for p in model.video_encoder.features.parameters() if p.requires_grad]
        known = {id(p) for p in backbone}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        groups = [{"params": rest, "peak": self.learning.learning_rate}]
        return [*groups, {"params": backbone, "peak": slow}] if backbone else groups

    # --- batches --------------------------------------------------------------------------------------------------

    def batches(self, first_step: int) -> Iterator[Batch]:
        """This process's micro-batches from ``first_step`` on."""
        pinned = self.shard.device.type == "cuda"
        return load_batches(self.examples, self.numbers(first_step), self.config.num_workers, pinned)

    def numbers(self, first_step: int) -> Iterator[list[int]]:
        """The examples of this process's micro-batches: process by process within each micro-batch of a step."""
        size, processes = self.shard.micro_batch, self.shard.num_processes
        for micro in range(first_step * self.shard.accumulation, self.num_steps * self.shard.accumulation):
            start = (micro * processes + self.shard.rank) * size
            yield list(range(start, start + size))

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """As :class:`Denoiser` takes them; new features of a frozen encoder are kept."""
        rest = (batch.mel, batch.heard, batch.seen)
        if self.cache is None:
            return torch.stack([x for x in batch.frames if x is not None]), None, *rest
        return None, self.kept(batch), *rest

    def kept(self, batch: Batch) -> Scales:
        """The cache's features of a batch, each scale stacked; those that it lacks are computed."""
        assert self.cache is not None
        found, reader = [], self.reader
        for view, frames, scales in zip(batch.views, batch.frames, batch.scales, strict=True):
            if scales is None:
                assert frames is not None
                with torch.no_grad():
                    scales = self.cache.keep(
                        reader.clips[view.clip], reader.num_frames(view.clip), view, frames, self.denoiser.encode_unit)
            found.append([x.to(self.shard.device) for x in scales])
        return [torch.stack(scale) for scale in zip(*found, strict=True)]

    # --- loss and scores ------------------------------------------------------------------------------------------

    def losses(self, network: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """One value per example."""
        batch = batch.to(self.shard.device)
        inputs = self.inputs(batch)
        noise = batch.noise if self.config.own_estimate else None
        prediction = network(batch.x_t, batch.t, *inputs, noise).float()
        return self.objective(
            prediction, batch.target, batch.noise, batch.x_t, batch.t, self.denoiser.model.schedule, batch.fixated)

    def validate(self, model: DiffSal, on_part: Callable[[int, int], None]) -> dict[str, Any]:
        """Scores of real sampling on a fixed seed, the same in every process; ``CC`` decides which weights are best."""
        denoiser = Denoiser(model)

        def sample(batch: Batch) -> Tensor:
            batch = batch.to(self.shard.device)
            features = denoiser.features(*self.inputs(batch))
            return model.sample(features, batch.noise, self.config.sampling_steps, enlarged=False)

        return validate(self.scored, sample, model.finish, self.shard, self.config.num_workers, on_part)


def _find(cache: FeatureCache, reader: Reader, view: View) -> Scales | None:
    return cache.find(reader.clips[view.clip], reader.num_frames(view.clip), view)
