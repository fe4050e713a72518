"""What the commands share: the choices of their options, and how they complain."""

from __future__ import annotations

import io
import sys
from enum import Enum

from diffsal.errors import printable


class Device(str, Enum):
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class EngineChoice(str, Enum):
    auto = "auto"
    onnx = "onnx"
    torch = "torch"


class Colormap(str, Enum):
    inferno = "inferno"
    viridis = "viridis"
    cividis = "cividis"
    turbo = "turbo"
    jet = "jet"
    hot = "hot"


class Protocol(str, Enum):
    mit = "mit"
    dhf1k = "dhf1k"
    stavis = "stavis"
    released = "released"
    ntire = "ntire"
    gaze = "gaze"


class Spacing(str, Enum):
    linspace = "linspace"
    leading = "leading"
    trailing = "trailing"


class Sounds(str, Enum):
    own = "own"
    muted = "muted"
    other = "other"


def complain(message: str) -> int:
    """One line on stderr; the exit code that belongs to it."""
    print(f"diffsal: {printable(message)}", file=sys.stderr)
    return 1


def show_any_character() -> None:
    """Let standard output and error show something for every character, whatever their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
