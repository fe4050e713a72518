"""Where people look in a video with sound: saliency prediction as conditional diffusion."""

from __future__ import annotations

import importlib

# Public name → the module it lives in; imported when first asked for, so that `diffsal --help` is quick.
_HOMES = {
    "DiffSal": "diffsal.model",
    "ModelConfig": "diffsal.config",
    "Preprocessing": "diffsal.config",
    "SamplingConfig": "diffsal.config",
    "TrainConfig": "diffsal.config",
    "InputError": "diffsal.errors",
    "Prediction": "diffsal.prediction",
    "convert": "diffsal.convert",
    "load": "diffsal.weights",
    "metrics": "diffsal.metrics",
    "predict": "diffsal.prediction",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'diffsal' has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    value = module if _HOMES[name] == f"diffsal.{name}" else getattr(module, name)
    globals()[name] = value
    return value
