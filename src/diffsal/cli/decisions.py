"""The commands that draw conclusions from where people look: reframe, regions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffsal.cli.options import (
    Device,
    Force,
    Mute,
    Seed,
    Steps,
    Weights,
    WhichDevice,
    beside,
    check_outputs,
    complain,
    end_with,
    predicting,
    say,
)
from diffsal.errors import InputError


def reframe(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video or a picture.")],
    aspect: Annotated[str, typer.Option(metavar="W:H", help="Of the crop: 9:16, 1:1, 4:5, …")] = "9:16",
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Cropped .mp4 .mov .mkv; the path: .json .csv .setting .txt .coco.json; repeatable.",
        ),
    ] = None,
    preview: Annotated[Path | None, typer.Option(help="Video of the whole picture with the crop drawn in.")] = None,
    follow: Annotated[
        float, typer.Option(min=0, max=1, help="How closely: 0 stands still in every shot, 1 moves for any gain.")
    ] = 0.5,
    max_speed: Annotated[float, typer.Option(help="Picture widths (or heights) per second.")] = 0.25,
    max_acceleration: Annotated[float, typer.Option(help="Picture widths (or heights) per second squared.")] = 0.5,
    faces: Annotated[bool, typer.Option(help="Keep faces whole where the crop can.")] = True,
    path: Annotated[Path | None, typer.Option(help="Crop by this path (.json) instead of predicting one.")] = None,
    weights: Weights = "compact",
    steps: Steps = 1,
    seed: Seed = 0,
    mute: Mute = False,
    device: WhichDevice = Device.cpu,
    force: Force = False,
) -> None:
    """Crop to where people look: vertical or square video, a smooth path, the sound kept (docs/reframe.md)."""
    from diffsal.bars import watched
    from diffsal.decisions.crop_path import PathSettings
    from diffsal.decisions.crop_video import read_path, write_crop
    from diffsal.decisions.exports import PATH_SUFFIXES, path_suffix, write_crop_path
    from diffsal.decisions.reframe import crop_size, parse_aspect, plan_crop
    from diffsal.media.source import open_source
    from diffsal.outputs.overlay import OVERLAY_SUFFIXES
    from diffsal.runtime.loading import load

    source = open_source(video)
    shape = parse_aspect(aspect)
    pictures = (".png", ".jpg", ".jpeg", ".webp") if source.is_picture else OVERLAY_SUFFIXES
    outputs = output or [beside(video, f"{shape.numerator}x{shape.denominator}{pictures[0]}")]
    check_outputs(outputs, force, (*pictures, *PATH_SUFFIXES), source, path)
    if preview:
        check_outputs([preview], force, pictures, source, path)
        if preview.absolute() in {place.absolute() for place in outputs}:
            raise InputError(f"{preview}: is the crop and the preview; give each its own name")
    videos = [o for o in outputs if o.suffix.lower() in pictures]
    if len(videos) > 1:
        raise InputError(f"{videos[1]}: one cropped file per call; give -o {videos[0]} and paths beside it")
    settings = PathSettings(follow, max_speed, max_acceleration)
    if path is None:
        crop_size(source, shape)
        model = load(weights)
        with watched(video, source.num_frames) as show:
            plan = plan_crop(
                model,
                source,
                shape,
                settings=settings,
                faces=faces,
                on_frame=show,
                **predicting(steps, seed, mute, device),
            )
    else:
        plan = read_path(path)
        if (plan.width, plan.height) != (source.width, source.height):
            raise InputError(f"{path}: is for {plan.width}x{plan.height}, {video} is {source.width}x{source.height}")
    if videos or preview:
        with watched(f"{video}, cropped", len(plan.index)) as show:
            write_crop(plan, source, videos[0] if videos else None, preview, show)
    for place in outputs:
        if path_suffix(place):
            write_crop_path(plan, place)
    inside = sum(plan.attention) / len(plan.attention)
    written = [*outputs, *([preview] if preview else [])]
    say(
        f"{video}: {len(plan.index)} frame{'s' * (len(plan.index) != 1)} in {len(plan.shots)} "
        f"shot{'s' * (len(plan.shots) != 1)}, {plan.crop_width}x{plan.crop_height} of {plan.width}x{plan.height}, "
        f"{inside:.0%} of attention inside → {', '.join(map(str, written))}"
    )
    end_with(source.problems)


def regions(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video or a picture.")],
    roi: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=…", help="left,top,right,bottom, a .csv of boxes, a mask or a folder; repeatable."),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=BOX@SECONDS", help="Follow what is in this box from there on; repeatable."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help=".json .csv .coco.json .srt .png .pdf .svg .html; repeatable."
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Share of attention from which a region is attended.")] = 0.05,
    ground_truth: Annotated[Path | None, typer.Option(help="People's fixations (.csv, gaze layout) beside it.")] = None,
    require: Annotated[
        list[str] | None, typer.Option(metavar="'NAME >= 0.05'", help="Exit with 3 if it is not so; repeatable.")
    ] = None,
    weights: Weights = "compact",
    steps: Steps = 1,
    seed: Seed = 0,
    mute: Mute = False,
    device: WhichDevice = Device.cpu,
    force: Force = False,
) -> None:
    """How much attention do regions get, and when? Fixed boxes, boxes over time, masks, tracks (docs/decisions.md)."""
    from diffsal.bars import watched
    from diffsal.decisions.region_sources import lost_tracks, read_regions
    from diffsal.decisions.regions import measure_regions, write_regions
    from diffsal.decisions.requirements import read_requirement
    from diffsal.media.source import open_source
    from diffsal.runtime.loading import load

    source = open_source(video)
    outputs = output or [beside(video, "regions.json")]
    endings = (".json", ".csv", ".srt", ".png", ".pdf", ".svg", ".html")
    check_outputs(outputs, force, endings, source, ground_truth, *roi or [])
    wanted = read_regions(roi or [], track or [], source)
    requirements = [read_requirement(text, [r.name for r in wanted]) for text in require or []]
    with watched(video, source.num_frames) as show:
        result = measure_regions(
            load(weights),
            source,
            wanted,
            threshold=threshold,
            fixations=ground_truth,
            on_frame=show,
            **predicting(steps, seed, mute, device),
        )
    for place in outputs:
        write_regions(result, place)
    agreement = result.agreement()
    for m in sorted(result.measures(), key=lambda m: m.rank):
        first = "never" if m.first_seconds is None else f"first at {m.first_seconds:.2f} s"
        people = f", people {np_mean(result.people[m.name]):.1%}" if m.name in agreement else ""
        say(
            f"{m.name}: {m.mean:.1%} of attention{people}, {first}, attended {m.attended_seconds:.2f} s, "
            f"longest gap {m.longest_gap_seconds:.2f} s"
        )
    for note in lost_tracks(wanted, video):
        say(note)
    say(f"{video}: {len(result.index)} frames, {len(wanted)} regions → {', '.join(map(str, outputs))}")
    failed = [line for r in requirements if (line := r.failure({m.name: m.mean for m in result.measures()}))]
    for line in failed:
        complain(f"{video}: {line}")
    if failed:
        raise typer.Exit(3)
    end_with(source.problems)


def np_mean(values: list[float]) -> float:
    known = [v for v in values if v == v]
    return sum(known) / max(len(known), 1)
