"""The settings of a network, of sampling and of a finished map: frozen dataclasses that validate themselves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

CLIP_FRAMES = 16  # frames in a window
TARGET_FRAME = CLIP_FRAMES // 2  # the window's map belongs to this frame (0-based)

VideoEncoderName = Literal["mvit_v2_s", "s3d", "resnet3d_50", "i3d", "mobilenet_v2", "efficientnet_lite0"]
AudioEncoderName = Literal["vggish", "yamnet"]
FRAME_ENCODERS = ("mobilenet_v2", "efficientnet_lite0")  # the video encoders that encode single frames
Spacing = Literal["linspace", "leading", "trailing"]
Precision = Literal["fp32", "bf16", "fp16"]
Prediction = Literal["x_0", "noise", "map"]
NoiseScheduleName = Literal["cosine", "linear"]
BatchNorm = Literal["batch", "synchronised", "frozen"]
Schedule = Literal["steps", "cosine"]
EncoderPart = Literal["video", "audio"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# The audio-visual network's normalisation (REFERENCE.md, section 1), from 0-255 to [0, 1]
AUDIO_VISUAL_MEAN = tuple(v / 255 for v in (114.7748, 107.7354, 99.475))
AUDIO_VISUAL_STD = tuple(v / 255 for v in (38.7568578, 37.88248729, 40.02898126))


def _check_choice(name: str, value: object, choices: object) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class Preprocessing:
    """How a frame and its sound become the network's input.

    ``mean`` and ``std`` are per RGB channel, for pixels in [0, 1]. ``sound`` says how a window's sound is cut:
    ``"timestamps"`` by time on the video's clock (ours), ``"released"`` as the released code does it, by counting
    frames at the file's own sample rate (golden/RELEASED.md, "Sound -> mel").
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    sound: Literal["timestamps", "released"] = "timestamps"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        _check(len(self.mean) == 3 and len(self.std) == 3, "mean and std need three values each (red, green, blue)")
        _check(all(s > 0 for s in self.std), f"std must be positive, got {self.std}")
        _check(self.sound in ("timestamps", "released"), f"sound is {self.sound!r}, not timestamps or released")


@dataclass(frozen=True)
class ModelConfig:
    """One DiffSal network. The defaults are the paper's, with what the released code gets wrong mended.

    Widths go from the coarsest stage to the finest, as the decoder runs.
    """

    video_encoder: VideoEncoderName = "mvit_v2_s"
    audio_encoder: AudioEncoderName | None = "vggish"
    modulation_stages: int = 4
    num_frames: int = CLIP_FRAMES
    height: int = 224
    width: int = 384
    widths: tuple[int, int, int, int] = (768, 384, 192, 96)  # channels of the four modulation stages
    noise_width: int = 96  # channels of the noise branch's first convolution
    noise_widths: tuple[int, int, int] | None = None  # a narrower branch's, coarse to fine; None: the stages'
    time_width: int = 384  # width of the time embedding
    fusion_width: int = 768  # channels into which the stages' slots are reduced
    output_width: int = 96  # channels before the last 1x1 convolution
    centre_prior: bool = False  # a learned map of where people look whatever they see, added before the sigmoid
    map_stride: int = 2  # the stages are summed at this stride of the input (the paper: 112x192)
    heads: int = 2
    mlp_ratio: float = 2.0
    dropout: float = 0.1  # in the noise branch's residual blocks
    drop_path: float = 0.0  # stochastic depth, its rate at the last of the encoder's blocks
    fused_slots: int | None = None  # slots the temporal reduction sees; None: all. The released code: 5 of 9
    attention_scale: Literal["head", "width"] = "head"
    interaction_softmax: Literal["picture", "row"] = "picture"
    audio_memory: Literal["aligned", "released"] = "aligned"  # "released": memory re-read without transposing
    query_depth: int = 1  # temporal extent of Q's kernel over its one slot; the released network carries 3
    audio_key: Literal["replace", "add"] = "replace"  # gated audio in place of K's input, or added to it
    predicts: Prediction = "x_0"  # what the last layer gives: S_0, the noise, or the map without noise and timestep
    noise_schedule: NoiseScheduleName = "cosine"  # of the forward process: the paper's, or Ho et al.'s linear betas
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        if isinstance(self.preprocessing, dict):
            object.__setattr__(self, "preprocessing", Preprocessing(**self.preprocessing))
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.noise_widths is not None:
            object.__setattr__(self, "noise_widths", tuple(self.noise_widths))
            _check(len(self.noise_widths) == 3, f"noise_widths is {self.noise_widths}, expected three, coarse to fine")
        _check_choice("video_encoder", self.video_encoder, VideoEncoderName)
        if self.audio_encoder is not None:
            _check_choice("audio_encoder", self.audio_encoder, AudioEncoderName)
        _check(1 <= self.modulation_stages <= 4, f"modulation_stages is {self.modulation_stages}, expected 1 to 4")
        _check(8 <= self.num_frames <= 64 and self.num_frames % 2 == 0,
               f"num_frames is {self.num_frames}, expected an even number from 8 to 64")
        _check(self.video_encoder not in FRAME_ENCODERS or self.num_frames % 4 == 0,
               f"num_frames is {self.num_frames}, expected a multiple of 4: {self.video_encoder} mixes every second "
               "frame of a window, its own among them")
        for name in ("height", "width"):
            value = getattr(self, name)
            _check(value > 0 and value % 32 == 0, f"{name} is {value}, expected a multiple of 32")
        _check(len(self.widths) == 4, f"widths has {len(self.widths)} values, expected four, coarse to fine")
        for w in self.widths:
            _check(w % self.heads == 0, f"stage width {w} is not a multiple of heads = {self.heads}")
        _check(self.map_stride in (1, 2, 4, 8), f"map_stride is {self.map_stride}, expected 1, 2, 4 or 8")
        _check(0 <= self.dropout < 1 and 0 <= self.drop_path < 1, "dropout and drop_path must lie in [0, 1)")
        _check(self.attention_scale in ("head", "width"), f"attention_scale is {self.attention_scale!r}")
        _check(self.interaction_softmax in ("picture", "row"), f"interaction_softmax is {self.interaction_softmax!r}")
        _check(self.audio_memory in ("aligned", "released"), f"audio_memory is {self.audio_memory!r}")
        _check(self.query_depth in (1, 3), f"query_depth is {self.query_depth}, expected 1 or 3")
        _check(self.audio_key in ("replace", "add"), f"audio_key is {self.audio_key!r}")
        _check_choice("predicts", self.predicts, Prediction)
        _check_choice("noise_schedule", self.noise_schedule, NoiseScheduleName)

    @classmethod
    def released(cls, sound: bool) -> ModelConfig:
        """The released network, oddities included (golden/RELEASED.md); ``sound``: the audio-visual one."""
        mean, std = (AUDIO_VISUAL_MEAN, AUDIO_VISUAL_STD) if sound else (IMAGENET_MEAN, IMAGENET_STD)
        return cls(
            audio_encoder="vggish" if sound else None,
            fused_slots=5,
            attention_scale="width",
            interaction_softmax="row",
            audio_memory="released",
            query_depth=3,
            preprocessing=Preprocessing(mean, std, "released"),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_dict`; an unknown name is a ``ValueError`` that lists it."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        _check(not unknown, f"unknown settings {', '.join(unknown)}: written by a newer diffsal?")
        return cls(**values)


@dataclass(frozen=True)
class Finish:
    """What is done to a network's map once, after the last step of Algorithm 2. The network itself applies nothing.

    In this order, at the map's own stride: ``centre_gain`` times ``centre`` (the logarithm of a mean map, rows from the
    top, enlarged bilinearly) is added to the map's logit; the map is raised to ``exponent``; it is multiplied by
    exp(``motion_gain`` × motion + ``sound_gain`` × sound + ``speaker_gain`` × speaker), scaled so that the map's peak
    stays as high as it was. The defaults change nothing.
    """

    exponent: float = 1.0  # above 1: narrower peaks on a darker ground
    motion_gain: float = 0.0  # of what moves in a picture that is otherwise still
    sound_gain: float = 0.0  # of what moves as the sound gets loud
    speaker_gain: float = 0.0  # of the face that speaks
    centre_gain: float = 0.0
    centre: tuple[tuple[float, ...], ...] | None = None  # height / 32 rows of width / 32 values

    def __post_init__(self) -> None:
        for name in ("exponent", "motion_gain", "sound_gain", "speaker_gain", "centre_gain"):
            value = getattr(self, name)
            _check(isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value),
                   f"{name} is {value!r}, expected a number")
        _check(0 < self.exponent <= 10, f"exponent is {self.exponent}, expected more than 0, at most 10")
        for name in ("motion_gain", "sound_gain", "speaker_gain", "centre_gain"):
            _check(0 <= getattr(self, name) <= 100, f"{name} is {getattr(self, name)}, expected 0 to 100")
        if self.centre is not None:
            object.__setattr__(self, "centre", self._rows(self.centre))
        _check(self.centre is not None or self.centre_gain == 0, "centre_gain needs a centre")

    @staticmethod
    def _rows(centre: Any) -> tuple[tuple[float, ...], ...]:
        try:
            rows = tuple(tuple(float(v) for v in row) for row in centre)
        except (TypeError, ValueError):
            raise ValueError("centre holds something else than rows of numbers") from None
        _check(0 < len(rows) <= 64 and 0 < len(rows[0]) <= 64 and all(len(row) == len(rows[0]) for row in rows),
               "centre needs 1 to 64 rows of equal length, 1 to 64")
        _check(all(math.isfinite(v) and abs(v) <= 100 for row in rows for v in row),
               "centre holds a value that is not finite, or beyond 100")
        return rows

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Finish:
        """The inverse of :meth:`to_dict`; an unknown name is a ``ValueError`` that lists it."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        _check(not unknown, f"unknown settings {', '.join(unknown)}: written by a newer diffsal?")
        return cls(**values)


@dataclass(frozen=True)
class SamplingConfig:
    """Algorithm 2's settings: ``steps`` network calls on a timestep grid."""

    steps: int = 1
    spacing: Spacing = "linspace"
    seed: int = 0

    def __post_init__(self) -> None:
        _check(1 <= self.steps <= 1000, f"steps is {self.steps}, expected 1 to 1000")
        _check_choice("spacing", self.spacing, Spacing)


@dataclass(frozen=True)
class RunConfig:
    """What every training run has, whatever it learns from: optimiser, schedule, precision, checkpoints.

    ``batch_size`` is the samples of one optimiser step over all processes and accumulated micro-batches, so the same
    settings mean the same run on any number of machines. The learning rate rises linearly over the first
    ``warm_up_steps``; then it is multiplied by ``decay`` at each of ``milestones`` (fractions of the run), or with
    ``schedule`` "cosine" it falls along half a cosine to 2 %.
    """

    batch_size: int = 16
    accumulation: int = 1  # micro-batches of one step in each process
    learning_rate: float = 1e-4
    schedule: Schedule = "steps"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    warm_up_steps: int = 0
    weight_decay: float = 0.0  # decoupled (AdamW); 0 is Adam
    adam_epsilon: float = 1e-8
    clip_norm: float = 1.0
    ema_decay: float = 0.0  # of the moving average of the weights that is scored and kept; 0: the weights themselves
    precision: Precision = "fp32"
    batch_norm: BatchNorm = "synchronised"  # statistics of a process's batch, of all processes', or those it has
    compile: bool = False  # torch.compile
    num_workers: int = 2  # processes that decode, for each training process
    checkpoint_steps: int = 500
    validation_steps: int = 500
    log_steps: int = 10
    sampling_steps: int = 1  # of Algorithm 2, in validation
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for name in (
            "batch_size", "accumulation", "checkpoint_steps", "validation_steps", "log_steps", "sampling_steps",
        ):
            _check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("num_workers", "warm_up_steps", "weight_decay"):
            _check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, expected 0 or more")
        for name in ("learning_rate", "clip_norm", "adam_epsilon"):
            _check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, expected more than 0")
        _check(all(0 < m < 1 for m in self.milestones), f"milestones are {self.milestones}, expected fractions")
        _check(0 <= self.ema_decay < 1, f"ema_decay is {self.ema_decay}, expected 0 to below 1")
        _check_choice("schedule", self.schedule, Schedule)
        _check_choice("precision", self.precision, Precision)
        _check_choice("batch_norm", self.batch_norm, BatchNorm)


@dataclass(frozen=True)
class DatabaseConfig(RunConfig):
    """Algorithm 1 on windows of published databases: which, how they are drawn, what is minimised, what learns.

    The loss of a sample is ``mse_weight`` times the squared error summed over pixels (Algorithm 1's), plus
    ``kl_weight`` times the KL divergence, less ``cc_weight`` times the correlation; with ``ModelConfig.predicts``
    "noise" the squared error is the noise's. An epoch holds one window per ``window_stride`` frames of each clip, its
    frame drawn anew in each epoch (``jitter``) and mirrored for half of the samples (``mirror``).
    """

    databases: tuple[str, ...] = ("dhf1k",)
    fold: int = 1  # of the six audio-visual sets' three splits
    epochs: int = 3
    window_stride: int = 16
    jitter: bool = True
    mirror: bool = True
    target_noise: float = 0.01  # times N(0, 1), added to S_0 before the noise of its timestep
    last_timestep_share: float = 0.0  # of the samples at t = T - 1, where sampling starts; the others uniformly
    mute_share: float = 0.0  # of the samples with sound, trained without it
    mse_weight: float = 1.0
    kl_weight: float = 0.0
    cc_weight: float = 0.0
    frozen: tuple[EncoderPart, ...] = ()  # encoders that do not learn
    cache_features: bool = False  # a frozen video encoder's features on disk, computed once
    gradient_checkpointing: bool = False  # encoders' activations computed again in the backward pass: less memory
    hold_out: int = 10  # every so many-th video of a set without a validation split is validated on; 0: none
    validation_windows: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("databases", "frozen"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("epochs", "window_stride", "validation_windows"):
            _check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, expected at least 1")
        _check(self.fold in (1, 2, 3), f"fold is {self.fold}, expected 1, 2 or 3")
        for part in self.frozen:
            _check_choice("frozen", part, EncoderPart)
        _check(self.hold_out == 0 or self.hold_out >= 2, f"hold_out is {self.hold_out}, expected 0, or 2 or more")
        for name in ("last_timestep_share", "mute_share"):
            _check(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}, expected 0 to 1")
        weights = (self.mse_weight, self.kl_weight, self.cc_weight)
        _check(min(weights) >= 0 < max(weights), f"the losses' weights are {weights}: one must be more than 0")
        _check(not self.cache_features or ("video" in self.frozen and not self.jitter),
               "cache_features needs frozen=video (features must not change) and jitter=false (frames that come again)")


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """One training run on the gaze layout: stills first, everything trainable; then windows on frozen, cached frames.

    Steps are optimiser steps of ``batch_size`` samples. The loss per sample is ``mse_weight`` times the squared error
    summed over pixels (Algorithm 1) over the target's own sum of squares, plus KL divergence minus correlation and, on
    windows, SIM, each by its weight. ``last_timestep_share`` of the samples are drawn at t = T − 1, where sampling
    starts; the rest uniformly.
    """

    picture_sets: tuple[str, ...] = ("osie", "eyecrowd")
    video_sets: tuple[str, ...] = ("find", "hevc")
    validation_scenes: tuple[str, ...] = ()
    still_steps: int = 1200
    window_steps: int = 400
    picture_share: float = 0.4  # of a batch of stills; of a batch of windows half as many
    learning_rate: float = 1e-3
    backbone_learning_rate: float = 2e-4
    window_learning_rate: float = 5e-4  # on windows, where the backbone rests
    schedule: Schedule = "cosine"
    warm_up_steps: int = 50
    weight_decay: float = 1e-4
    ema_decay: float = 0.995
    window_ema_decay: float = 0.99
    mse_weight: float = 1.0
    kl_weight: float = 1.0
    cc_weight: float = 1.0
    sim_weight: float = 0.5  # on windows only
    sharpness: float = 1.1  # ModelConfig's, given to the finished network: chosen by cross-validation
    motion_prior: float = 1.25  # likewise
    sound_prior: float = 3.0  # likewise, where the network hears
    centre_weight: float = 0.5  # of the mean map's logarithm, added to the centre prior that was learned: likewise
    target_noise: float = 0.01
    last_timestep_share: float = 0.7
    mute_share: float = 0.25  # of the windows with sound, trained without it
    other_sound_share: float = 0.25  # trained with another clip's or moment's sound, which must not mislead
    crop_share: float = 0.3  # of the stills, cropped to 70 to 100 % of the width and height
    frozen_blocks: int = 7  # of the backbone, from the picture on
    checkpoint_steps: int = 250
    validation_steps: int = 250

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("picture_sets", "video_sets", "validation_scenes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check(self.batch_size >= 2, f"batch_size is {self.batch_size}, expected at least 2 (batch statistics)")
        _check(self.still_steps >= 0 and self.window_steps >= 0, "still_steps and window_steps must not be negative")
        for name in ("picture_share", "last_timestep_share", "mute_share", "other_sound_share", "crop_share"):
            _check(0 <= getattr(self, name) <= 1, f"{name} is {getattr(self, name)}, expected 0 to 1")
