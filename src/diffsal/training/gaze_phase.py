"""Algorithm 1 on the gaze layout: stills with everything trainable, then windows of frozen, cached frame features."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffsal.bars import watched
from diffsal.config import ModelConfig, TrainConfig
from diffsal.data.databases.gaze import GazeClip
from diffsal.errors import InputError
from diffsal.files import write_whole
from diffsal.media.windows import window_indices
from diffsal.networks.diffsal import DiffSal, Features
from diffsal.networks.encoders.mobilenet import FRAME_STEP
from diffsal.scoring.metrics import cc, nss, sim
from diffsal.training.engine import Shard, learning_rate_factor
from diffsal.training.feature_cache import digest
from diffsal.training.gaze_examples import MIN_FIXATIONS, GazeSamples, Sample, key, normalise
from diffsal.training.objective import correlation, kl_divergence, similarity, squared_error
from diffsal.training.trainable import synchronise_batch_norm, train_mode

VALIDATION_FRAME_STEP = 10
SCORED_TOGETHER = 8


@dataclass(eq=False)
class Batch:
    """Samples with what Algorithm 1 drew for them; ``mels`` holds None for a sample that hears nothing."""

    samples: list[Sample]
    target: Float[Tensor, "b 1 h w"]
    noise: Float[Tensor, "b 1 h w"]
    x_t: Float[Tensor, "b 1 h w"]
    t: Int[Tensor, " b"]
    mels: list[Tensor | None]
    problems: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"{key(sample.clip)} frame {sample.index}" for sample in self.samples]


class FrameDenoiser(nn.Module):
    """A network whose frames are encoded one by one, as Algorithm 1 calls it: single frames, or cached windows."""

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " b"], frames: list[Tensor], mels: list[Tensor | None]
    ) -> Float[Tensor, "b 1 h w"]:
        return self.model.predict(x_t, t, self.features(frames, mels))

    def features(self, frames: list[Tensor], mels: list[Tensor | None]) -> Features:
        """f_v and f_a. ``frames``: pictures alone (b, 3, h, w), each repeated through its window, or the windows'
        scales (b, c, frames, h, w); where nothing is heard, f_a is silence."""
        model = self.model
        if len(frames) == 1:
            scales = model.encode_frames(frames[0])
            frames = [x[:, :, None].expand(-1, -1, model.config.num_frames, -1, -1) for x in scales]
        features = model.encode_window(frames, None)
        audio, heard = features.audio, [i for i, mel in enumerate(mels) if mel is not None]
        if audio is not None and heard:
            with torch.no_grad():
                audio[heard] = model.audio_encoder(torch.stack([mels[i] for i in heard])).to(audio)
        return replace(features, audio=audio)


class FrozenFrames:
    """Features of the store's frames by the frozen backbone, half precision, on disk: of every second frame of each
    clip, as it is and mirrored (strided convolutions of a mirrored picture are not mirrored features); brightness of
    every frame.

    They are computed when they are first asked for, each picture by itself: a call with others would change its last
    bits. A resumed run finds what the one before computed, under the digest of the same weights.
    """

    def __init__(self, model: DiffSal, samples: GazeSamples, folder: Path, autocast: bool) -> None:
        self.model, self.samples, self.autocast = model, samples, autocast
        self.num_frames, self.device = model.config.num_frames, next(model.parameters()).device
        store, config = samples.store, model.config
        rows = [i for frames in store.ranges.values() for i in frames[::FRAME_STEP]]
        self.rows = {frame: row for row, frame in enumerate(rows)}
        settings = (config.height, config.width, config.preprocessing, store.ranges, autocast)
        known, found = folder / "features.sha256", digest(model.video_encoder.features, settings)
        mode = "r+" if known.exists() and known.read_text() == found else "w+"
        # Which are there: of rows as they are, of rows mirrored; of frames' brightness
        self.filled = np.memmap(folder / "filled.u8", np.uint8, mode, shape=(2, len(rows)))
        self.bright = np.memmap(folder / "bright.u8", np.uint8, mode, shape=len(store.frames))
        brightness, *scales = self._encode(store.frames[0], False)
        self.brightness = np.memmap(
            folder / "brightness.f16", np.float16, mode, shape=(len(store.frames), *brightness.shape))
        self.scales = [
            np.memmap(folder / f"scale{i}.f16", np.float16, mode, shape=(2, len(rows), *x.shape))
            for i, x in enumerate(scales)
        ]
        write_whole(known, found.encode())

    @torch.no_grad()
    def _encode(self, image: np.ndarray, mirrored: bool) -> list[np.ndarray]:
        view = normalise(image[:, ::-1] if mirrored else image, self.model.config)[None].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return [x[0].float().cpu().numpy() for x in self.model.encode_frames(view)]

    def _row(self, frame: int, mirrored: bool) -> int:
        """Where the features of a frame of the store are."""
        side, row = int(mirrored), self.rows[frame]
        if not self.filled[side, row]:
            scales = self._encode(self.samples.store.frames[frame], mirrored)[1:]
            for stored, x in zip(self.scales, scales, strict=True):
                stored[side, row] = x
            self.filled[side, row] = 1
        return row

    def brightness_of(self, frames: list[int]) -> Float[Tensor, "1 f _ _"]:
        for frame in frames:
            if not self.bright[frame]:
                picture = normalise(self.samples.store.frames[frame], self.model.config)[None]
                self.brightness[frame] = self.model.video_encoder.brightness(picture)[0].numpy()
                self.bright[frame] = 1
        return torch.from_numpy(self.brightness[frames].astype(np.float32)).transpose(0, 1)

    def window(self, sample: Sample) -> list[Float[Tensor, "_ f _ _"]]:
        """Each scale of the sample's window: brightness of all its frames, features of every second."""
        frames = self.samples.store.ranges[key(sample.clip)]
        window = window_indices(sample.index, len(frames), self.num_frames)
        bright = self.brightness_of([frames[i] for i in window])
        rows = [self._row(frames[i - i % FRAME_STEP], sample.mirrored) for i in window[::FRAME_STEP]]
        deep = [torch.from_numpy(stored[int(sample.mirrored), rows].astype(np.float32)) for stored in self.scales]
        return [bright.flip(-1) if sample.mirrored else bright, *(x.transpose(0, 1) for x in deep)]


class GazePhase:
    """One :class:`diffsal.training.engine.Phase`: ``stills``, where the backbone's last blocks learn, or ``windows``.

    Batches come from a generator that the phases share; an epoch is one sample per frame of the store.
    """

    def __init__(
        self, name: str, num_steps: int, samples: GazeSamples, config: TrainConfig, shard: Shard,
        rng: np.random.Generator, folder: Path,
    ) -> None:
        self.name, self.num_steps, self.samples, self.config, self.shard = name, num_steps, samples, config, shard
        self.rng, self.folder = rng, folder
        self.epoch_samples = len(samples.store.frames)
        self.model_config: ModelConfig = samples.model
        windows = name == "windows"
        self.learning_rate = config.window_learning_rate if windows else config.learning_rate
        self.ema_decay = config.window_ema_decay if windows else config.ema_decay
        self.sim_weight = config.sim_weight if windows else 0.0
        self.frozen: FrozenFrames | None = None

    def prepare(self, model: DiffSal) -> nn.Module:
        """The audio encoder never learns; of the backbone the first blocks do not, nor on windows any."""
        if model.audio_encoder is not None:
            model.audio_encoder.requires_grad_(False)
        backbone = model.video_encoder.features
        frozen = len(backbone) if self.name == "windows" else self.config.frozen_blocks
        for index, block in enumerate(backbone):
            block.requires_grad_(index >= frozen)
        if self.name == "windows":
            folder = self.folder if self.shard.rank == 0 else self.folder / f"process{self.shard.rank}"
            folder.mkdir(parents=True, exist_ok=True)
            self.train_mode(model)
            self.frozen = FrozenFrames(model, self.samples, folder, self.config.precision != "fp32")
        if self.config.batch_norm == "synchronised" and self.shard.num_processes > 1:
            synchronise_batch_norm(model.unet)
        self.denoiser = FrameDenoiser(model)
        return torch.compile(self.denoiser) if self.config.compile else self.denoiser

    def train_mode(self, model: DiffSal) -> None:
        train_mode(model, ("audio",), self.config.batch_norm)

    def parameter_groups(self, model: DiffSal) -> list[dict[str, Any]]:
        """The backbone learns more slowly than what is new."""
        backbone = [p for p in model.video_encoder.features.parameters() if p.requires_grad]
        known = {id(p) for p in backbone}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        groups = [{"params": rest, "peak": self.learning_rate}]
        if backbone:
            groups.append({"params": backbone, "peak": self.config.backbone_learning_rate})
        return groups

    def rate_factor(self, step: int) -> float:
        return learning_rate_factor(self.config, step, self.num_steps)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Drawn when they are asked for, from where the generator stands."""
        while True:
            yield self.draw()

    def draw(self) -> Batch:
        config, schedule = self.config, self.denoiser.model.schedule
        samples = self.samples.draw(self.name, self.shard.micro_batch, self.rng)
        target = torch.stack([self.samples.target(s) for s in samples])
        t = torch.from_numpy(self.rng.integers(0, schedule.num_timesteps, len(samples)))
        last = torch.from_numpy(self.rng.random(len(samples)) < config.last_timestep_share)
        t[last] = schedule.num_timesteps - 1
        noise = torch.randn(target.shape)
        x_t = schedule.add_noise(target + config.target_noise * torch.randn(target.shape), noise, t)
        return Batch(samples, target, noise, x_t, t, self.hear(samples, self.rng))

    def hear(self, samples: list[Sample], rng: np.random.Generator | None) -> list[Tensor | None]:
        if self.name == "stills":
            return [None] * len(samples)
        device = self.shard.device
        mels = [self.samples.heard(sample, rng) for sample in samples]
        return [None if mel is None else mel.to(device) for mel in mels]

    def frames(self, samples: list[Sample]) -> list[Tensor]:
        """As :class:`FrameDenoiser` takes them."""
        if self.frozen is None:
            return [torch.stack([self.samples.picture(s) for s in samples]).to(self.shard.device)]
        windows = (self.frozen.window(s) for s in samples)
        return [torch.stack(scale).to(self.shard.device) for scale in zip(*windows, strict=True)]

    def losses(self, network: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Algorithm 1's squared error as a share of what it aims at, KL divergence, and less correlation and SIM."""
        config, device = self.config, self.shard.device
        target, noise, x_t, t = (x.to(device) for x in (batch.target, batch.noise, batch.x_t, batch.t))
        prediction = network(x_t, t, self.frames(batch.samples), batch.mels).float()
        predicts_noise = self.model_config.predicts == "noise"
        aim = noise if predicts_noise else target
        x_0 = self.denoiser.model.schedule.remove_noise(x_t, prediction, t) if predicts_noise else prediction
        error = squared_error(prediction, aim) / (squared_error(aim, torch.zeros_like(aim)) + 1)
        losses = config.mse_weight * error + config.kl_weight * kl_divergence(x_0, target)
        return losses - config.cc_weight * correlation(x_0, target) - self.sim_weight * similarity(x_0, target)

    # --- state and scores -----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"numpy_random": json.dumps(self.rng.bit_generator.state)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = json.loads(state["numpy_random"])

    @torch.no_grad()
    def validate(self, model: DiffSal, on_part: Callable[[int, int], None]) -> dict[str, Any]:
        """Mean CC, SIM and NSS per set over the held-out clips, at the network's size (a choice, not a claim), and
        ``CC``, the sets' mean."""
        scores: dict[str, list[list[float]]] = {}
        generator, denoiser = torch.Generator().manual_seed(0), FrameDenoiser(model)
        scored = [(clip, self.scored(clip)) for clip in self.samples.validation]
        done, total = 0, sum(len(samples) for _, samples in scored)
        for clip, samples in scored:
            rows = []
            for i in range(0, len(samples), SCORED_TOGETHER):
                rows.append(self.score(denoiser, samples[i : i + SCORED_TOGETHER], generator))
                done += len(rows[-1])
                on_part(done, total)
            if rows:
                scores.setdefault(clip.set_name, []).append(np.concatenate(rows).mean(0).tolist())
        means = {
            name: dict(zip(("CC", "SIM", "NSS"), np.round(np.mean(clips, 0), 4).tolist(), strict=True))
            for name, clips in scores.items()
        }
        return {**means, "CC": float(np.mean([row["CC"] for row in means.values()]))} if means else {}

    def scored(self, clip: GazeClip) -> list[Sample]:
        """Every tenth frame of a clip, where somebody looks."""
        count = len(self.samples.store.seconds[key(clip)])
        every = (Sample(clip, i) for i in range(0, count, VALIDATION_FRAME_STEP))
        return [sample for sample in every if len(self.samples.fixations(sample)) >= MIN_FIXATIONS]

    def score(self, denoiser: FrameDenoiser, samples: list[Sample], generator: torch.Generator) -> np.ndarray:
        """(n, 3): CC, SIM and NSS of each sample's sampled map."""
        features = denoiser.features(self.frames(samples), self.hear(samples, None))
        noise = torch.randn(len(samples), 1, self.model_config.height, self.model_config.width, generator=generator)
        x_0 = denoiser.model.sample(features, noise.to(self.shard.device), self.config.sampling_steps)
        return self.scores_of(x_0.cpu(), samples)

    def scores_of(self, maps: Float[Tensor, "n 1 h w"], samples: list[Sample]) -> np.ndarray:
        """(n, 3): CC, SIM and NSS of each sample's map."""
        height, width = maps.shape[2:]
        target = torch.stack([self.samples.target(s) for s in samples])
        points = torch.zeros_like(maps, dtype=torch.bool)
        for i, sample in enumerate(samples):
            fixations = self.samples.fixations(sample)
            rows = np.minimum((fixations[:, 4] * height).astype(int), height - 1)
            points[i, 0, rows, np.minimum((fixations[:, 3] * width).astype(int), width - 1)] = True
        return torch.stack([cc(maps, target), sim(maps, target), nss(maps, points)])[:, :, 0].T.numpy()


def gaze_phases(model: ModelConfig, config: TrainConfig, data: Path, out: Path, shard: Shard) -> list[GazePhase]:
    """Stills, then windows, on the sets under ``data``; frames and features are kept in ``out/frames``."""
    try:  # the main process decodes; the others find what it wrote
        with PartialState().main_process_first(), watched(f"decoding {data}", unit="clips/s") as show:
            samples = GazeSamples(model, config, data, out / "frames", show)
    except KeyboardInterrupt:
        raise InputError(f"{data}: stopped while it was decoded; the same command goes on from there") from None
    rng = np.random.default_rng([config.seed, shard.rank] if shard.rank else config.seed)
    steps = {"stills": config.still_steps, "windows": config.window_steps}
    return [GazePhase(name, n, samples, config, shard, rng, out / "frames") for name, n in steps.items()]
