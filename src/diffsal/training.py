"""Algorithm 1 on the gaze layout: stills with everything trainable, then windows of frozen, cached frame features."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from diffsal.audio import MelTrack
from diffsal.config import ModelConfig, TrainConfig
from diffsal.convert import load_encoder
from diffsal.data.gaze import GazeClip, read_set, saliency_map
from diffsal.data.store import FrameStore
from diffsal.encoders.mobilenet import FRAME_STEP
from diffsal.losses import correlation, kl_divergence, similarity, squared_error
from diffsal.metrics import cc, nss, sim
from diffsal.model import DiffSal
from diffsal.windows import window_indices

TARGET_STRIDE = 2  # ground-truth maps are drawn at half the network's size and enlarged
VALIDATION_FRAME_STEP = 10
MIN_FIXATIONS = 5  # on a frame that is trained on
CACHED_TOGETHER = 32


@dataclass(frozen=True)
class Sample:
    """One frame with its people: which clip, which frame of it, and how it is seen.

    ``crop`` is (left, top, size) as fractions of the picture; ``light`` is (contrast, brightness in pixel values).
    """

    clip: GazeClip
    index: int
    mirrored: bool = False
    crop: tuple[float, float, float] = (0.0, 0.0, 1.0)
    light: tuple[float, float] = (1.0, 0.0)

    def seen(self, fixations: np.ndarray) -> np.ndarray:
        """The fixations that fall on what is seen, as fractions of it; rows as :class:`GazeClip` has them."""
        left, top, size = self.crop
        moved = fixations.copy()
        moved[:, 3], moved[:, 4] = (moved[:, 3] - left) / size, (moved[:, 4] - top) / size
        moved = moved[((moved[:, 3:] >= 0) & (moved[:, 3:] <= 1)).all(1)] if size < 1 else moved
        if self.mirrored:
            moved[:, 3] = 1 - moved[:, 3]
        return moved


class Trainer:
    """One run: data, network, its moving average, and the two phases. ``run`` resumes where a checkpoint stands."""

    def __init__(self, model_config: ModelConfig, config: TrainConfig, data: Path, out: Path, init: list[Path]) -> None:
        self.config, self.out = config, out
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.model = DiffSal(model_config)
        for path in init:
            load_encoder(self.model, path)
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        clips = [clip for name in (*config.picture_sets, *config.video_sets) for clip in read_set(data, name)]
        self.store = FrameStore(clips, out / "frames", model_config.height, model_config.width)
        held_out = set(config.validation_scenes)
        self.validation = [c for c in clips if not c.is_picture and (c.name in held_out or c.scene in held_out)]
        self.videos = [c for c in clips if not c.is_picture and c not in self.validation]
        sizes = Counter(c.set_name for c in self.videos)
        shares = np.array([sizes[c.set_name] ** -0.5 for c in self.videos])
        self.video_shares = shares / shares.sum()
        self.pictures = [c for c in clips if c.is_picture]
        self.mels: dict[str, MelTrack | None] = {}
        self.features: list[np.ndarray] = []
        self.rows: dict[int, int] = {}  # of the cached features, by frame of the store
        self.brightness: Tensor | None = None  # of every frame of the store
        self.step = 0
        (out / "config.json").write_text(json.dumps({"model": asdict(model_config), "train": asdict(config)}, indent=1))

    def run(self, resume: bool = False) -> DiffSal:
        """Both phases; the moving average is what comes out."""
        phases = (("stills", self.config.still_steps), ("windows", self.config.window_steps))
        total, start = sum(steps for _, steps in phases), 0
        if resume and (self.out / "last.pt").exists():
            self.restore()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            task = progress.add_task("training", total=total, completed=self.step)
            for phase, steps in phases:
                if self.step < start + steps:
                    self.run_phase(phase, start, steps, progress, task)
                start += steps
        return self.average

    def run_phase(self, phase: str, start: int, steps: int, progress: Progress, task) -> None:
        self.model.train()
        self.freeze(phase)
        optimiser = self.optimiser()
        pending = self.out / "last.pt"
        if self.step > start and pending.exists():
            optimiser.load_state_dict(torch.load(pending, weights_only=True)["optimiser"])
        if phase == "windows":
            self.cache_features()
        while self.step < start + steps:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * learning_rate_factor(self.step - start, steps)
            loss = self.train_step(phase)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            self.step += 1
            self.update_average()
            progress.update(task, completed=self.step, description=f"{phase} loss {loss:.3f}")
            if self.step % self.config.checkpoint_steps == 0 or self.step == start + steps:
                self.save(optimiser)
                self.report(phase, loss)

    # --- one step -------------------------------------------------------------------------------------------------

    def train_step(self, phase: str) -> float:
        """Algorithm 1 on one batch; leaves the gradients behind."""
        config, batch = self.config, self.draw(phase)
        target = torch.stack([self.target(s) for s in batch])
        t = torch.from_numpy(self.rng.integers(0, self.model.schedule.num_timesteps, len(batch)))
        last = torch.from_numpy(self.rng.random(len(batch)) < config.last_timestep_share)
        t[last] = self.model.schedule.num_timesteps - 1
        noise = torch.randn(target.shape)
        x_t = self.model.schedule.add_noise(target + config.target_noise * torch.randn(target.shape), noise, t)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            features = self.encode(batch, phase)
            x_0 = self.model.denoise(x_t, t, features)
        x_0 = x_0.float()
        error = squared_error(x_0, target) / (squared_error(target, torch.zeros_like(target)) + 1)
        losses = config.mse_weight * error + config.kl_weight * kl_divergence(x_0, target)
        losses = losses - config.cc_weight * correlation(x_0, target) - config.sim_weight * similarity(x_0, target)
        loss = losses.mean()
        if not torch.isfinite(loss):
            names = ", ".join(f"{s.clip.name} frame {s.index}" for s in batch)
            raise RuntimeError(f"step {self.step}: the loss is {loss.item()} on {names}")
        loss.backward()
        return loss.item()

    def draw(self, phase: str) -> list[Sample]:
        """A batch: pictures and frames of videos that somebody looks at; a set of videos is as likely as the square
        root of the number of its clips, and its clips are equally likely."""
        share = self.config.picture_share * (1 if phase == "stills" else 0.5)
        batch: list[Sample] = []
        while len(batch) < self.config.batch_size:
            picture = self.pictures and (not self.videos or self.rng.random() < share)
            if picture:
                clip = self.pictures[self.rng.integers(len(self.pictures))]
            else:
                clip = self.videos[self.rng.choice(len(self.videos), p=self.video_shares)]
            index = int(self.rng.integers(len(self.store.ranges[key(clip)])))
            if phase == "windows":
                index -= index % FRAME_STEP  # the others' features are not cached
            sample = self.vary(Sample(clip, index), phase)
            if len(sample.seen(clip.on_frame(self.store.seconds[key(clip)][index]))) >= MIN_FIXATIONS:
                batch.append(sample)
        return batch

    def vary(self, sample: Sample, phase: str) -> Sample:
        """Mirrored half of the time; stills are also cropped, and lit otherwise."""
        mirrored, crop, light = bool(self.rng.random() < 0.5), sample.crop, sample.light
        if phase == "stills":
            light = (float(self.rng.uniform(0.8, 1.2)), float(self.rng.uniform(-20, 20)))
            if self.rng.random() < self.config.crop_share:
                size = float(self.rng.uniform(0.7, 1.0))
                crop = (*(float(v) for v in self.rng.uniform(0, 1 - size, 2)), size)
        return Sample(sample.clip, sample.index, mirrored, crop, light)

    def target(self, sample: Sample) -> Tensor:
        """S_0 (1, h, w) of the sample."""
        name, size = key(sample.clip), (self.model.config.height, self.model.config.width)
        fixations = sample.seen(sample.clip.on_frame(self.store.seconds[name][sample.index]))
        grid = saliency_map(fixations, size[0] // TARGET_STRIDE, size[1] // TARGET_STRIDE, self.store.aspects[name])
        grid = torch.from_numpy(grid)
        return nn.functional.interpolate(grid[None, None], size=size, mode="bilinear")[0]

    def encode(self, batch: list[Sample], phase: str):
        """f_v and f_a of the batch: stills as windows of one repeated frame, or windows of cached frame features."""
        if phase == "stills":
            frames = self.model.encode_frames(torch.stack([self.picture(s) for s in batch]))
            windows = [x[:, :, None].expand(-1, -1, self.model.config.num_frames, -1, -1) for x in frames]
            return self.model.encode_window(windows, None)
        windows = [torch.stack(scale) for scale in zip(*(self.cached_window(s) for s in batch), strict=True)]
        features = self.model.encode_window(windows, None)
        return type(features)(features.video, self.sounds(batch))

    def picture(self, sample: Sample) -> Tensor:
        """The sample's frame, normalised (3, h, w)."""
        image = np.array(self.store.frames[self.store.ranges[key(sample.clip)][sample.index]])
        (left, top, part), (contrast, brightness) = sample.crop, sample.light
        if part < 1:
            height, width = image.shape[:2]
            y, x = round(top * height), round(left * width)
            cut = image[y : y + round(part * height), x : x + round(part * width)]
            image = cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR)
        if sample.light != (1.0, 0.0):
            image = cv2.convertScaleAbs(image, alpha=contrast, beta=brightness)
        return normalise(image[:, ::-1].copy() if sample.mirrored else image, self.model.config)

    def sound(self, clip: GazeClip) -> MelTrack | None:
        """The clip's log-mel windows, read when first needed; None for a picture or a clip without sound."""
        if key(clip) not in self.mels:
            self.mels[key(clip)] = None if clip.is_picture else mel_track(self.model.config, clip)
        return self.mels[key(clip)]

    def sounds(self, batch: list[Sample]) -> Tensor | None:
        """Audio features of the batch, as without sound where a sample has none or trains without it."""
        encoder, features = self.model.audio_encoder, self.model.silence(len(batch))
        if encoder is None or features is None:
            return None
        rows = [self.heard(sample) for sample in batch]
        heard = [i for i, mel in enumerate(rows) if mel is not None]
        if heard:
            with torch.no_grad():
                features[heard] = encoder(torch.stack([rows[i] for i in heard])).float()
        return features

    def heard(self, sample: Sample) -> Tensor | None:
        """The log-mel that goes with the sample: its own, another's (it must not mislead), or None: silence."""
        clip, seconds = sample.clip, float(self.store.seconds[key(sample.clip)][sample.index])
        if self.sound(clip) is None:
            return None
        if self.model.training:
            chance = self.rng.random()
            if chance < self.config.mute_share:
                return None
            if chance < self.config.mute_share + self.config.other_sound_share:
                others = [c for c in self.videos if c.set_name == clip.set_name and self.sound(c) is not None]
                clip = others[self.rng.integers(len(others))]
                seconds = float(self.rng.choice(self.store.seconds[key(clip)]))
        return self.sound(clip).window(seconds, 1.0, sample.index)

    # --- frozen frames --------------------------------------------------------------------------------------------

    def freeze(self, phase: str) -> None:
        """What does not learn: the audio encoder always; the backbone's first blocks, or all of it on windows."""
        if self.model.audio_encoder is not None:
            self.model.audio_encoder.requires_grad_(False).eval()
        backbone = self.model.video_encoder.features
        frozen = len(backbone) if phase == "windows" else self.config.frozen_blocks
        for index, block in enumerate(backbone):
            block.requires_grad_(index >= frozen)

    @torch.no_grad()
    def cache_features(self) -> None:
        """Features by the frozen backbone, half precision, on disk: of every second frame of each clip, as it is and
        mirrored (strided convolutions of a mirrored picture are not mirrored features); brightness of every frame."""
        if self.features:
            return
        rows = [i for frames in self.store.ranges.values() for i in frames[::FRAME_STEP]]
        self.rows = {frame: row for row, frame in enumerate(rows)}
        images = (normalise(x, self.model.config)[None] for x in self.store.frames)
        self.brightness = torch.cat([self.model.video_encoder.brightness(x).half() for x in images])
        for first in range(0, len(rows), CACHED_TOGETHER):
            images = [self.store.frames[i] for i in rows[first : first + CACHED_TOGETHER]]
            for side in range(2):
                views = [normalise(x[:, ::-1] if side else x, self.model.config) for x in images]
                with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bfloat16):
                    scales = self.model.encode_frames(torch.stack(views))[1:]
                if not self.features:
                    self.features = [
                        np.memmap(self.out / "frames" / f"scale{i}.f16", np.float16, "w+",
                                  shape=(2, len(rows), *x.shape[1:]))
                        for i, x in enumerate(scales)
                    ]
                for stored, x in zip(self.features, scales, strict=True):
                    stored[side, first : first + len(x)] = x.float().numpy()

    def cached_window(self, sample: Sample) -> list[Tensor]:
        """Each scale of the sample's window, (c, frames, h, w): brightness of all frames, features of every second."""
        frames = self.store.ranges[key(sample.clip)]
        window = window_indices(sample.index, len(frames), self.model.config.num_frames)
        bright = self.brightness[[frames[i] for i in window]].float().transpose(0, 1)
        rows = [self.rows[frames[i - i % FRAME_STEP]] for i in window[::FRAME_STEP]]
        deep = [torch.from_numpy(stored[int(sample.mirrored), rows].astype(np.float32)) for stored in self.features]
        return [bright.flip(-1) if sample.mirrored else bright, *(x.transpose(0, 1) for x in deep)]

    # --- state and scores -----------------------------------------------------------------------------------------

    def optimiser(self) -> torch.optim.Optimizer:
        """AdamW; the backbone learns more slowly than what is new."""
        backbone = [p for p in self.model.video_encoder.features.parameters() if p.requires_grad]
        known = {id(p) for p in backbone}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
        groups = [{"params": rest, "peak": self.config.learning_rate}]
        if backbone:
            groups.append({"params": backbone, "peak": self.config.backbone_learning_rate})
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    @torch.no_grad()
    def update_average(self) -> None:
        """Exponential moving average of weights and batch statistics, faster at first."""
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        current = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    def save(self, optimiser: torch.optim.Optimizer) -> None:
        """Everything a resumed run needs, written beside and renamed."""
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimiser": optimiser.state_dict(), "step": self.step,
            "torch_random": torch.get_rng_state(), "numpy_random": json.dumps(self.rng.bit_generator.state),
        }
        partial = self.out / "last.pt.partial"
        torch.save(state, partial)
        partial.replace(self.out / "last.pt")

    def restore(self) -> None:
        state = torch.load(self.out / "last.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.step = state["step"]
        torch.set_rng_state(state["torch_random"])
        self.rng.bit_generator.state = json.loads(state["numpy_random"])

    def report(self, phase: str, loss: float) -> None:
        """Scores of the moving average on the held-out clips, real sampling from a fixed seed, appended to a log."""
        line = {"step": self.step, "phase": phase, "loss": round(loss, 4), **self.validate(phase)}
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    @torch.no_grad()
    def validate(self, phase: str) -> dict[str, dict[str, float]]:
        """Mean CC, SIM and NSS per set over the held-out clips, at the network's size (a choice, not a claim)."""
        scores: dict[str, list[list[float]]] = {}
        generator = torch.Generator().manual_seed(0)
        live, self.model = self.model, self.average
        for clip in self.validation:
            seconds = self.store.seconds[key(clip)]
            frames = [i for i in range(0, len(seconds), VALIDATION_FRAME_STEP) if len(clip.on_frame(seconds[i])) >= 5]
            rows = [self._score(clip, frames[i : i + 8], phase, generator) for i in range(0, len(frames), 8)]
            scores.setdefault(clip.set_name, []).append(np.concatenate(rows).mean(0).tolist())
        self.model = live
        return {
            name: dict(zip(("CC", "SIM", "NSS"), np.round(np.mean(clips, 0), 4).tolist(), strict=True))
            for name, clips in scores.items()
        }

    def _score(self, clip: GazeClip, indices: list[int], phase: str, generator: torch.Generator) -> np.ndarray:
        batch = [Sample(clip, i) for i in indices]
        features = self.encode(batch, phase)
        size = (self.model.config.height, self.model.config.width)
        x_0 = self.model.sample(features, torch.randn(len(batch), 1, *size, generator=generator))
        target, points = torch.stack([self.target(s) for s in batch]), torch.zeros_like(x_0, dtype=torch.bool)
        for i, index in enumerate(indices):
            fixations = clip.on_frame(self.store.seconds[key(clip)][index])
            rows = np.minimum((fixations[:, 4] * size[0]).astype(int), size[0] - 1)
            points[i, 0, rows, np.minimum((fixations[:, 3] * size[1]).astype(int), size[1] - 1)] = True
        return torch.stack([cc(x_0, target), sim(x_0, target), nss(x_0, points)])[:, :, 0].T.numpy()


def key(clip: GazeClip) -> str:
    return f"{clip.set_name}/{clip.name}"


def normalise(image: np.ndarray, config: ModelConfig) -> Tensor:
    """uint8 (h, w, 3) → the network's input (3, h, w)."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.preprocessing.mean, config.preprocessing.std))
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - mean) / std


def mel_track(config: ModelConfig, clip: GazeClip) -> MelTrack | None:
    """The clip's sound on its own clock; None where it has none."""
    from diffsal.media import read_sound

    sound = read_sound(clip.path)
    return MelTrack(config, sound) if sound is not None else None


def learning_rate_factor(step: int, steps: int, warm_up: int = 50) -> float:
    """Linear warm-up, then half a cosine down to 2 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
