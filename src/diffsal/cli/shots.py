"""The commands that pick frames, measure shots and weigh blocks: thumbnail, shots, qp-map."""

from __future__ import annotations

from mimetypes import guess_type
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
    check_folder,
    check_outputs,
    end_with,
    predicting,
    say,
)
from diffsal.errors import InputError

THUMBNAIL_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def thumbnail(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR|FILE", help="A folder; or a .jpg or .png: the best frame alone."),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, max=100, help="Frames; default: 5, of a file 1.")] = None,
    png: Annotated[bool, typer.Option("--png", help="PNG in the folder instead of JPEG.")] = False,
    weights: Weights = "compact",
    steps: Steps = 1,
    seed: Seed = 0,
    mute: Mute = False,
    device: WhichDevice = Device.cpu,
    force: Force = False,
) -> None:
    """The frames in which attention is most in one place: pictures, a contact sheet, JSON (docs/decisions.md)."""
    from diffsal.bars import watched
    from diffsal.decisions.thumbnail import find_thumbnails, write_best, write_thumbnails
    from diffsal.media.source import open_source
    from diffsal.runtime.loading import load

    source = open_source(video)
    place = output or beside(video, "thumbnails")
    alone = place.suffix.lower() in THUMBNAIL_SUFFIXES and not place.is_dir()
    if alone:
        if count not in (None, 1):
            raise InputError(f"{place}: one file holds one frame; give a folder with -o, or --count 1")
        check_outputs([place], force, THUMBNAIL_SUFFIXES, source)
    elif guess_type(place.name)[0] and not place.exists():  # a picture or video is meant, not a folder of this name
        raise InputError(f"{place}: a frame is written as one of {' '.join(THUMBNAIL_SUFFIXES)}; or name a folder")
    else:
        check_folder(place, force, source)
    with watched(video, source.num_frames) as show:
        found = find_thumbnails(
            load(weights),
            source,
            1 if alone else count or 5,
            on_frame=show,
            **predicting(steps, seed, mute, device),
        )
    if alone:
        write_best(found, source, place)
    else:
        write_thumbnails(found, source, place, ".png" if png else ".jpg")
    for t in found.chosen:
        print(f"{t.rank}: {t.frame.seconds:.2f} s, frame {t.frame.index}, {t.frame.share:.0%} in one place")
    left_out = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items()) or "none left out"
    say(
        f"{video}: {len(found.chosen)} of {found.num_frames} frames in {found.num_shots} "
        f"shot{'s' * (found.num_shots != 1)} ({left_out}) → {place}"
    )
    end_with(source.problems)


def shots(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video.")],
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", metavar="FILE", help=".json .csv .png .pdf .svg; repeatable."),
    ] = None,
    weights: Weights = "compact",
    steps: Steps = 1,
    seed: Seed = 0,
    mute: Mute = False,
    device: WhichDevice = Device.cpu,
    force: Force = False,
) -> None:
    """Per shot: when the eye arrives, how far it jumps, centredness, entropy, spread (docs/decisions.md)."""
    from diffsal.bars import watched
    from diffsal.decisions.shots import as_table, measure_shots, write_shots
    from diffsal.media.source import open_source
    from diffsal.runtime.loading import load

    source = open_source(video)
    outputs = output or [beside(video, "shots.json")]
    check_outputs(outputs, force, (".json", ".csv", ".png", ".pdf", ".svg"), source)
    with watched(video, source.num_frames) as show:
        result = measure_shots(load(weights), source, on_frame=show, **predicting(steps, seed, mute, device))
    for place in outputs:
        write_shots(result, place)
    print(as_table(result))
    count = len(result.shots)
    say(f"{video}: {len(result.index)} frames in {count} shot{'s' * (count != 1)} → {', '.join(map(str, outputs))}")
    end_with(source.problems)


def qp_map(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR|FILE",
            help="A folder: a .csv per frame; .csv: all; .txt: SVT-AV1's map; .mp4 .mkv .mov: coded; .png: to look at.",
        ),
    ] = None,
    block: Annotated[int, typer.Option(help="Pixels: 8, 16, 32 or 64; of SVT-AV1's map always 64.")] = 16,
    strength: Annotated[float, typer.Option(help="Largest offset of the quantiser either way, in QP.")] = 8.0,
    codec: Annotated[str, typer.Option(help="Of coded files: h264 or h265.")] = "h264",
    crf: Annotated[float, typer.Option(min=0, max=51, help="Quality of coded files.")] = 23.0,
    preset: Annotated[str, typer.Option(help="Of x264 or x265 for coded files.")] = "medium",
    weights: Weights = "compact",
    steps: Steps = 1,
    seed: Seed = 0,
    mute: Mute = False,
    device: WhichDevice = Device.cpu,
    force: Force = False,
) -> None:
    """How much each block matters, for encoders: QP offsets as .csv, SVT-AV1 ROI map, or coded (docs/qp-map.md)."""
    from diffsal.bars import watched
    from diffsal.decisions.qp_map import write_qp_maps
    from diffsal.media.source import open_source
    from diffsal.outputs.overlay import OVERLAY_SUFFIXES
    from diffsal.runtime.loading import load

    source = open_source(video)
    outputs = output or [beside(video, "qp")]
    folders = [place for place in outputs if place.suffix in ("", ".qp") or place.is_dir()]
    for folder in folders:
        check_folder(folder, force, source)
    endings = (".csv", ".txt", ".png", ".jpg", *OVERLAY_SUFFIXES)
    check_outputs([o for o in outputs if o not in folders], force, endings, source)
    with watched(video, source.num_frames) as show:
        done = write_qp_maps(
            load(weights),
            source,
            outputs,
            block=block,
            strength=strength,
            codec=codec,
            crf=crf,
            preset=preset,
            on_frame=show,
            **predicting(steps, seed, mute, device),
        )
    say(f"{video}: {done} frames, blocks of {block} pixels, within {strength:g} QP → {', '.join(map(str, outputs))}")
    end_with(source.problems)
