"""Clips with their human ground truth."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffsal.data.databases import DATASETS, synthetic

_HOMES = {"DATASETS": "diffsal.data.databases", "synthetic": "diffsal.data.databases.synthetic"}
__all__ = ["DATASETS", "synthetic"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffsal.data' has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    return module if _HOMES[name].endswith(name) else getattr(module, name)
