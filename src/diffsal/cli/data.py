"""The commands about data sets and scores: evaluate, score, validate, prepare. Each calls one public function."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from diffsal.cli.options import Device, Protocol, Sounds, Spacing, Steps, WhichDevice, complain, say
from diffsal.errors import InputError


def evaluate(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="dhf1k, hollywood2, …, gaze (docs/databases.md).")
    ],
    *,
    data: Annotated[Path, typer.Option(help="Root of the data set.")],
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="A name, a file or hf://OWNER/NAME; repeatable; default: compact."),
    ] = None,
    protocol: Annotated[Protocol | None, typer.Option(help="Default: the data set's own.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all; in the gaze layout a set.")] = None,
    fold: Annotated[int | None, typer.Option(min=1, max=3, help="Of the audio-visual sets; default: all.")] = None,
    clips: Annotated[str, typer.Option(help="Names with commas between; default: all.")] = "",
    steps: Steps = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    spacing: Annotated[Spacing | None, typer.Option(help="Of the timesteps; default: the weights' own.")] = None,
    quality: Annotated[bool, typer.Option("--quality", help="Every frame through the network.")] = False,
    sound: Annotated[
        list[Sounds] | None,
        typer.Option(metavar="own|muted|other", help="other: another moment's; repeatable; default: own."),
    ] = None,
    device: WhichDevice = Device.cpu,
    maps: Annotated[Path | None, typer.Option(help="Folder in which every predicted map is kept.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for scores.json, per_video.csv, per_frame.csv.")] = Path("scores"),
    published: Annotated[bool, typer.Option("--published", help="Rows of the literature beside ours.")] = False,
    baselines: Annotated[bool, typer.Option(help="Centre prior and half of the observers beside it.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="[ADDRESS]", help="Run on Ray, here or at HOST:PORT, auto: docs/scale.md.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite scores that are there.")] = False,
) -> None:
    """Predict a data set and score it by a benchmark's protocol. A run that was killed goes on where it stood."""
    from diffsal.cli.cluster import pool_at
    from diffsal.scoring.evaluate import evaluate as run

    pool = None if cluster is None else pool_at(cluster)
    _score(lambda on_done: run(
        dataset, data, weights or ["compact"], out, protocol=protocol and protocol.value, split=split, fold=fold,
        clips=_names(clips), steps=steps, seed=seed, spacing=spacing.value if spacing else None,
        sound=[s.value for s in sound or [Sounds.own]], quality=quality, device=device.value, maps=maps,
        baselines=baselines, published=published, workers=workers or _processes(device), pool=pool,
        force=force, on_done=on_done), dataset, out)


def score(
    maps: Annotated[Path, typer.Argument(metavar="MAPS", help="Folder of VIDEO/*.png, SET/VIDEO/*.png or STEM.png.")],
    ground_truth: Annotated[
        Path, typer.Argument(metavar="GROUND_TRUTH", help="Root of a data set, or of VIDEO/maps, VIDEO/fixation.")
    ],
    *,
    protocol: Annotated[Protocol, typer.Option(help="Whose rules: see docs/metrics.md.")],
    dataset: Annotated[str | None, typer.Option(help="Default: found out by the layout.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all; in the gaze layout a set.")] = None,
    fold: Annotated[int | None, typer.Option(min=1, max=3, help="Of the audio-visual sets; default: all.")] = None,
    clips: Annotated[str, typer.Option(help="Names with commas between; default: all.")] = "",
    name: Annotated[str | None, typer.Option(help="Of the model; default: that of the folder.")] = None,
    network_size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of the model's own maps, where the files are larger.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for scores.json, per_video.csv, per_frame.csv.")] = Path("scores"),
    published: Annotated[bool, typer.Option("--published", help="Rows of the literature beside it.")] = False,
    baselines: Annotated[bool, typer.Option(help="Centre prior and half of the observers beside it.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite scores that are there.")] = False,
) -> None:
    """Score the maps that any model wrote, by a benchmark's protocol."""
    from diffsal.scoring.evaluate import score as run

    _score(lambda on_done: run(
        maps, ground_truth, out, protocol=protocol.value, dataset=dataset, split=split, fold=fold,
        clips=_names(clips), name=name, network_size=_size(network_size), baselines=baselines,
        published=published, workers=workers or _processes(Device.cpu), force=force, on_done=on_done), str(maps), out)


def _processes(device: Device) -> int:
    """One per core; one in all where they would share a graphics card."""
    return (os.cpu_count() or 1) if device is Device.cpu else 1


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) < 10_000 and 0 < int(height) < 10_000):
        raise typer.BadParameter(f"--network-size {text}: expected width and height, such as 384x224")
    return int(height), int(width)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _score(run: Callable[[Callable[[int, int], None]], dict], what: str, out: Path) -> None:
    """Run an evaluation under a progress bar, show its table, tell its problems; exit code 1 where there are any."""
    from diffsal.bars import watched
    from diffsal.scoring.table import show

    try:
        with watched(what, unit="clips/s") as advance:
            document = run(advance)
    except KeyboardInterrupt:
        raise typer.Exit(complain(f"{what}: stopped; the same command goes on where it stood")) from None
    show(document)
    for problem in document["problems"]:
        complain(problem)
    say(f"{what} → {out / 'scores.json'}, per_video.csv, per_frame.csv")
    raise typer.Exit(int(bool(document["problems"])))


def validate(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="dhf1k, hollywood2, …, gaze (docs/databases.md).")
    ],
    *,
    data: Annotated[Path, typer.Option(help="Root of the data set.")],
    split: Annotated[str, typer.Option(help="train, val, test; in the gaze layout a set.")] = "all",
    partial: Annotated[bool, typer.Option("--partial", help="A part is meant: no published counts.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Decode everything, not three frames of each clip.")] = False,
) -> None:
    """Check a download: counts, unreadable files, maps without fixations, sound missing or too short."""
    from rich.console import Console

    from diffsal.bars import watched
    from diffsal.data import validation

    with watched(dataset, unit="clips/s") as show:
        report = validation.validate(dataset, data, split, partial=partial, full=full, on_clip=show)
    Console(markup=False).print(report.table())
    for problem in report.problems:
        complain(problem)
    raise typer.Exit(int(bool(report.problems)))


def prepare(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="dhf1k, hollywood2, …, gaze (docs/databases.md).")
    ],
    *,
    data: Annotated[Path, typer.Option(help="Root of the data set.")],
    frames: Annotated[bool, typer.Option("--frames", help="Extract frames and sound of video files.")] = False,
    picture_format: Annotated[str, typer.Option("--format", help="Of extracted frames: jpg or png.")] = "jpg",
    sigma: Annotated[str | None, typer.Option(help="Blur of maps: 12.74px, 1deg, 0.025w (of the width).")] = None,
    units: Annotated[str, typer.Option(help="Of samples: px, deg or fraction.")] = "px",
    pixels_per_degree: Annotated[float | None, typer.Option(help="Of the screen, for samples and degrees.")] = None,
    shown_at: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="Where the screen showed the video.")] = None,
    algorithm: Annotated[str, typer.Option(help="Samples to fixations: velocity or dispersion.")] = "velocity",
    force: Annotated[bool, typer.Option("--force", help="Make fixations and maps anew.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="How many at a time; default: one per core.")] = None,
) -> None:
    """Make what the readers need: open archives, extract frames and sound, turn samples into fixations and maps."""
    from diffsal.bars import watched
    from diffsal.data.preparation import prepare as preparation
    from diffsal.data.preparation.samples import Recording
    from diffsal.data.truth import Sigma

    try:
        place = None
        if shown_at:
            x, y, w, h = (float(v) for v in shown_at.split(","))
            place = x, y, w, h
    except ValueError:
        raise typer.BadParameter(f"--shown-at {shown_at}: expected four numbers, X,Y,W,H") from None
    settings = preparation.Preparation(frames, picture_format, Sigma.parse(sigma) if sigma else None,
                                       Recording(units, pixels_per_degree, place, algorithm),  # type: ignore[arg-type]
                                       force)
    try:
        with watched(dataset, unit="pieces/s") as show:
            prepared = preparation.prepare(dataset, data, settings, workers=workers, on_job=show)
    except KeyboardInterrupt:
        raise InputError(f"{dataset}: stopped, nothing half-made is left; the same command goes on from here") from None
    say(f"{dataset}: {prepared}")
    for note in prepared.notes:
        complain(note)
    for problem in prepared.problems:
        complain(problem)
    raise typer.Exit(int(bool(prepared.problems)))
