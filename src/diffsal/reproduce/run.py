"""``diffsal reproduce``: a target of the paper, from what is missing to what it shows; or what that would take"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffsal.data.databases import synthetic
from diffsal.errors import InputError
from diffsal.files import whole_folder
from diffsal.plots import figure_class
from diffsal.reproduce.costs import CPU_SPEED, GPU_SPEED, total
from diffsal.reproduce.steps import Drawing, Evaluation, Step, Training, in_order
from diffsal.reproduce.targets import DATABASES, NARROW_FRAMES, Request, target
from diffsal.scoring.protocols import PROTOCOLS


@dataclass(frozen=True)
class Reproduced:
    """What a target has left: its files, and problems, a line each."""

    results: tuple[Path, ...]
    problems: list[str]


def reproduce(
    name: str,
    data: str | Path | None,
    out: str | Path,
    *,
    weights: Mapping[str, str | Path] | None = None,
    init: Mapping[str, str | Path | None] | None = None,
    maps: Mapping[str, str | Path] | None = None,
    settings: Sequence[str] = (),
    protocol: str | None = None,
    device: str = "cpu",
    workers: int = 1,
    narrow: bool = False,
    on_step: Callable[[int, int, str], None] = lambda number, count, name: None,
) -> Reproduced:
    """Do what is missing of a target of ``TARGETS`` in ``out``, and draw it.

    ``data`` holds each database in a folder of its name, or all of them. ``weights`` by network (``""``: the paper's
    own) are taken instead of being trained; ``init`` by encoder are pretrained weights, None to start from nothing.
    ``maps`` are other models', for figures 8 and 9. ``settings`` are ``key=value`` of every training. ``protocol`` is
    by default ``released``, by which the paper's own code scores. ``narrow``: on synthetic copies of the databases,
    with networks and runs that take a second, in ``out/narrow``, and one fold but for the paper's own network.
    ``on_step(number, count, name)`` is called before each step.

    A target that was stopped goes on where it stood. Raises :class:`InputError` for what cannot be begun or done.
    """
    goal = plan(name, data, out, weights, init, maps, settings, protocol, device, workers, narrow)
    if name == "figure6":
        figure_class()  # must be there before hours of training, not after them
    missing = in_order(goal, missing_only=True)
    for step in in_order(goal):
        if step.is_done or step in missing:
            step.check()
    problems: list[str] = []
    for number, step in enumerate(missing, 1):
        on_step(number, len(missing), step.name)
        problems += step.run()
    assert isinstance(goal, Drawing)
    return Reproduced(goal.results, problems)


def plan(
    name: str, data: str | Path | None, out: str | Path, weights: Mapping[str, str | Path] | None = None,
    init: Mapping[str, str | Path | None] | None = None, maps: Mapping[str, str | Path] | None = None,
    settings: Sequence[str] = (), protocol: str | None = None, device: str = "cpu", workers: int = 1,
    narrow: bool = False,
) -> Step:
    """The target's last step, which knows all others; arguments as in :func:`reproduce`. Trains and scores nothing."""
    make = target(name)
    if protocol is not None and protocol not in PROTOCOLS:
        raise InputError(f"{protocol}: no such protocol; there are {', '.join(PROTOCOLS)}")
    out = Path(out) / "narrow" if narrow else Path(out)
    if narrow:
        data = write_copies(name, out / "data")
    if data is None:
        raise InputError(f"{name}: give the folder of the databases with --data, or --narrow to try it without any")
    request = Request(
        Path(data), out, {k: Path(v) for k, v in (weights or {}).items()},
        {k: Path(v) if v is not None else None for k, v in (init or {}).items()},
        {k: Path(v) for k, v in (maps or {}).items()}, tuple(settings), protocol, device, workers, narrow)
    goal = make(request)
    check_names(name, goal, request)
    return goal


def check_names(name: str, goal: Step, request: Request) -> None:
    """Weights and encoders were given for something: :class:`InputError` for a name that the target has not."""
    steps = in_order(make_bare(name, request))
    runs = {step.name for step in steps if isinstance(step, Training)}
    networks = runs | {run.rpartition("-")[0] for run in runs if "-" in run} | {
        step.dataset for step in steps if isinstance(step, Evaluation)}
    for given in request.weights:
        if given and given not in networks:
            raise InputError(f"--weights {given}=…: {name} has no such network; it has {', '.join(sorted(networks))}")
    encoders = {encoder for step in steps if isinstance(step, Training) for encoder in step.lacks}
    for encoder in request.init:
        if encoder not in encoders and not request.narrow:
            raise InputError(f"--init {encoder}=…: {name} begins with {', '.join(sorted(encoders))}")


def make_bare(name: str, request: Request) -> Step:
    """The target as it is where nothing was given."""
    return target(name)(Request(request.data, request.out, narrow=request.narrow))


def write_copies(name: str, data: Path) -> Path:
    """Synthetic copies of the databases that a target reads, each in a folder of its name."""
    for database in DATABASES[name]:
        if not (data / database).is_dir():
            with whole_folder(data / database) as place:
                synthetic.write(database, place, num_frames=NARROW_FRAMES)
    return data


def shell_script(name: str, goal: Step, again: Sequence[str], device: str, speed: float | None = None) -> list[str]:
    """What is missing as lines for a shell: a comment with name, needs, hours and disk, then the command.

    ``again`` is the command of the whole target, which draws once all else is there. ``speed``: 10^12
    multiply-accumulates a second.
    """
    missing = in_order(goal, missing_only=True)
    names = {step.name for step in missing}
    if speed is None:
        speed = CPU_SPEED if device == "cpu" else GPU_SPEED
        says = "measured on two cores" if device == "cpu" else "a guess for one GPU"
    else:
        says = "as --speed says"
    costs = {step.name: step.cost() for step in missing}
    count = {kind.__name__.lower(): sum(isinstance(s, kind) for s in missing) for kind in (Training, Evaluation)}
    lines = [
        f"# {name}: {count['training']} trainings and {count['evaluation']} evaluations are missing, then it is drawn",
        f"# in all {total(costs.values()).words(speed)}; hours are arithmetic alone, at {speed:g} T multiply-",
        f"# accumulates a second ({says}); reading frames comes on top. Steps that need nothing, or only what is",
        "# done, can run side by side, on any machine that sees the same folders. What was stopped goes on again.",
    ]
    for number, step in enumerate(missing, 1):
        needs = [first.name for first in step.needs if first.name in names]
        after = f", after {', '.join(needs)}" if needs and not isinstance(step, Drawing) else ""
        told = ": all else is there" if isinstance(step, Drawing) else f": {costs[step.name].words(speed)}"
        lacks = getattr(step, "lacks", ())
        lines += ["", f"# {number}. {step.name}{after}{told}"]
        lines += [f"# lacks {' '.join(f'--init {one}=FILE' for one in lacks)}"] if lacks else []
        lines.append(step.command() if isinstance(step, (Training, Evaluation)) else shlex.join(again))
    return lines
