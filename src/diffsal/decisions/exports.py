"""Decisions in the formats that other programs read: CSV, COCO boxes, keyframes for editors, timed text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffsal.decisions.crop_video import write_path
from diffsal.decisions.reframe import CropPath
from diffsal.files import write_csv, write_text

PATH_SUFFIXES = (".json", ".csv", ".setting", ".txt")
KEY_TOLERANCE = 0.25  # pixels that a path between keyframes may differ from its frames


def path_suffix(place: Path) -> bool:
    """Whether ``place`` is a format of a crop's path, by its ending."""
    return place.suffix.lower() in PATH_SUFFIXES


def write_crop_path(path: CropPath, place: Path) -> None:
    """By the ending of ``place``: ``.json``, ``.coco.json``, ``.csv``, ``.setting`` (DaVinci Resolve's Fusion) or
    ``.txt`` (After Effects keyframes, to paste)."""
    if place.name.lower().endswith(".coco.json"):
        boxes = [
            (i, "crop", (x, y, float(path.crop_width), float(path.crop_height)), share)
            for i, x, y, share in zip(path.index, path.left, path.top, path.attention, strict=True)
        ]
        write_coco(place, path.source, (path.width, path.height), path.index, boxes)
    elif place.suffix.lower() == ".json":
        write_path(path, place)
    elif place.suffix.lower() == ".csv":
        rows = zip(
            path.index,
            (f"{s:.6f}" for s in path.seconds),
            path.left,
            path.top,
            [path.crop_width] * len(path.index),
            [path.crop_height] * len(path.index),
            path.attention,
            strict=True,
        )
        write_csv(place, ("index", "seconds", "left", "top", "width", "height", "attention"), rows)
    elif place.suffix.lower() == ".setting":
        write_text(place, fusion_setting(path))
    else:
        write_text(place, after_effects_keys(path))


def write_coco(
    place: Path,
    source: str,
    size: tuple[int, int],
    frames: Sequence[int],
    boxes: Iterable[tuple[int, str, tuple[float, float, float, float], float]],
) -> None:
    """COCO's detection format: an image per frame, an annotation per box.

    ``size``: width and height in pixels. ``boxes``: frame, name, (left, top, width, height) in pixels, and score.
    """
    boxes = list(boxes)
    names = list(dict.fromkeys(name for _, name, _, _ in boxes))
    stem, (width, height) = Path(source).stem, size
    document = {
        "info": {"description": f"{Path(source).name}, by diffsal", "version": "1"},
        "images": [{"id": i, "file_name": f"{stem}/{i:06d}.png", "width": width, "height": height} for i in frames],
        "categories": [{"id": k + 1, "name": name, "supercategory": "region"} for k, name in enumerate(names)],
        "annotations": [
            {
                "id": k + 1,
                "image_id": frame,
                "category_id": names.index(name) + 1,
                "iscrowd": 0,
                "bbox": [round(v, 2) for v in box],
                "area": round(box[2] * box[3], 2),
                "score": round(share, 5),
            }
            for k, (frame, name, box, share) in enumerate(boxes)
        ],
    }
    write_text(place, json.dumps(document, ensure_ascii=False) + "\n")


def write_json(place: Path, document: dict[str, Any]) -> None:
    """A document that people may look into, whole or not at all."""
    write_text(place, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def srt(entries: Iterable[tuple[float, float, str]]) -> str:
    """SubRip text of (start, end, words), seconds; times that overlap are cut off where the next begins."""
    listed = list(entries)
    lines = []
    for k, (start, end, words) in enumerate(listed):
        end = min(end, listed[k + 1][0]) if k + 1 < len(listed) else end
        lines.append(f"{k + 1}\n{_srt_time(start)} --> {_srt_time(end)}\n{words}\n")
    return "\n".join(lines)


def _srt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def keyframes(path: CropPath, tolerance: float = KEY_TOLERANCE) -> list[int]:
    """The positions of frames that, joined by straight lines, give the path to ``tolerance`` pixels; cuts stay cuts.

    Ramer, Douglas and Peucker's rule, within each shot; its first and last frame are always among them.
    """
    where = np.array(path.left if path.horizontal else path.top)
    keys: set[int] = set()
    for first, end in zip(path.shots, [*path.shots[1:], len(where)], strict=True):
        pending = [(first, end - 1)]
        keys |= {first, end - 1}
        while pending:
            low, high = pending.pop()
            if high - low < 2:
                continue
            line = np.linspace(where[low], where[high], high - low + 1)
            off = np.abs(where[low : high + 1] - line)
            worst = int(off.argmax())
            if off[worst] > tolerance:
                keys.add(low + worst)
                pending += [(low, low + worst), (low + worst, high)]
    return sorted(keys)


def after_effects_keys(path: CropPath) -> str:
    """Position keyframes in After Effects' clipboard format: paste onto the layer in a composition of the crop's size.

    The layer's anchor point is the picture's middle; frames are counted at the source's frame rate.
    """
    lines = [
        "Adobe After Effects 8.0 Keyframe Data",
        "",
        f"\tUnits Per Second\t{path.frame_rate:g}",
        f"\tSource Width\t{path.width}",
        f"\tSource Height\t{path.height}",
        f"\tSource Pixel Aspect Ratio\t{float(path.sample_aspect_ratio):g}",
        "\tComp Pixel Aspect Ratio\t1",
        "",
        "Transform\tPosition",
        "\tFrame\tX pixels\tY pixels\tZ pixels\t",
    ]
    for i in keyframes(path):
        x, y = path.width / 2 - path.left[i], path.height / 2 - path.top[i]
        lines.append(f"\t{round(path.seconds[i] * path.frame_rate)}\t{x:.3f}\t{y:.3f}\t0\t")
    return "\n".join([*lines, "", "", "End of Keyframe Data", ""])


def fusion_setting(path: CropPath) -> str:
    """A Crop tool for DaVinci Resolve's Fusion page, its offset animated: copy the text and paste it into the nodes.

    Fusion counts rows from the bottom.
    """
    moving, still = ("X", "Y") if path.horizontal else ("Y", "X")
    bottoms = [path.height - top - path.crop_height for top in path.top]
    values = {"X": path.left, "Y": bottoms}
    keys = ",\n".join(
        f"\t\t\t\t[{round(path.seconds[i] * path.frame_rate)}] = {{ {values[moving][i]:.3f}, "
        "Flags = { Linear = true } }"
        for i in keyframes(path)
    )
    return f"""{{
	Tools = ordered() {{
		Reframe = Crop {{
			Inputs = {{
				{moving}Offset = Input {{ SourceOp = "Reframe{moving}Offset", Source = "Value", }},
				{still}Offset = Input {{ Value = {values[still][0]:.0f}, }},
				XSize = Input {{ Value = {path.crop_width}, }},
				YSize = Input {{ Value = {path.crop_height}, }},
			}},
		}},
		Reframe{moving}Offset = BezierSpline {{
			KeyFrames = {{
{keys}
			}},
		}},
	}},
}}
"""
