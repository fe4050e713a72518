"""Shapes of arrays in annotations, by jaxtyping: imported only where a type checker or the tests read them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.modules.get("jaxtyping"):
    from jaxtyping import Bool, Float, Int, Shaped, UInt8
else:
    Bool = Float = Int = Shaped = UInt8 = None

__all__ = ["Bool", "Float", "Int", "Shaped", "UInt8"]
