"""The commands that make pictures and pages: explain, compare, report. Thin functions, as in ``cli.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffsal.cli.options import (
    Device,
    Force,
    Seed,
    Spacing,
    Steps,
    Weights,
    WhichDevice,
    check_output,
    complain,
    predicting,
    say,
)
from diffsal.errors import InputError


def explain(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video or a picture.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="PNG, JPEG or PDF of a frame; MP4 of a span.")
    ] = None,
    frame: Annotated[int | None, typer.Option(min=0, help="Explain this frame, counted from 0.")] = None,
    start: Annotated[float | None, typer.Option(min=0, help="Seconds; explain from here on, as a video.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Seconds; until here.")] = None,
    shift: Annotated[
        float | None, typer.Option(help="Seconds from a moment to the other one whose sound it gets; default: half.")
    ] = None,
    weights: Weights = "compact",
    steps: Steps = 1,
    seed: Seed = 0,
    spacing: Annotated[Spacing | None, typer.Option(help="Of the timesteps; default: the weights' own.")] = None,
    device: WhichDevice = Device.cpu,
    force: Force = False,
) -> None:
    """What it attends to: sound times picture at every stage; the map with, without and with another moment's sound."""
    if frame is not None and (start is not None or end is not None):
        raise typer.BadParameter("--frame is one frame, --start and --end a span: give one of the two")
    if start is not None and end is not None and end <= start:
        raise typer.BadParameter(f"--end {end} is not after --start {start}")
    from diffsal.bars import watched
    from diffsal.figures.explain import write_explanation
    from diffsal.media.source import open_source
    from diffsal.outputs.render import default_outputs, expected_frames
    from diffsal.weights.files import load

    source = open_source(video)
    if source.camera is not None:
        raise InputError(f"{video}: a camera cannot be explained; record it with `diffsal predict {video} -o FILE`")
    is_video = frame is None and not source.is_picture
    if output is None:
        part = "explained.mp4" if is_video else f"frame{frame or 0:06d}.png"
        overlay = default_outputs(source, video).overlay or Path("camera.saliency.mp4")
        output = overlay.with_suffix(f".{part}")
    check_output(output, force, (), source, weights)
    settings = {"frame": frame, "start": start, "end": end, "shift_seconds": shift, "steps": steps, "seed": seed,
                "spacing": spacing and spacing.value, "device": device.value}
    with watched(video, expected_frames(source, start, end) if is_video else 1) as show:
        done = write_explanation(load(weights), source, output, show, **settings)
    for problem in source.problems:
        complain(problem)
    say(f"{video}: {done} frame{'s' * (done > 1)} → {output}")
    raise typer.Exit(int(bool(source.problems)))


def compare(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="The video; of two cuts the old one, A.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[B | NAME=DIR]", help="With --roi: the new cut, B. Else: more maps.")
    ] = None,
    maps: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="A model's maps, NNNNNN.png; ours first; repeatable.")
    ] = None,
    ground_truth: Annotated[
        list[Path] | None,
        typer.Option(
            help="Fixations (.csv, gaze layout), a folder of maps, or one with maps/, fixation/. Two cuts: a .csv each."
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="PNG, JPEG or PDF; repeatable; default: PNG and PDF. Two cuts: .json .csv .png .pdf .svg .html.",
        ),
    ] = None,
    each: Annotated[int, typer.Option(min=1, max=20, help="Frames of each kind.")] = 1,
    roi: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=…", help="Two cuts: a region, as of `diffsal regions`; repeatable."),
    ] = None,
    roi_b: Annotated[
        list[str] | None, typer.Option("--roi-b", metavar="NAME=…", help="Where that region is in B, if elsewhere.")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=BOX@SECONDS", help="Two cuts: follow what is in this box; repeatable."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME >= 0.05'", help="Two cuts: exit with 3 if it is not so in all of B; repeatable."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Two cuts: maps per frame, for an interval.")] = 1,
    weights: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Two cuts: weights by name or as a file.")
    ] = "compact",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Two cuts: denoising steps.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Two cuts: of the noise and of the intervals.")] = 0,
    mute: Annotated[bool, typer.Option("--mute", help="Two cuts: predict as if there were no sound.")] = False,
    device: Annotated[Device, typer.Option(help="Two cuts: where the network runs.")] = Device.cpu,
    force: Force = False,
) -> None:
    """Models side by side on one video, by maps that they made; or two cuts, by regions: `compare A B --roi NAME=…`."""
    if roi or track:
        from diffsal.cli.cuts import CutOptions, compare_two

        if len(more or []) != 1 or maps:
            raise typer.BadParameter("two cuts are compared: give A and B, and no --maps")
        options = CutOptions(
            roi=roi or [],
            roi_b=roi_b or [],
            track=track or [],
            require=require or [],
            ground_truth=ground_truth or [],
            outputs=output or [],
            weights=weights,
            samples=samples,
            predicting=predicting(steps, seed, mute, device),
            force=force,
        )
        compare_two(video, (more or [""])[0], options)
        return
    if require or roi_b:
        raise typer.BadParameter("--require and --roi-b are of two cuts: give --roi")
    if len(ground_truth or []) > 1:
        raise typer.BadParameter("one video has one --ground-truth")
    pairs = [pair.partition("=") for pair in (maps or []) + (more or [])]
    if not pairs or not all(name and folder for name, _, folder in pairs):
        raise typer.BadParameter("give each model's maps as --maps NAME=DIR; to compare two cuts, give --roi")
    if len({name for name, *_ in pairs}) < len(pairs):
        raise typer.BadParameter("two models have the same name")
    from diffsal.bars import watched
    from diffsal.figures.compare import Humans, Maps, draw, measure
    from diffsal.media.source import open_source
    from diffsal.outputs.panels import write_figure
    from diffsal.outputs.render import default_outputs

    source = open_source(video)
    beside = default_outputs(source, video).overlay or Path("camera.saliency.mp4")
    outputs = output or [beside.with_suffix(f".compared{ending}") for ending in (".png", ".pdf")]
    for path in outputs:
        check_output(path, force, (".png", ".jpg", ".pdf"), source, *ground_truth or [], *(f for _, _, f in pairs))
    models = [Maps.read(name, Path(folder), source) for name, _, folder in pairs]
    humans = Humans.read(ground_truth[0], source) if ground_truth else None
    with watched(video, source.num_frames) as show:
        comparison = measure(source, models, humans, show)
        image = draw(source, models, humans, comparison, each)
    for path in outputs:
        write_figure(path, image)
    if comparison.scores:
        for name, mean in zip(comparison.names, comparison.means(), strict=True):
            say(f"{name}: {mean}")
    lacking = [f"{video}: {name} has no map for {n} of the frames that count; they are left out"
               for name, n in comparison.missing.items() if n]
    problems = [*source.problems, *comparison.problems, *lacking]
    for problem in problems:
        complain(problem)
    say(f"{video}: {len(comparison.frames)} frames compared → {', '.join(map(str, outputs))}")
    raise typer.Exit(int(bool(problems)))


def report(
    scores: Annotated[list[Path], typer.Argument(metavar="SCORES", help="scores.json files, or their folders.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")] = Path("report.html"),
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=P,M", help="Parameters and multiply-accumulates of a model; repeatable."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, max=200, help="How many of the worst frames.")] = 10,
    force: Force = False,
) -> None:
    """One HTML page of scores: tables beside the literature, charts, the worst frames, the protocol in words."""
    from diffsal.bars import watched
    from diffsal.figures.report import write_report

    sizes = dict(_size(text) for text in size or [])
    check_output(output, force, (".html", ".htm"))
    with watched("worst frames", worst) as show:
        problems = write_report(scores, output, sizes=sizes, num_worst=worst, on_step=show)
    for problem in problems:
        complain(problem)
    say(f"{len(scores)} file{'s' * (len(scores) > 1)} of scores → {output}")
    raise typer.Exit(int(bool(problems)))


def _size(text: str) -> tuple[str, tuple[float, float]]:
    name, _, numbers = text.rpartition("=")
    try:
        parameters, multiply_accumulates = map(float, numbers.split(","))
    except ValueError:
        raise typer.BadParameter(f"--size {text}: expected MODEL=PARAMETERS,MULTIPLY_ACCUMULATES") from None
    if not name or min(parameters, multiply_accumulates) <= 0:
        raise typer.BadParameter(f"--size {text}: expected a name and two numbers above 0")
    return name, (parameters, multiply_accumulates)
