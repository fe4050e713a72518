"""Where people look in a video with sound: saliency prediction as conditional diffusion."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and type checkers see of the names below
    from diffsal.config import ModelConfig, Preprocessing, SamplingConfig
    from diffsal.errors import InputError
    from diffsal.figures.explain import explain
    from diffsal.networks.diffsal import DiffSal
    from diffsal.prediction.maps import Prediction
    from diffsal.prediction.pipeline import predict
    from diffsal.runtime.loading import load
    from diffsal.scoring import metrics
    from diffsal.scoring.evaluate import evaluate, score
    from diffsal.training.config import TrainConfig
    from diffsal.weights import convert

# Public name → the module it lives in; imported when first asked for, so that `diffsal --help` is quick.
_HOMES = {
    "DiffSal": "diffsal.networks.diffsal",
    "ModelConfig": "diffsal.config",
    "Preprocessing": "diffsal.config",
    "SamplingConfig": "diffsal.config",
    "TrainConfig": "diffsal.training.config",
    "InputError": "diffsal.errors",
    "Prediction": "diffsal.prediction.maps",
    "convert": "diffsal.weights.convert",
    "evaluate": "diffsal.scoring.evaluate",
    "explain": "diffsal.figures.explain",
    "load": "diffsal.runtime.loading",
    "metrics": "diffsal.scoring.metrics",
    "predict": "diffsal.prediction.pipeline",
    "score": "diffsal.scoring.evaluate",
}
_MODULES = ("convert", "metrics")  # public as a whole
__all__ = [
    "DiffSal", "InputError", "ModelConfig", "Prediction", "Preprocessing", "SamplingConfig", "TrainConfig",
    "convert", "evaluate", "explain", "load", "metrics", "predict", "score",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffsal' has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value
