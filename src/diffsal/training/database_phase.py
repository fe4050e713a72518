"""Algorithm 1 on windows of clips: what one training step reads, computes and minimises, and how it is scored."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diffsal.config import DatabaseConfig, ModelConfig
from diffsal.data.clip import Clip
from diffsal.data.databases import DATASETS, stavis
from diffsal.data.databases.hollywood2 import video_of
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal, Features
from diffsal.scoring.metrics import cc, nss, sim
from diffsal.training.engine import Shard, learning_rate_factor
from diffsal.training.feature_cache import FeatureCache
from diffsal.training.objective import correlation, kl_divergence, squared_error
from diffsal.training.trainable import checkpoint_gradients, freeze, synchronise_batch_norm, train_mode
from diffsal.training.window_examples import Batch, Sample, Samples, ScoredSamples, load_batches, quieten


def split_clips(data: Path, config: DatabaseConfig) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips of ``config.databases``, each in ``data/DATABASE``, or all in ``data`` itself.

    DHF1K has a validation split; of the other sets every ``hold_out``-th video is held out of the training split.
    """
    training: list[Clip] = []
    validation: list[Clip] = []
    for name in config.databases:
        if name not in DATASETS:
            close = difflib.get_close_matches(name, DATASETS, 1)
            raise InputError(f"{name}: no such database; " + (f"did you mean {close[0]}?" if close else
                             f"known are {', '.join(DATASETS)}"))
        root = data / name if (data / name).is_dir() else data
        clips = DATASETS[name](root, "train", config.fold if name in stavis.SETS else None)
        if name == "dhf1k":
            training, validation = training + clips, validation + DATASETS[name](root, "val")
            continue
        videos = sorted({video_of(clip) if name == "hollywood2" else clip.name for clip in clips})
        held_out = set(videos[config.hold_out - 1 :: config.hold_out]) if config.hold_out else set()
        for clip in clips:
            video = video_of(clip) if name == "hollywood2" else clip.name
            (validation if video in held_out else training).append(clip)
    return training, validation


class Denoiser(nn.Module):
    """The network as Algorithm 1 calls it: pixels or a frozen encoder's scales, sound, S_t and t → its prediction."""

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x_t: Float[Tensor, "b 1 h w"],
        t: Int[Tensor, " b"],
        frames: UInt8[Tensor, "b f h w 3"] | None,
        scales: list[Float[Tensor, "b _ _ _ _"]] | None,
        mel: Float[Tensor, "b 1 n m k"] | None,
        heard: Bool[Tensor, " b"],
    ) -> Float[Tensor, "b 1 h w"]:
        return self.model.predict(x_t, t, self.features(frames, scales, mel, heard))

    def features(
        self, frames: Tensor | None, scales: list[Tensor] | None, mel: Tensor | None, heard: Tensor
    ) -> Features:
        """f_v and f_a; where the sound is added to K's input, nothing is added where nothing is heard."""
        if scales is None:
            assert frames is not None
            scales = self.encode(frames)
        features = self.model.condition(scales, mel)
        if features.audio is None or self.model.config.audio_key != "add":
            return features
        return replace(features, audio=features.audio * heard.view(-1, 1, 1, 1, 1).to(features.audio))

    def encode(self, frames: UInt8[Tensor, "b f h w 3"]) -> list[Tensor]:
        """The video encoder's scales, fine to coarse: the last three are looked at."""
        values = self.model.config.preprocessing
        mean, std = (frames.new_tensor(v, dtype=torch.float32) * 255 for v in (values.mean, values.std))
        return self.model.video_encoder(rearrange((frames.float() - mean) / std, "b f h w c -> b c f h w"))


class DatabasePhase:
    """One :class:`diffsal.training.engine.Phase`: ``config.epochs`` over the windows of ``clips``."""

    name = "windows"

    def __init__(
        self, model: DiffSal, config: DatabaseConfig, clips: list[Clip], validation: list[Clip], shard: Shard,
        cache: Path,
    ) -> None:
        self.config, self.shard, self.predicts = config, shard, model.config.predicts
        self.cache = FeatureCache.of(cache, model.video_encoder, model.config) if config.cache_features else None
        find = self.cache.find if self.cache is not None else None
        self.samples = Samples(clips, model.config, config, find)
        self.scored = ScoredSamples(validation, model.config, config.validation_windows, find)
        self.epoch_samples, self.ema_decay = len(self.samples), config.ema_decay
        self.num_steps = max(1, config.epochs * self.epoch_samples // config.batch_size)
        self.model_config: ModelConfig = model.config

    def prepare(self, model: DiffSal) -> nn.Module:
        config = self.config
        freeze(model, config.frozen)
        if config.batch_norm == "synchronised" and self.shard.num_processes > 1:
            synchronise_batch_norm(model)
        if config.gradient_checkpointing:
            checkpoint_gradients(model.video_encoder)
        self.denoiser = Denoiser(model)
        return torch.compile(self.denoiser) if config.compile else self.denoiser

    def train_mode(self, model: DiffSal) -> None:
        train_mode(model, self.config.frozen, self.config.batch_norm)

    def parameter_groups(self, model: DiffSal) -> list[dict[str, Any]]:
        return [{"params": [p for p in model.parameters() if p.requires_grad], "peak": self.config.learning_rate}]

    def rate_factor(self, step: int) -> float:
        return learning_rate_factor(self.config, step, self.num_steps)

    def batches(self, first_step: int) -> Iterator[Batch]:
        return load_batches(
            self.samples, self.numbers(first_step), self.config.num_workers, self.shard.device.type == "cuda"
        )

    def numbers(self, first_step: int) -> Iterator[list[int]]:
        """The samples of this process's micro-batches: process by process within each micro-batch of a step."""
        size, processes = self.shard.micro_batch, self.shard.num_processes
        for micro in range(first_step * self.shard.accumulation, self.num_steps * self.shard.accumulation):
            start = (micro * processes + self.shard.rank) * size
            yield list(range(start, start + size))

    def state(self) -> dict[str, Any]:
        """Nothing: a sample is a function of its number."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass

    def losses(self, network: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Algorithm 1's squared error and what the configuration adds to it."""
        config, batch = self.config, batch.to(self.shard.device)
        prediction = network(batch.x_t, batch.t, *self.inputs(self.denoiser, batch, self.samples.clips)).float()
        if self.predicts == "noise":
            error = squared_error(prediction, batch.noise)
            x_0 = self.denoiser.model.schedule.remove_noise(batch.x_t, prediction, batch.t)
        else:
            error, x_0 = squared_error(prediction, batch.target), prediction
        losses = config.mse_weight * error
        if config.kl_weight:
            losses = losses + config.kl_weight * kl_divergence(x_0, batch.target)
        if config.cc_weight:
            losses = losses - config.cc_weight * correlation(x_0, batch.target)
        return losses

    def inputs(self, denoiser: Denoiser, batch: Batch, clips: list[Clip]) -> tuple:
        """Frames, scales, mel and heard as :class:`Denoiser` takes them; new features of a frozen encoder are kept."""
        if self.cache is None:
            return torch.stack(batch.frames), None, batch.mel, batch.heard
        missing = [i for i, scales in enumerate(batch.scales) if scales is None]
        if missing:
            with torch.no_grad():
                fresh = denoiser.encode(torch.stack([batch.frames[i] for i in missing]))[-3:]
            for row, i in enumerate(missing):
                window = batch.windows[i]
                batch.scales[i] = self.cache.keep(clips[window.clip], window, [x[row] for x in fresh])
        stacked = [torch.stack(scale) for scale in zip(*batch.scales, strict=True)]
        return None, stacked, batch.mel, batch.heard

    @torch.no_grad()
    def validate(self, model: DiffSal, on_part: Callable[[int, int], None]) -> dict[str, Any]:
        """Means of CC, SIM and NSS over the windows scored, at their ground truth's size, by Algorithm 2's sampling."""
        if not len(self.scored):
            return {}
        denoiser, size = Denoiser(model), self.shard.micro_batch
        mine = range(self.shard.rank, len(self.scored), self.shard.num_processes)
        loader = DataLoader(
            self.scored, batch_sampler=[list(mine[i : i + size]) for i in range(0, len(mine), size)],
            collate_fn=list, num_workers=self.config.num_workers, generator=torch.Generator(),
            worker_init_fn=quieten if self.config.num_workers else None,
        )
        rows: list[dict[str, float]] = []
        skipped: list[str] = []
        for done, answers in enumerate(loader):
            on_part(done, len(loader))
            skipped += [answer for answer in answers if isinstance(answer, str)]
            samples = [answer for answer in answers if isinstance(answer, Sample)]
            if samples:
                rows += self.score(denoiser, Batch.of(samples).to(self.shard.device))
        rows, skipped = gather_object(rows), gather_object(skipped)
        scores: dict[str, Any] = {}
        for name in ("CC", "SIM", "NSS"):
            values = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
            if values:
                scores[name] = round(sum(values) / len(values), 5)
        return {**scores, "windows": len(rows), **({"skipped": skipped} if skipped else {})}

    def score(self, denoiser: Denoiser, batch: Batch) -> list[dict[str, float]]:
        """CC, SIM and, where fixations are known, NSS of each window."""
        features = denoiser.features(*self.inputs(denoiser, batch, self.scored.clips))
        maps = denoiser.model.sample(features, batch.noise, self.config.sampling_steps).cpu()
        rows = []
        for x_0, truth, fixations in zip(maps, batch.truth, batch.fixations, strict=True):
            saliency = F.interpolate(x_0[None], size=truth.shape, mode="bilinear")[0, 0]
            row = {"CC": cc(saliency, truth).item(), "SIM": sim(saliency, truth).item()}
            if fixations is not None and fixations.shape == truth.shape:
                row["NSS"] = nss(saliency, fixations).item()
            rows.append(row)
        return rows
