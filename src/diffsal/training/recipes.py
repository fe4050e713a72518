"""Named settings of training: functions, each with what it should reach and how long it takes."""

from __future__ import annotations

import difflib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from diffsal.config import (
    AUDIO_VISUAL_MEAN,
    AUDIO_VISUAL_STD,
    DatabaseConfig,
    Finish,
    ModelConfig,
    Preprocessing,
    TrainConfig,
)
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.training.database_phase import DatabasePhase, split_clips
from diffsal.training.engine import Engine, Shard, accelerator_of, shard_of
from diffsal.training.gaze_examples import GazeSamples
from diffsal.training.gaze_phase import GazePhase, gaze_phases
from diffsal.training.initialisation import initialise
from diffsal.training.run_folder import RunFolder, environment
from diffsal.weights.files import save

AUDIO_VISUAL_SETS = ("diem", "coutrot1", "coutrot2", "avad", "etmd", "summe")
CHANGEABLE = ("num_workers", "checkpoint_steps", "validation_steps", "log_steps")  # of a run that goes on
VALIDATION_SCENES = ("021", "BasketballDrive", "Cactus", "Couple", "Lee", "Traffic")


def compact() -> tuple[ModelConfig, TrainConfig]:
    """The light network that the package carries: MobileNetV2, YAMNet, a narrow Saliency-UNet with all four stages.

    On the gaze layout, 75 minutes on one core of two; MODEL_CARD.md holds what it reached.
    """
    model = ModelConfig(
        video_encoder="mobilenet_v2", audio_encoder="yamnet", widths=(96, 64, 32, 8), noise_width=8,
        noise_widths=(32, 24, 16), time_width=128, fusion_width=24, output_width=16, map_stride=4, audio_key="add",
        centre_prior=True,
    )
    return model, TrainConfig(validation_scenes=VALIDATION_SCENES)


def dhf1k() -> tuple[ModelConfig, DatabaseConfig]:
    """The paper's video-only network on DHF1K, from Kinetics-400 weights (``--init``): 3 epochs, batch 16.

    Adam at 1e-4, times 0.1 at 50 % and 75 %, gradient norm at most 1, squared error summed over pixels, horizontal
    flips. The paper reports CC 0.533, SIM 0.405, NSS 3.066, AUC-J 0.918 on the validation split (Table 8). It is for a
    GPU: ``precision=bf16``, and ``accumulation`` or ``gradient_checkpointing=true`` where memory is short. It has not
    been run to the end here: the database and such a machine were not at hand.

    What an epoch is, the paper does not say; ours holds one window per 16 frames, about 36,000. Variations are
    settings: ``video_encoder=s3d`` or ``resnet3d_50``, ``modulation_stages=1`` to ``4``, ``sampling_steps=4``,
    ``kl_weight=1``, ``predicts=noise``, or ``predicts=map``: the map at once, without noise and timestep.
    """
    return ModelConfig(audio_encoder=None), DatabaseConfig()


def hollywood2() -> tuple[ModelConfig, DatabaseConfig]:
    """:func:`dhf1k` on Hollywood-2. The paper: CC 0.765, SIM 0.610, NSS 3.955, AUC-J 0.951 on the test split."""
    model, config = dhf1k()
    return model, replace(config, databases=("hollywood2",))


def ucf_sports() -> tuple[ModelConfig, DatabaseConfig]:
    """:func:`dhf1k` on UCF Sports. The paper: CC 0.685, SIM 0.543, NSS 3.483, AUC-J 0.928 on the test split.

    It calls the set too small for the network (103 videos): start from a DHF1K run (``--init``).
    """
    model, config = dhf1k()
    return model, replace(config, databases=("ucf_sports",))


def audio_visual() -> tuple[ModelConfig, DatabaseConfig]:
    """The paper's network with sound on the six audio-visual sets together, from a DHF1K run: 4 epochs of one split.

    ``--init`` takes the DHF1K run's weights and AudioSet's for VGGish; ``fold=1`` to ``3`` is the split. The paper's
    Table 7, mean of the splits, CC and SIM: AVAD 0.738 and 0.571, ETMD 0.652 and 0.506, Coutrot1 0.638 and 0.515;
    with ``video_encoder=s3d`` AVAD 0.708 and 0.541, with ``resnet3d_50`` 0.632 and 0.471. ``audio_encoder=none``
    trains without sound. Like :func:`dhf1k`, it is for a GPU and has not been run to the end here.
    """
    model, config = dhf1k()
    normalisation = Preprocessing(AUDIO_VISUAL_MEAN, AUDIO_VISUAL_STD)
    return (
        replace(model, audio_encoder="vggish", preprocessing=normalisation),
        replace(config, databases=AUDIO_VISUAL_SETS, epochs=4),
    )


RECIPES = {
    "compact": compact, "dhf1k": dhf1k, "hollywood2": hollywood2, "ucf_sports": ucf_sports,
    "audio_visual": audio_visual,
}


def train(
    recipe: str, data: Path, out: Path, init: list[Path], resume: bool = False, settings: list[str] | None = None
) -> Path | None:
    """Run a recipe on the data under ``data``; the weights are ``out/RECIPE.safetensors``, None if it was stopped.

    ``init`` are pretrained encoders, or the weights of a whole network to start from; ``settings`` are ``key=value``
    of :class:`ModelConfig`, :class:`TrainConfig` or :class:`DatabaseConfig`. ``out`` is the run's folder
    (:mod:`.run_folder`), from whose last checkpoint ``resume`` goes on, with the settings it began with. Raises
    :class:`InputError` for unknown names, with the nearest right one.
    """
    if recipe not in RECIPES:
        raise InputError(f"{recipe}: no such recipe: {_nearest(recipe, list(RECIPES))}")
    model_config, train_config = configure(*RECIPES[recipe](), settings or [])
    if (out / "last.pt").exists() and not resume:
        raise InputError(f"{out}: holds a run already: go on with --resume, or give another folder")
    accelerator = accelerator_of(train_config)
    folder = RunFolder(out, accelerator.is_main_process)
    resume = resume and folder.checkpoint.exists()  # a run that was killed before its first checkpoint begins anew
    if resume:
        model_config, train_config = as_begun(folder, recipe, model_config, train_config, settings or [])
    torch.manual_seed(train_config.seed)
    model = DiffSal(model_config)
    for path in init if not resume else ():
        initialise(model, path)
    shard = shard_of(train_config, accelerator)
    phases = phases_of(model, train_config, data, out, shard)
    begun = {"recipe": recipe, "model": asdict(model_config), "train": asdict(train_config)}
    begun["init"] = [str(path) for path in init]
    folder.open(begun, environment(str(shard.device), shard.num_processes), resume)
    average = Engine(train_config, model.to(shard.device), folder, accelerator).fit(phases, resume)
    path = out / f"{recipe}.safetensors"
    if average is not None and accelerator.is_main_process:
        if isinstance(train_config, TrainConfig):
            average.finish = finish_of(model_config, train_config, phases[0].samples)
        save(average, path, {"diffsal.recipe": recipe}, half=isinstance(train_config, TrainConfig))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return path if average is not None else None


def finish_of(model: ModelConfig, config: TrainConfig, samples: GazeSamples) -> Finish:
    """What is done to the maps of the trained network: exponent, what moves, what sounds, where people look anyway."""
    sound_gain = config.sound_prior if model.audio_encoder is not None and config.motion_prior else 0.0
    finish = Finish(config.sharpness, config.motion_prior, sound_gain)
    if not config.centre_weight:
        return finish
    centre = samples.centre(model.height // 32, model.width // 32)[0, 0].tolist()
    return replace(finish, centre_gain=config.centre_weight / config.sharpness, centre=centre)


def phases_of(
    model: DiffSal, config: TrainConfig | DatabaseConfig, data: Path, out: Path, shard: Shard
) -> list[GazePhase] | list[DatabasePhase]:
    """What is learned: on the gaze layout stills, then windows; on databases one phase."""
    if isinstance(config, TrainConfig):
        return gaze_phases(model.config, config, data, out, shard)
    training, validation = split_clips(data, config)
    return [DatabasePhase(model, config, training, validation, shard, out / "features")]


def as_begun(
    folder: RunFolder, recipe: str, model: ModelConfig, config: TrainConfig | DatabaseConfig, settings: list[str]
) -> tuple[ModelConfig, TrainConfig | DatabaseConfig]:
    """The settings that a run began with; ``settings`` may repeat them, and change what no weight depends on."""
    begun = folder.read_json("config.json")
    if begun is None or begun.get("recipe") != recipe:
        known = begun.get("recipe", "an older diffsal") if begun else "no recipe"
        raise InputError(f"{folder.path}: is a run of {known}, not of {recipe}; resume it as such")
    model, config = ModelConfig.from_dict(begun["model"]), type(config)(**begun["train"])
    asked = configure(model, config, settings)
    for before, after in zip((model, config), asked, strict=True):
        for field in fields(before):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if old != new and field.name not in CHANGEABLE:
                raise InputError(f"{field.name}={new}: the run began with {old}; resume it with that, or start another")
    return asked


def configure(
    model: ModelConfig, train: TrainConfig | DatabaseConfig, settings: list[str]
) -> tuple[ModelConfig, TrainConfig | DatabaseConfig]:
    """Both configurations with ``key=value`` settings applied; a value is read as its field's present type."""
    changes: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"{setting}: expected key=value")
        owner = next((i for i, c in enumerate((model, train)) if name in {f.name for f in fields(c)}), None)
        if owner is None:
            known = [f.name for c in (model, train) for f in fields(c)]
            raise InputError(f"{name}: no such setting: {_nearest(name, known)}")
        try:
            changes[owner][name] = _parse(value, getattr((model, train)[owner], name))
        except ValueError as error:
            raise InputError(f"{setting}: {error}") from None
    try:
        return replace(model, **changes[0]), replace(train, **changes[1])
    except ValueError as error:
        raise InputError(f"{' '.join(settings)}: {error}") from None


def _parse(text: str, present: Any) -> Any:
    if isinstance(present, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError("expected true or false")
        return text.lower() == "true"
    if isinstance(present, tuple):
        items = [item for item in text.split(",") if item]
        return tuple(type(present[0])(item) for item in items) if present else tuple(items)
    if text.lower() == "none":
        return None
    return type(present)(text) if present is not None else (int(text) if text.isdigit() else text)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
