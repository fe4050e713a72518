"""The settings of a training run: what every run has, and what databases and the gaze layout add."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from diffsal.settings import Bounds, Settings, require

BatchNorm = Literal["batch", "synchronised", "frozen"]
EncoderPart = Literal["video", "audio"]
Precision = Literal["fp32", "bf16", "fp16"]
RateSchedule = Literal["steps", "cosine"]

Count = Annotated[int, Bounds(least=1)]
Whole = Annotated[int, Bounds(least=0)]
Share = Annotated[float, Bounds(least=0, most=1)]
Positive = Annotated[float, Bounds(over=0)]
Weight = Annotated[float, Bounds(least=0)]
Decay = Annotated[float, Bounds(least=0, below=1)]


@dataclass(frozen=True)
class TrainConfig(Settings):
    """What every training run has, whatever it learns from.

    ``batch_size`` is the examples of one optimiser step over all processes and accumulated micro-batches, so the same
    settings mean the same run on any number of machines. The learning rate rises linearly over the first
    ``warm_up_steps``; then it is multiplied by ``decay`` at each of ``milestones`` (fractions of the run), or with
    ``schedule`` "cosine" it falls along half a cosine to 2 %.

    An example's loss is ``mse_weight`` times the squared error summed over pixels (Algorithm 1's; with
    ``relative_error`` over the target's own sum of squares), plus ``kl_weight`` times the KL divergence and
    ``ce_weight`` times the cross-entropy, less CC, SIM and NSS by their weights. With ``ModelConfig.predicts`` "noise"
    the squared error is the noise's.
    """

    batch_size: Count = 16
    accumulation: Count = 1  # micro-batches of one step in each process
    learning_rate: Positive = 1e-4
    schedule: RateSchedule = "steps"
    milestones: Annotated[tuple[float, ...], Bounds(over=0, below=1)] = (0.5, 0.75)
    decay: Positive = 0.1
    warm_up_steps: Whole = 0
    weight_decay: Weight = 0.0  # decoupled (AdamW); 0 is Adam
    adam_epsilon: Positive = 1e-8
    clip_norm: Positive = 1.0
    ema_decay: Decay = 0.0  # of the moving average of the weights that is scored and kept; 0: the weights themselves
    mse_weight: Weight = 1.0
    relative_error: bool = False
    kl_weight: Weight = 0.0
    ce_weight: Weight = 0.0
    cc_weight: Weight = 0.0
    sim_weight: Weight = 0.0
    nss_weight: Weight = 0.0
    target_noise: Weight = 0.01  # times N(0, 1), added to S_0 before the noise of its timestep
    own_estimate: bool = False  # S_t below T - 1 is made of the network's own S_0 at T - 1, as in sampling
    last_timestep_share: Share = 0.0  # of the examples at t = T - 1, where sampling starts; the others uniformly
    init_share: Share = 0.0  # of the network that it starts from (--init), in the weights that are written at the end
    mute_share: Share = 0.0  # of the examples with sound, trained without it
    blind_share: Share = 0.0  # of the examples, trained without what the video encoder sees
    precision: Precision = "fp32"
    batch_norm: BatchNorm = "synchronised"  # statistics of a process's batch, of all processes', or those it has
    compile: bool = False  # torch.compile
    num_workers: Whole = 2  # processes that read examples, for each training process
    checkpoint_steps: Count = 500
    validation_steps: Count = 500
    validation_stride: Count = 1  # frames of a held-out clip from one window that is scored to the next
    validation_windows: Count = 128  # at most, evenly spread
    log_steps: Count = 10
    sampling_steps: Annotated[int, Bounds(least=1, most=1000)] = 1  # of Algorithm 2, in validation
    seed: Whole = 0

    def check(self) -> None:
        weights = (self.mse_weight, self.kl_weight, self.ce_weight, self.cc_weight, self.sim_weight, self.nss_weight)
        require(max(weights) > 0, "the losses' weights are all 0: one of mse_weight, kl_weight, ce_weight, cc_weight, "
                                  "sim_weight, nss_weight must be above 0")


@dataclass(frozen=True)
class DatabaseConfig(TrainConfig):
    """Algorithm 1 on windows of published databases: which, how they are drawn, and what learns.

    An epoch holds one window per ``window_stride`` frames of each clip, its frame drawn anew in each epoch
    (``jitter``) and mirrored for half of the examples (``mirror``).
    """

    databases: tuple[str, ...] = ("dhf1k",)
    fold: Annotated[int, Bounds(least=1, most=3)] = 1  # of the six audio-visual sets' three splits
    epochs: Count = 3
    window_stride: Count = 16
    jitter: bool = True
    mirror: bool = True
    frozen: tuple[EncoderPart, ...] = ()  # encoders that do not learn
    cache_features: bool = False  # a frozen video encoder's features on disk, computed once
    gradient_checkpointing: bool = False  # encoders' activations computed again in the backward pass: less memory
    hold_out: Whole = 10  # every Nth video of a set without a validation split is validated on; 0: none
    released: bool = False  # as the released code trains (recipes.as_released); its test split chooses the weights

    def check(self) -> None:
        super().check()
        require(self.databases, "databases is empty: name one at least")
        require(self.hold_out != 1, "hold_out is 1: every video would be held out; give 0, or 2 or more")
        require(not self.cache_features or ("video" in self.frozen and not self.jitter),
                "cache_features needs frozen=video (features that do not change) and jitter=false (frames that come "
                "again)")


@dataclass(frozen=True)
class GazeConfig(TrainConfig):
    """A light network on the gaze layout: stills first, everything trainable; then windows on frozen, cached frames.

    The losses' weights, ``learning_rate`` and ``ema_decay`` are those of both phases, but for what is named ``window_``
    and ``sim_weight``, which counts on windows only. ``exponent``, ``motion_gain``, ``sound_gain`` and
    ``centre_gain`` are the finish that the network gets (:class:`diffsal.config.Finish`).
    """

    picture_sets: tuple[str, ...] = ("osie", "eyecrowd")
    video_sets: tuple[str, ...] = ("find", "hevc")
    validation_scenes: tuple[str, ...] = ()
    observer_weights: dict[str, Positive] = field(default_factory=dict)  # more people for the same videos: gaze/NAME
    min_fixations: Whole = 5  # on a frame that is trained on or scored
    still_steps: Whole = 1200
    window_steps: Whole = 400
    picture_share: Share = 0.4  # of the stills; of the windows half as many
    batch_size: Annotated[int, Bounds(least=2)] = 16  # batch statistics need two
    learning_rate: Positive = 1e-3
    backbone_learning_rate: Positive = 2e-4
    window_learning_rate: Positive = 5e-4  # on windows, where the backbone rests
    schedule: RateSchedule = "cosine"
    warm_up_steps: Whole = 50
    weight_decay: Weight = 1e-4
    ema_decay: Decay = 0.995
    window_ema_decay: Decay = 0.99
    relative_error: bool = True
    kl_weight: Weight = 1.0
    cc_weight: Weight = 1.0
    sim_weight: Weight = 0.5
    last_timestep_share: Share = 0.7
    mute_share: Share = 0.25
    other_sound_share: Share = 0.25  # trained with another clip's or moment's sound, which must not mislead
    crop_share: Share = 0.3  # of the stills, cropped to 70 to 100 % of the width and height
    frozen_blocks: Whole = 7  # of the backbone, from the picture on
    checkpoint_steps: Count = 250
    validation_steps: Count = 250
    validation_stride: Count = 10
    validation_windows: Count = 10_000

    def check(self) -> None:
        super().check()
        require(self.picture_sets or self.video_sets, "picture_sets and video_sets are empty: name one set at least")
        require(self.still_steps + self.window_steps > 0, "still_steps and window_steps are 0: nothing is learned")
