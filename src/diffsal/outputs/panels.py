"""Pictures side by side with words: what `explain`, `compare` and the gallery are made of.

White ground, one font that Pillow carries, sizes that survive a slide. Colours are inferno for maps and cividis for
signed differences: both grow lighter all the way, so that they can be read in grey and by the colour-blind.
"""

from __future__ import annotations

import textwrap
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffsal.files import whole_file
from diffsal.outputs.overlay import Overlayer

PANEL_WIDTH = 400
GAP = 8
TITLE_POINTS, NAME_POINTS, NOTE_POINTS = 30, 22, 18
INK, GREY = (20, 20, 20), (90, 90, 90)
PDF_DOTS_PER_INCH = 200
# What the font lacks, in characters that it has
SUBSTITUTES = str.maketrans({"–": "-", "—": "-", "−": "-", "×": "x", "→": "to", "≥": "at least", "σ": "sigma"})


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture, RGB uint8 (h, w, 3), a name above it and numbers below. No picture: an empty place."""

    image: np.ndarray | None
    name: str = ""
    note: str = ""


def heat(saliency: np.ndarray, highest: float | None = None) -> np.ndarray:
    """A map (h, w) in inferno, RGB uint8, black at 0 and brightest at ``highest`` (default: its own maximum)."""
    levels = np.clip(saliency / max(saliency.max() if highest is None else highest, 1e-9), 0, 1)
    return cv2.applyColorMap(np.rint(levels * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]


def signed_heat(difference: np.ndarray) -> np.ndarray:
    """A signed map (h, w) in cividis, RGB uint8: 0 is mid-grey, less is dark blue, more is light yellow."""
    largest = max(float(np.abs(difference).max()), 1e-9)
    levels = np.rint((difference / largest + 1) * 127.5).astype(np.uint8)
    return cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS)[..., ::-1]


def heat_over(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``values`` (any size), from their lowest to their highest, as heat over ``image``."""
    low, high = float(values.min()), float(values.max())
    levels = (values - low) / max(high - low, 1e-9)
    sized = cv2.resize(levels.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return Overlayer().draw(image, sized)


def figure(
    rows: list[list[Panel]], title: str = "", notes: list[str] | None = None, panel_width: int = PANEL_WIDTH
) -> np.ndarray:
    """Rows of panels under a title, notes at the foot; RGB uint8."""
    columns = max(len(row) for row in rows)
    width = columns * (panel_width + GAP) + GAP
    strips = [_words(title, width, TITLE_POINTS, INK, GAP)] if title else []
    for row in rows:
        cells = [_cell(panel, panel_width) for panel in row]
        tallest = max(c.shape[0] for c in cells)
        cells = [cv2.copyMakeBorder(c, 0, tallest - len(c), GAP, 0, cv2.BORDER_CONSTANT, value=(255,) * 3)
                 for c in cells]
        strip = np.concatenate(cells, axis=1)
        strips.append(cv2.copyMakeBorder(strip, 0, GAP, 0, width - strip.shape[1], cv2.BORDER_CONSTANT,
                                         value=(255,) * 3))
    strips.extend(_words(note, width, NOTE_POINTS, GREY, GAP) for note in notes or [])
    return np.concatenate([*strips, np.full((GAP, width, 3), 255, np.uint8)])


def write_figure(path: Path, image: np.ndarray) -> None:
    """PNG, JPEG or PDF (one page at 200 dots per inch), by the name's ending; whole or not at all."""
    options: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"resolution": PDF_DOTS_PER_INCH, "quality": 92}}
    with whole_file(path) as place:
        Image.fromarray(image).save(place, **options.get(path.suffix.lower(), {"quality": 88}))


def _cell(panel: Panel, width: int) -> np.ndarray:
    parts = [_words(panel.name, width, NAME_POINTS, INK)] if panel.name else []
    if panel.image is not None:
        height = max(1, round(width * panel.image.shape[0] / panel.image.shape[1]))
        smaller = panel.image.shape[1] > width
        parts.append(cv2.resize(panel.image, (width, height),
                                interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC))
    if panel.note:
        parts.append(_words(panel.note, width, NOTE_POINTS, GREY))
    return np.concatenate(parts) if parts else np.full((1, width, 3), 255, np.uint8)


@lru_cache(maxsize=512)
def _words(text: str, width: int, points: int, colour: tuple[int, int, int], left: int = 0) -> np.ndarray:
    """``text``, wrapped to ``width`` pixels, dark on white, from ``left`` pixels on."""
    font = ImageFont.load_default(points)
    text = writable(text)
    fitting = max(8, int(len(text) * (width - left) / max(font.getlength(text), 1)))
    lines = textwrap.wrap(text, fitting) or [""]
    while fitting > 8 and max(font.getlength(line) for line in lines) > width - left:
        fitting -= 1
        lines = textwrap.wrap(text, fitting)
    leading = round(points * 1.3)
    image = Image.new("RGB", (width, leading * len(lines) + GAP), "white")
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        draw.text((left, GAP // 2 + i * leading), line, colour, font)
    return np.asarray(image)


def writable(text: str) -> str:
    """``text`` in the characters of Pillow's font: accents dropped, other scripts as question marks."""
    plain = unicodedata.normalize("NFKD", text.translate(SUBSTITUTES))
    return "".join(c if c.isascii() or c in "·±…’“”" else "?" for c in plain if not unicodedata.combining(c))
