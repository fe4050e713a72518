"""What the commands share: the choices of their options, and how they complain."""

from __future__ import annotations

import sys
from enum import Enum

Device = Enum("Device", {name: name for name in ("cpu", "cuda", "mps")}, type=str)
Colormap = Enum(
    "Colormap", {name: name for name in ("inferno", "viridis", "cividis", "turbo", "jet", "hot")}, type=str
)
Protocol = Enum(
    "Protocol", {name: name for name in ("mit", "dhf1k", "stavis", "released", "ntire", "gaze")}, type=str
)
Sounds = Enum("Sounds", {name: name for name in ("own", "muted", "other")}, type=str)


def complain(message: str) -> int:
    """One line on stderr; the exit code that belongs to it."""
    print(f"diffsal: {message}", file=sys.stderr)
    return 1
