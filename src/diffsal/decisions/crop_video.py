"""A crop's path on disk: the cropped video with its sound, a preview with the crop drawn in, the path as JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from jaxtyping import UInt8

from diffsal.decisions.crop_path import PathSettings
from diffsal.decisions.reframe import CropPath, cut_out
from diffsal.errors import InputError
from diffsal.files import write_text
from diffsal.media.pictures import write_picture
from diffsal.media.source import Frame, Source, open_source
from diffsal.media.threads import prefetch
from diffsal.outputs.overlay import VideoWriter

SCHEMA, VERSION = "diffsal.crop_path", 1
OUTSIDE_BRIGHTNESS = 0.35  # of the preview's picture around the crop
PREVIEW_WIDTH = 1280  # at most
FACE_COLOUR, CROP_COLOUR = (80, 220, 255), (255, 255, 255)


def write_crop(
    path: CropPath,
    video: str | Path | Source,
    output: Path | None = None,
    preview: Path | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Write the cropped video (of a picture: the cropped picture), and the whole one with the crop drawn in.

    Times are the source's; its sound is copied where MP4 players take it, else coded as AAC. Files appear whole or not
    at all.
    """
    source = video if isinstance(video, Source) else open_source(video)
    positions = {index: position for position, index in enumerate(path.index)}
    wanted = [(p, draw) for p, draw in ((output, cut_out), (preview, draw_preview)) if p is not None]
    if source.is_picture:
        frame = next(iter(source.frames()))
        for place, draw in wanted:
            write_picture(place, draw(frame, path, 0))
        return
    with contextlib.ExitStack() as stack:
        writers = []
        for place, draw in wanted:
            writer = VideoWriter(place, source)
            stack.callback(writer.discard)
            writers.append((writer, draw))
        frames: Any = prefetch(source.frames())
        stack.callback(frames.close)
        done = 0
        for frame in frames:
            position = positions.get(frame.index)
            if position is None:
                continue
            for writer, draw in writers:
                writer.write(cast(Any, frame), draw(frame, path, position))  # it needs index and seconds
            done += 1
            if on_frame:
                on_frame(done)
        for writer, _ in writers:
            writer.close()


def draw_preview(frame: Frame, path: CropPath, position: int) -> UInt8[np.ndarray, "h w 3"]:
    """The whole picture, dark outside the crop, a line around it, and the faces that were found."""
    left, top = round(path.left[position]), round(path.top[position])
    right, bottom = left + path.crop_width, top + path.crop_height
    image = cv2.convertScaleAbs(frame.image, alpha=OUTSIDE_BRIGHTNESS)
    image[top:bottom, left:right] = frame.image[top:bottom, left:right]
    thick = max(1, round(path.height / 180))
    for box in path.faces[position]:
        corners = [round(x) for x in box[:4]]
        cv2.rectangle(image, corners[:2], corners[2:], FACE_COLOUR, max(1, thick // 2), cv2.LINE_AA)
    cv2.rectangle(image, (left, top), (right - 1, bottom - 1), CROP_COLOUR, thick)
    if image.shape[1] > PREVIEW_WIDTH:
        size = (PREVIEW_WIDTH, round(image.shape[0] * PREVIEW_WIDTH / image.shape[1]))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image


def write_path(path: CropPath, place: Path) -> None:
    """The path as JSON, schema ``diffsal.crop_path`` version 1; docs/reframe.md says what is in it."""
    moves = [
        {
            **move,
            "from_seconds": round(path.seconds[move["first"]], 6),
            "to_seconds": round(path.seconds[move["last"]], 6),
        }
        for move in path.moves()
    ]
    head = {
        "schema": SCHEMA,
        "version": VERSION,
        "source": Path(path.source).name,
        "width": path.width,
        "height": path.height,
        "frame_rate": path.frame_rate,
        "aspect": f"{path.aspect.numerator}:{path.aspect.denominator}",
        "sample_aspect_ratio": f"{path.sample_aspect_ratio.numerator}:{path.sample_aspect_ratio.denominator}",
        "crop_width": path.crop_width,
        "crop_height": path.crop_height,
        "settings": {
            "follow": path.settings.follow,
            "max_speed": path.settings.max_speed,
            "max_acceleration": path.settings.max_acceleration,
        },
        "shots": path.shots,
        "moves": moves,
    }
    lines = [
        json.dumps(
            {
                "index": path.index[i],
                "seconds": round(path.seconds[i], 6),
                "left": path.left[i],
                "top": path.top[i],
                "attention": path.attention[i],
                "faces": [[round(x, 1) for x in box[:4]] + [round(box[4], 4)] for box in path.faces[i]],
            }
        )
        for i in range(len(path.index))
    ]
    text = json.dumps(head, ensure_ascii=False)[:-1] + ', "frames": [\n' + ",\n".join(lines) + "\n]}\n"
    write_text(place, text)


def read_path(place: Path) -> CropPath:
    """What :func:`write_path` wrote, perhaps edited since. :class:`InputError` for anything else."""
    try:
        data: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        if data.get("schema") != SCHEMA or data.get("version") != VERSION:
            raise InputError(f"{place}: not schema {SCHEMA}, version {VERSION}; write it with `diffsal reframe`")
        frames = data["frames"]
        per_frame = ("index", "seconds", "left", "top", "attention")
        columns: dict[str, Any] = {key: [f[key] for f in frames] for key in per_frame}
        names = ("source", "width", "height", "frame_rate", "crop_width", "crop_height")
        whole: dict[str, Any] = {key: data[key] for key in names}
        path = CropPath(
            **whole,
            **columns,
            aspect=_fraction(data["aspect"]),
            sample_aspect_ratio=_fraction(data["sample_aspect_ratio"]),
            settings=PathSettings(**data["settings"]),
            shots=data["shots"],
            faces=[[tuple(box) for box in f["faces"]] for f in frames],
        )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place}: cannot be read as a crop's path ({error}); write it again") from None
    for i in range(len(path.index)):
        if not (
            0 <= path.left[i] <= path.width - path.crop_width and 0 <= path.top[i] <= path.height - path.crop_height
        ):
            raise InputError(
                f"{place}: on frame {path.index[i]} the crop leaves the picture, {path.width}x{path.height}"
            )
    return path


def _fraction(text: str) -> Fraction:
    numerator, _, denominator = text.partition(":")
    return Fraction(int(numerator), int(denominator))
