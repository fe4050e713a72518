"""The phases of a run: on the gaze layout stills, then windows; on published databases windows alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.bars import watched
from diffsal.config import ModelConfig
from diffsal.data.clip import Clip
from diffsal.data.databases import find, gaze, root_of
from diffsal.data.databases.gaze import GazeClip, GazeTruth
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.training.config import DatabaseConfig, GazeConfig, TrainConfig
from diffsal.training.examples import Examples, ScoredExamples, Shares
from diffsal.training.objective import Noising, Objective
from diffsal.training.packed_frames import PackedFrames
from diffsal.training.phase import Learning, Phase
from diffsal.training.reader import Reader
from diffsal.training.samplers import Balanced, EveryWindow
from diffsal.training.shard import Shard

CENTRE_EXAMPLES = 1000  # whose mean map is the centre
LEAST_CENTRE = 1e-6  # of the mean map's maximum, where its logarithm is taken


def database_phases(model: DiffSal, config: DatabaseConfig, data: Path, out: Path, shard: Shard) -> list[Phase]:
    """``config.epochs`` over the windows of the databases under ``data``."""
    training, validation = split_clips(data, config)
    clips = [*training, *validation]
    reader = Reader(clips, model.config)
    chosen, held_out = list(range(len(training))), list(range(len(training), len(clips)))
    sampler = EveryWindow(clips, chosen, config.window_stride, config.jitter, config.mirror, config.seed)
    examples = Examples(reader, sampler, noising(model, config), Shares(config.mute_share, 0.0, config.blind_share),
                        config.seed)
    if config.nss_weight and examples[0].fixated is None:
        raise InputError(f"nss_weight={config.nss_weight}: {clips[0].dataset} under {data} has maps, but no fixations")
    scored = scored_examples(reader, held_out, model, config)
    num_steps = max(1, config.epochs * len(examples) // config.batch_size)
    learning = Learning(config.learning_rate, config.ema_decay, config.frozen,
                        gradient_checkpointing=config.gradient_checkpointing)
    cache = out / "features" if config.cache_features else None
    return [Phase("windows", num_steps, config, examples, scored, objective(model.config, config), learning, shard,
                  cache)]


def gaze_phases(model: DiffSal, config: GazeConfig, data: Path, out: Path, shard: Shard) -> list[Phase]:
    """Stills, then windows, on the sets under ``data``; frames and features are kept in ``out/frames``.

    The network's finish gets its centre: the logarithm of the mean map of the training stills.
    """
    clips = [clip for name in (*config.picture_sets, *config.video_sets) for clip in gaze.read(data, name)]
    try:  # the main process decodes; the others find what it wrote
        with PartialState().main_process_first(), watched(f"decoding {data}", unit="clips/s") as show:
            packed = PackedFrames(clips, out / "frames", model.config.height, model.config.width, show)
    except KeyboardInterrupt:
        raise InputError(f"{data}: stopped while it was decoded; the same command goes on from there") from None
    reader = Reader(clips, model.config, packed, pooled(clips, data, config), config.min_fixations)
    held_out = [i for i, clip in enumerate(clips) if is_held_out(clip, config)]
    chosen = [i for i in range(len(clips)) if i not in set(held_out)]
    step = model.frame_step
    stills, windows = (
        Balanced(clips, chosen, packed.num_frames, still, share, config.crop_share, step, reader.is_enough)
        for still, share in ((True, config.picture_share), (False, config.picture_share / 2))
    )
    shares = Shares(config.mute_share, config.other_sound_share, config.blind_share)
    noise = noising(model, config)
    examples = [Examples(reader, sampler, noise, shares, config.seed, stream)
                for stream, sampler in enumerate((stills, windows))]
    if model.finish.centre_gain and model.finish.centre == ((0.0,),):
        centre = mean_map(examples[0]).tolist()
        model.finish = replace(model.finish, centre=tuple(tuple(row) for row in centre))
    scored = scored_examples(reader, held_out, model, config)
    losses = objective(model.config, config)
    learnings = (
        Learning(config.learning_rate, config.ema_decay, ("audio",), config.frozen_blocks,
                 config.backbone_learning_rate),
        Learning(config.window_learning_rate, config.window_ema_decay, ("audio",), len(model.video_encoder.features)),
    )
    return [
        Phase("stills", config.still_steps, config, examples[0], scored, replace(losses, sim_weight=0.0), learnings[0],
              shard),
        Phase("windows", config.window_steps, config, examples[1], scored, losses, learnings[1], shard, out / "frames"),
    ]


def scored_examples(reader: Reader, held_out: list[int], model: DiffSal, config: TrainConfig) -> ScoredExamples:
    has_priors = bool(model.finish.motion_gain or model.finish.sound_gain)
    return ScoredExamples(reader, held_out, config.validation_stride, config.validation_windows,
                          blind=config.blind_share == 1, priors=has_priors)


def noising(model: DiffSal, config: TrainConfig) -> Noising:
    return Noising(model.schedule, config.target_noise, config.last_timestep_share)


def objective(model: ModelConfig, config: TrainConfig) -> Objective:
    return Objective(model.predicts, config.mse_weight, config.relative_error, config.kl_weight, config.ce_weight,
                     config.cc_weight, config.sim_weight, config.nss_weight)


# --- clips --------------------------------------------------------------------------------------------------------


def split_clips(data: Path, config: DatabaseConfig) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips of ``config.databases``, each in ``data/DATABASE``, or all in ``data`` itself.

    DHF1K has a validation split; of the other sets every ``hold_out``-th video is held out of the training split, or
    with ``released`` the test split is scored.
    """
    training: list[Clip] = []
    validation: list[Clip] = []
    for name in config.databases:
        database = find(name)
        root = root_of(data, name)
        fold = config.fold if database.num_test else None
        clips = database(root, "train", fold)
        if "val" in database.splits or config.released:
            training += clips
            validation += database(root, "val" if "val" in database.splits else "test", fold)
            continue
        videos = sorted({database.video_of(clip) for clip in clips})
        held_out = set(videos[config.hold_out - 1 :: config.hold_out]) if config.hold_out else set()
        for clip in clips:
            (validation if database.video_of(clip) in held_out else training).append(clip)
    return training, validation


def is_held_out(clip: Clip, config: GazeConfig) -> bool:
    """Whether a video, or its scene, is named in ``validation_scenes``; pictures never are."""
    if clip.is_picture or not isinstance(clip.truth, GazeTruth):
        return False
    return bool({clip.name, clip.truth.gaze.scene} & set(config.validation_scenes))


def pooled(clips: list[Clip], data: Path, config: GazeConfig) -> dict[int, list[tuple[GazeClip, float]]]:
    """By a clip's position the other people who saw it, and what one of their fixations is worth.

    ``observer_weights`` names tables of videos whose pictures another set has: ``gaze/NAME/CLIP.csv``. Held-out clips
    keep their own people: scores stay comparable.
    """
    found: dict[int, list[tuple[GazeClip, float]]] = {}
    for name, weight in config.observer_weights.items():
        tables = {path.stem: path for path in sorted((data / "gaze" / name).glob("*.csv"))}
        if not tables:
            raise InputError(f"observer_weights={name}={weight}: no tables CLIP.csv in {data / 'gaze' / name}")
        for i, clip in enumerate(clips):
            if clip.split != name and not clip.is_picture and clip.name in tables and not is_held_out(clip, config):
                found.setdefault(i, []).append((gaze.read_clip(clip.video, tables[clip.name]), weight))
    return found


def mean_map(stills: Examples) -> Float[Tensor, "h w"]:
    """The logarithm of where people look whatever they see, at stride 32: its maximum is 0, its sides are alike."""
    height, width = stills.reader.model.height // 32, stills.reader.model.width // 32
    mean = torch.zeros(1, height, width)
    for number in range(CENTRE_EXAMPLES):
        target = stills.reader.target(stills.view(number))
        small = nn.functional.adaptive_avg_pool2d(target, (height, width))
        mean += small / small.sum().clamp(min=1e-9)
    mean = mean + mean.flip(-1)
    return (mean / mean.max()).clamp(min=LEAST_CENTRE).log()[0]
