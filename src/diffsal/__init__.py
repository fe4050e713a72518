"""Where people look in a video with sound: saliency prediction as conditional diffusion."""

from __future__ import annotations

import importlib

# Public name → the module it lives in; imported when first asked for, so that `diffsal --help` is quick.
_HOMES = {
    "DiffSal": "diffsal.networks.diffsal",
    "ModelConfig": "diffsal.config",
    "Preprocessing": "diffsal.config",
    "SamplingConfig": "diffsal.config",
    "TrainConfig": "diffsal.training.config",
    "InputError": "diffsal.errors",
    "Prediction": "diffsal.prediction.pipeline",
    "convert": "diffsal.weights.convert",
    "evaluate": "diffsal.scoring.evaluate",
    "load": "diffsal.weights.files",
    "metrics": "diffsal.scoring.metrics",
    "predict": "diffsal.prediction.pipeline",
    "score": "diffsal.scoring.evaluate",
}
_MODULES = ("convert", "metrics")  # public as a whole
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'diffsal' has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value
