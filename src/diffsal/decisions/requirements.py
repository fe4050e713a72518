"""Requirements of ``--require "logo >= 0.05"``: a region's mean share of attention against a number."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass

from diffsal.errors import InputError

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Requirement:
    """``name comparison number``, of a share of attention."""

    name: str
    comparison: str
    number: float

    def __str__(self) -> str:
        return f"{self.name} {self.comparison} {self.number:g}"

    def failure(self, shares: dict[str, float]) -> str | None:
        """One line where ``shares`` (by region) do not meet it, else None."""
        if COMPARISONS[self.comparison](shares[self.name], self.number):
            return None
        return f"required {self}, but it gets {shares[self.name]:.4f}"


def read_requirement(text: str, names: Sequence[str]) -> Requirement:
    """``NAME >= NUMBER`` (or <=, >, <), NAME one of ``names``; :class:`InputError` for anything else."""
    match = re.fullmatch(r"\s*(.+?)\s*(>=|<=|>|<)\s*([0-9.eE+-]+)\s*", text)
    try:
        number = float(match[3]) if match else float("nan")
    except ValueError:
        number = float("nan")
    if match is None or number != number:
        raise InputError(f"--require {text}: expected such as 'logo >= 0.05'")
    if match[1] not in names:
        raise InputError(f"--require {text}: no region {match[1]}; there are {', '.join(names)}")
    return Requirement(match[1], match[2], number)
