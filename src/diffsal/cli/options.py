"""What the commands share: their options and choices, what is asked of a place to write to, and how they complain."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from diffsal.errors import InputError, printable

TRACEBACKS = "DIFFSAL_TRACEBACKS"  # in the environment: an error that nobody foresaw ends the run and shows where


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


Weights = Annotated[str, typer.Option(metavar="NAME|FILE", help="A name, a file or hf://OWNER/NAME.")]
Steps = Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise: the same seed gives the same maps.")]
WhichDevice = Annotated[Device, typer.Option(help="Where the network runs.")]
Mute = Annotated[bool, typer.Option("--mute", help="Predict as if there were no sound.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


def complain(message: str) -> int:
    """One line on stderr; the exit code that belongs to it."""
    print(f"diffsal: {printable(message)}", file=sys.stderr)
    return 1


def unforeseen(error: Exception, name: str) -> str:
    """What to say of an error that a library raises and nobody foresaw: which input, what, and how to see where."""
    return (f"{name}: cannot be done ({type(error).__name__}: {error}); re-encode it, or report this with the "
            f"traceback that {TRACEBACKS}=1 shows")


def say(message: str) -> None:
    """One line on standard output, at once; names in it cannot steer a terminal."""
    print(printable(message), flush=True)


def show_any_character() -> None:
    """Let standard output and error show something for every character, whatever their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def predicting(steps: int, seed: int, mute: bool, device: Device) -> dict[str, Any]:
    """Settings of :func:`diffsal.predict`."""
    return {"steps": steps, "seed": seed, "mute": mute, "device": device.value}


def end_with(problems: Sequence[str]) -> None:
    """Tell the problems and exit: with 1 where there is one."""
    for problem in problems:
        complain(problem)
    raise typer.Exit(int(bool(problems)))


def beside(video: str, ending: str) -> Path:
    """``VIDEO.ENDING`` beside the video; for an address, in the current folder."""
    if video.startswith(("http://", "https://")):
        return Path(f"{Path(video.split('?')[0]).stem or 'video'}.{ending}")
    path = Path(video)
    return path.parent / f"{path.name if path.is_dir() else path.stem}.{ending}"


def check_outputs(paths: Sequence[Path], force: bool, suffixes: tuple[str, ...], *inputs: Any) -> None:
    """:func:`check_output` of each of them, and no name twice."""
    for place in paths:
        check_output(place, force, suffixes, *inputs)
    if len({place.absolute() for place in paths}) < len(paths):
        raise InputError(f"{paths[0]}: two outputs have the same name; give each its own")


def check_output(path: Path, force: bool, suffixes: tuple[str, ...] = (), *inputs: Any) -> None:
    """Refuse a folder, a device, another ending, what is there without ``force``, a missing parent, and ``inputs``."""
    refuse_inputs(path, *inputs)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file in it with -o")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: the name must end in one of {' '.join(suffixes)}; rename it")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is a device or a pipe; give the name of a file with -o")
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; give another name with -o or overwrite it with --force")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it first")


def refuse_inputs(path: Path, *inputs: Any) -> None:
    """``inputs`` are sources, files, folders of files, and what options say of them (``NAME=FILE``)."""
    if path.is_file() and any(_is_of(path, file) for given in inputs for file in _files(given)):
        raise InputError(f"{path}: is the input itself; give another name with -o")


def check_folder(place: Path, force: bool, source: Any = None) -> None:
    """Refuse a file, a folder that holds something without ``force``, a missing parent, and the input's own folder."""
    if place.exists() and not place.is_dir():
        raise InputError(f"{place}: is a file, but this needs a folder; give another name with -o")
    if any(_is_of(file, place) for file in getattr(source, "pictures", ())):
        raise InputError(f"{place}: the input's own pictures lie there; give another folder with -o")
    if place.is_dir() and any(place.iterdir()) and not force:
        raise InputError(f"{place}: holds files already; give another folder with -o or overwrite with --force")
    if not place.parent.is_dir():
        raise InputError(f"{place.parent}: no such folder; make it first")


def _files(given: Any) -> Iterator[Path]:
    """The files and folders that an input is made of."""
    if isinstance(given, (str, Path)):
        yield from map(Path, filter(None, (str(given), str(given).partition("=")[2])))
    elif given is not None:
        yield from map(Path, filter(None, (given.path, given.sound_path, *given.pictures)))


def _is_of(path: Path, given: Path) -> bool:
    """Whether ``path`` is the file ``given``, or lies in the folder ``given``."""
    try:
        return (path.parent if given.is_dir() else path).samefile(given)
    except OSError:  # one of the two is not there, or is an address
        return False
