"""Named trainings: functions, each with what it should reach, how long it takes, and where its settings come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from diffsal.config import AUDIO_VISUAL_MEAN, AUDIO_VISUAL_STD, Finish, ModelConfig, Preprocessing
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.settings import change, nearest
from diffsal.training.config import DatabaseConfig, GazeConfig, TrainConfig
from diffsal.training.engine import Engine, accelerator_of, shard_of
from diffsal.training.initialisation import initialise, is_whole_network
from diffsal.training.phases import database_phases, gaze_phases
from diffsal.training.run_folder import RunFolder, environment
from diffsal.weights.files import read_tensors, save

AUDIO_VISUAL_SETS = ("diem", "coutrot1", "coutrot2", "avad", "etmd", "summe")
CHANGEABLE = ("num_workers", "checkpoint_steps", "validation_steps", "log_steps")  # of a run that goes on
VALIDATION_SCENES = ("021", "BasketballDrive", "Cactus", "Couple", "Lee", "Traffic")


class Recipe(NamedTuple):
    """What a training begins with: the network, the run, and what is done to the network's maps afterwards.

    ``finish.centre`` is a place-holder: where ``centre_gain`` is above 0, the mean map of the training pictures takes
    its place.
    """

    model: ModelConfig
    train: TrainConfig
    finish: Finish

    def changed(self, settings: list[str]) -> Recipe:
        """With ``key=value`` settings. Each name has one owner: :class:`InputError` for one that has none."""
        recipe = self
        if isinstance(self.train, DatabaseConfig) and change([self.train], _of(self.train, settings))[0].released:
            recipe = self._replace(train=as_released(self.train))
        changed = Recipe(*change(recipe, settings))
        if isinstance(changed.train, DatabaseConfig) and changed.finish != Finish():
            raise InputError("exponent, motion_gain, sound_gain, speaker_gain and centre_gain are not for databases: "
                             "the paper's maps are scored as the network gives them")
        if changed.train.own_estimate and changed.model.predicts != "x_0":
            raise InputError("own_estimate=true is for networks that predict x_0, "
                             f"not predicts={changed.model.predicts}")
        if changed.model.audio_encoder is None and changed.finish.sound_gain:
            changed = changed._replace(finish=replace(changed.finish, sound_gain=0.0))
        return changed

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model.to_dict(), "train": self.train.to_dict(), "finish": self.finish.to_dict()}


def _of(config: TrainConfig, settings: list[str]) -> list[str]:
    return [setting for setting in settings if setting.partition("=")[0] in {f.name for f in fields(config)}]


def compact() -> Recipe:
    """The light network that the package carries: MobileNetV2, YAMNet, a narrow Saliency-UNet with all four stages.

    On the gaze layout, 75 minutes on one core of two; MODEL_CARD.md holds what it reached, and the second command, by
    which the weights in the package were trained on. Nothing here is the paper's but the network's design and Algorithm
    1: the sets, the losses beside the squared error, the share of last timesteps and the finish were chosen by
    cross-validation (docs/compact.md).
    """
    model = ModelConfig(
        video_encoder="mobilenet_v2", audio_encoder="yamnet", widths=(96, 64, 32, 8), noise_width=8,
        noise_widths=(32, 24, 16), time_width=128, fusion_width=24, output_width=16, map_stride=4, audio_key="add",
        centre_prior=True,
    )
    finish = Finish(exponent=1.1, motion_gain=1.25, sound_gain=3.0, speaker_gain=1.0, past_seconds=0.15,
                    future_seconds=0.1, centre_gain=0.4545, centre=((0.0,),))
    return Recipe(model, GazeConfig(validation_scenes=VALIDATION_SCENES), finish)


def dhf1k(**settings: Any) -> Recipe:
    """The paper's video-only network on DHF1K, from Kinetics-400 weights (``--init``): 3 epochs, batch 16.

    From the paper: the network, Algorithm 1 with the squared error summed over pixels, Adam at 1e-4, gradient norm at
    most 1, times 0.1 at 50 % and 75 %. From the released code: one window per 16 frames. Ours: horizontal flips, and
    every frame of a run of 16 as likely as the others. The 600 training videos have 346,140 frames (by TASED-Net's
    counts), so an epoch holds about 21,900 windows, and the run 4,100 steps. ``released=true`` trains as the released
    code does (:func:`as_released`).

    The paper reports CC 0.533, SIM 0.405, NSS 3.066, AUC-J 0.918 on the validation split (Table 8). It is for a GPU:
    ``precision=bf16``, and ``accumulation`` or ``gradient_checkpointing=true`` where memory is short. It has not been
    run to the end here: the database and such a machine were not at hand.

    The paper's ablations are settings: ``video_encoder=s3d`` or ``resnet3d_50``, ``modulation_stages=1`` to ``4``,
    ``sampling_steps=4``, ``predicts=noise`` or ``predicts=map`` (the map at once, without noise and timestep),
    ``noise_schedule=linear``, and as losses ``ce_weight=1 mse_weight=0``, ``kl_weight=1``, ``cc_weight=1``,
    ``sim_weight=1``, ``nss_weight=1``. With sound (:func:`audio_visual`): ``mute_share=1`` or ``blind_share=1`` drop a
    modality, ``sound_fusion=addition``, ``concatenation`` or ``cross_attention`` take the place of the modulation.
    """
    return Recipe(ModelConfig(audio_encoder=None), DatabaseConfig(**settings), Finish())


def hollywood2() -> Recipe:
    """:func:`dhf1k` on Hollywood-2. The paper: CC 0.765, SIM 0.610, NSS 3.955, AUC-J 0.951 on the test split."""
    return dhf1k(databases=("hollywood2",))


def ucf_sports() -> Recipe:
    """:func:`dhf1k` on UCF Sports. The paper: CC 0.685, SIM 0.543, NSS 3.483, AUC-J 0.928 on the test split.

    It calls the set too small for the network (103 videos): start from a DHF1K run (``--init``).
    """
    return dhf1k(databases=("ucf_sports",))


def audio_visual() -> Recipe:
    """The paper's network with sound on the six audio-visual sets together, from a DHF1K run: 4 epochs of one split.

    ``--init`` takes the DHF1K run's weights and AudioSet's for VGGish; ``fold=1`` to ``3`` is the split. The paper's
    Table 7, mean of the splits, CC and SIM: AVAD 0.738 and 0.571, ETMD 0.652 and 0.506, Coutrot1 0.638 and 0.515;
    with ``video_encoder=s3d`` AVAD 0.708 and 0.541, with ``resnet3d_50`` 0.632 and 0.471. ``audio_encoder=none``
    trains without sound. Like :func:`dhf1k`, it is for a GPU and has not been run to the end here. From the paper: what
    :func:`dhf1k` names, and 4 epochs. From the released code: the normalisation of pixels. Ours: every tenth training
    video is held out, and the best weights are chosen on these.
    """
    recipe = dhf1k(databases=AUDIO_VISUAL_SETS, epochs=4)
    normalisation = Preprocessing.from_dict({"mean": AUDIO_VISUAL_MEAN, "std": AUDIO_VISUAL_STD})
    return recipe._replace(model=replace(recipe.model, audio_encoder="vggish", preprocessing=normalisation))


def as_released(config: DatabaseConfig) -> DatabaseConfig:
    """``released=true``: as the released code trains.

    Times 0.1 after a third and two thirds of the run (of three epochs, after the first and the second), no flips, no
    training videos held out. It chooses its weights on what it reports: the test split (DHF1K: the validation split).
    Figures got so are higher than those on data that nothing was chosen on, which is why it is not the default.
    """
    return replace(config, milestones=(1 / 3, 2 / 3), mirror=False, hold_out=0, released=True)


RECIPES: dict[str, Callable[[], Recipe]] = {
    "compact": compact, "dhf1k": dhf1k, "hollywood2": hollywood2, "ucf_sports": ucf_sports,
    "audio_visual": audio_visual,
}


def configure(recipe: str, settings: list[str] | None = None) -> Recipe:
    """The recipe of that name with ``key=value`` settings; :class:`InputError` with the nearest right name."""
    if recipe not in RECIPES:
        raise InputError(f"{recipe}: no such recipe: {nearest(recipe, list(RECIPES))}")
    return RECIPES[recipe]().changed(settings or [])


def train(
    recipe: str, data: Path, out: Path, init: list[Path], resume: bool = False, settings: list[str] | None = None
) -> Path | None:
    """Run a recipe on the data under ``data``; the weights are ``out/RECIPE.safetensors``, None if it was stopped.

    ``init`` are pretrained encoders, or the weights of a whole network to start from; ``settings`` are ``key=value``
    of :class:`ModelConfig`, of the recipe's :class:`TrainConfig` or of :class:`Finish`. ``out`` is the run's folder
    (:mod:`.run_folder`), from whose last checkpoint ``resume`` goes on, with the settings it began with. Raises
    :class:`InputError` for unknown names, with the nearest right one.
    """
    begun = configure(recipe, settings)
    if (out / "last.pt").exists() and not resume:
        raise InputError(f"{out}: holds a run already: go on with --resume, or give another folder")
    accelerator = accelerator_of(begun.train)
    folder = RunFolder(out, accelerator.is_main_process)
    resume = resume and folder.checkpoint.exists()  # a run that was killed before its first checkpoint begins anew
    if resume:
        begun = as_begun(folder, recipe, begun, settings or [])
    torch.manual_seed(begun.train.seed)
    model = DiffSal(begun.model)
    model.finish = begun.finish
    for path in init if not resume else ():
        initialise(model, path, keeps_centre=not any(s.startswith(("centre_gain=", "centre=")) for s in settings or ()))
    shard = shard_of(begun.train, accelerator)
    is_gaze = isinstance(begun.train, GazeConfig)
    if isinstance(begun.train, GazeConfig):
        phases = gaze_phases(model, begun.train, data, out, shard)
    else:
        assert isinstance(begun.train, DatabaseConfig)
        phases = database_phases(model, begun.train, data, out, shard)
    if not resume:
        begun = begun._replace(finish=model.finish)
    model.finish = begun.finish
    started_from = [Path(path) for path in (folder.read_json("config.json", {}) if resume else {}).get("init", init)]
    before = whole_network(started_from) if begun.train.init_share else None
    record = {"recipe": recipe, **begun.to_dict(), "init": [str(path) for path in started_from]}
    folder.open(record, environment(str(shard.device), shard.num_processes), resume)
    average = Engine(begun.train, model.to(shard.device), folder, accelerator).fit(phases, resume)
    path = out / f"{recipe}.safetensors"
    if average is not None and accelerator.is_main_process:
        if before is not None:
            mix(average, before, begun.train.init_share)
        save(average, path, {"diffsal.recipe": recipe}, half=is_gaze)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return path if average is not None else None


def whole_network(init: list[Path]) -> Path:
    """The weights of a whole network among those that a run starts from; :class:`InputError` where none is there."""
    found = [path for path in init if path.is_file() and is_whole_network(path)]
    if not found:
        raise InputError(f"init_share mixes in a whole network that the run starts from (--init): there is none in "
                         f"{', '.join(map(str, init)) or 'no --init'}")
    return found[-1]


@torch.no_grad()
def mix(model: nn.Module, path: Path, share: float) -> None:
    """Move ``model``'s weights towards those of ``path`` by ``share`` of the way.

    What was learned before is kept better than by the new weights alone, on data that neither saw (Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022).
    """
    before = read_tensors(path)
    for name, value in model.state_dict().items():
        if name in before and value.is_floating_point():
            value.lerp_(before[name].to(value), share)


def as_begun(folder: RunFolder, recipe: str, asked: Recipe, settings: list[str]) -> Recipe:
    """The settings that a run began with; ``settings`` may repeat them, and change what no weight depends on."""
    begun = folder.read_json("config.json")
    if begun is None or begun.get("recipe") != recipe or "finish" not in begun:
        known = begun.get("recipe", "an older diffsal") if begun else "no recipe"
        if begun and begun.get("recipe") == recipe:
            known = "an older diffsal"
        raise InputError(f"{folder.path}: is a run of {known}, not of {recipe}; resume it as such")
    before = Recipe(ModelConfig.from_dict(begun["model"]), type(asked.train).from_dict(begun["train"]),
                    Finish.from_dict(begun["finish"]))
    after = Recipe(*change(before, settings))
    for old, new in zip(before, after, strict=True):
        for name, was in vars(old).items():
            now = getattr(new, name)
            if was != now and name not in CHANGEABLE:
                raise InputError(f"{name}={now}: the run began with {was}; resume it with that, or start another")
    return after
