"""Named settings of training: functions, each with what it should reach and how long it takes."""

from __future__ import annotations

import difflib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from diffsal.config import ModelConfig, TrainConfig
from diffsal.errors import InputError
from diffsal.training import Trainer
from diffsal.weights import save

VALIDATION_SCENES = ("021", "BasketballDrive", "Cactus", "Couple", "Lee", "Traffic")


def compact() -> tuple[ModelConfig, TrainConfig]:
    """The light network that the package carries: MobileNetV2, YAMNet, a narrow Saliency-UNet with all four stages.

    On the gaze layout, about an hour on two cores; MODEL_CARD.md holds what it reached.
    """
    model = ModelConfig(
        video_encoder="mobilenet_v2", audio_encoder="yamnet", widths=(96, 64, 32, 8), noise_width=8,
        noise_widths=(32, 24, 16), time_width=128, fusion_width=24, output_width=16, map_stride=4, audio_key="add",
        centre_prior=True,
    )
    return model, TrainConfig(validation_scenes=VALIDATION_SCENES)


RECIPES = {"compact": compact}


def train(
    recipe: str, data: Path, out: Path, init: list[Path], resume: bool = False, settings: list[str] | None = None
) -> Path:
    """Run a recipe on the gaze layout under ``data``; the weights are ``out/RECIPE.safetensors`` (half precision).

    ``init`` are pretrained encoders; ``settings`` are ``key=value`` of :class:`ModelConfig` or :class:`TrainConfig`.
    ``out`` also keeps the settings (``config.json``), scores on the held-out clips (``log.jsonl``) and the last
    checkpoint, from which ``resume`` goes on. Raises :class:`InputError` for unknown names, with the nearest right one.
    """
    if recipe not in RECIPES:
        raise InputError(f"{recipe}: no such recipe: {_nearest(recipe, list(RECIPES))}")
    model_config, train_config = configure(*RECIPES[recipe](), settings or [])
    if (out / "last.pt").exists() and not resume:
        raise InputError(f"{out}: holds a run already: go on with --resume, or give another folder")
    average = Trainer(model_config, train_config, data, out, init).run(resume)
    path = out / f"{recipe}.safetensors"
    save(average, path, {"diffsal.recipe": recipe}, half=True)
    return path


def configure(model: ModelConfig, train: TrainConfig, settings: list[str]) -> tuple[ModelConfig, TrainConfig]:
    """Both configurations with ``key=value`` settings applied; a value is read as its field's present type."""
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"{setting}: expected key=value")
        owner = next((c for c in (model, train) if name in {f.name for f in fields(c)}), None)
        if owner is None:
            known = [f.name for c in (model, train) for f in fields(c)]
            raise InputError(f"{name}: no such setting: {_nearest(name, known)}")
        try:
            changed = replace(owner, **{name: _parse(value, getattr(owner, name))})
        except ValueError as error:
            raise InputError(f"{setting}: {error}") from None
        model, train = (changed, train) if owner is model else (model, changed)
    return model, train


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
