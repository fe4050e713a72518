"""Models' maps of one video beside the picture and the humans, each with its scores, on frames chosen by rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from diffsal.data import tables
from diffsal.data.databases.gaze import GazeClip, read_clip
from diffsal.data.map_files import MapFiles, read_fixations
from diffsal.data.truth import count_fixations, draw_map, inside, to_pixels
from diffsal.errors import InputError
from diffsal.folders import numbered_files, trailing_number
from diffsal.media import pictures
from diffsal.media.pictures import PICTURE_SUFFIXES
from diffsal.media.source import Frame, Source
from diffsal.outputs.attention import moved
from diffsal.outputs.panels import Panel, figure, heat
from diffsal.scoring.metrics import cc, nss

FRAME_STEP, MIN_OBSERVERS = 5, 5  # the gaze protocol: every fifth frame on which at least five observers fixate
APART_SECONDS = 1.0  # between two frames of the figure
SIGNED = {("largest loss", True): "smallest gain", ("largest gain", False): "smallest loss"}  # where all are alike


@dataclass(frozen=True)
class Maps:
    """One model's maps by 0-based frame: see :func:`by_frame` for how their files are numbered."""

    name: str
    pictures: dict[int, Path]

    @classmethod
    def read(cls, name: str, folder: Path, source: Source | None = None) -> Maps:
        """Raises :class:`InputError` for a folder that is missing or holds no numbered pictures."""
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the maps of {name} as {name}=FOLDER")
        found = numbered_files(folder, PICTURE_SUFFIXES, are_maps=True)
        if not found:
            raise InputError(f"{folder}: holds no numbered maps; expected NNNNNN.png, NNNNNN the frame counted from 0")
        return cls(name, by_frame(found, source))

    def on(self, frame: Frame) -> np.ndarray | None:
        """The map of a frame, float32 at the frame's size in [0, 1], or None. :class:`InputError` if it is damaged."""
        path = self.pictures.get(frame.index)
        return None if path is None else read_map(path, *frame.image.shape[:2])


def by_frame(files: dict[int, Path], source: Source | None) -> dict[int, Path]:
    """Files by 0-based frame instead of by the number at the end of their names.

    Numbers are the frames' own where one of them is 0 or their names are six digits and no more, as ``predict --maps``
    writes them; else those of the clip's pictures (a shot of Hollywood-2 begins at 23, say); else, where the first is
    1, they count from 1.
    """
    pictures = [trailing_number(p.stem) for p in (source.pictures if source else None) or []]
    if 0 in files or (1 not in files and all(re.fullmatch(r"\d{6}", p.stem) for p in files.values())):
        return files
    if None not in pictures and set(files) & set(pictures):
        return {index: files[number] for index, number in enumerate(pictures) if number in files}
    return {number - (1 in files): path for number, path in files.items()}


@dataclass(frozen=True)
class Humans:
    """Where people looked: raw fixations of the gaze layout (a table), or maps and, for NSS, files of fixations.

    ``outside`` counts fixations that no picture holds; they are left out.
    """

    clip: GazeClip | None = None
    maps: Maps | None = None
    fixations: dict[int, Path] = field(default_factory=dict)
    outside: int = 0

    @classmethod
    def read(cls, path: Path, source: Source | None = None) -> Humans:
        """A table of the gaze layout; a folder of maps; or one with ``maps/`` and fixations, as in any database.

        Fixations are pictures or ``.mat`` in ``fixation/maps``, ``fixation`` or ``fixations``, or STAViS's beside
        ``maps``.
        """
        if path.name.lower().endswith(tables.SUFFIXES):
            clip = read_clip(path, path)
            return cls(clip, outside=int((~inside(clip.fixations[:, 3:5])).sum()))
        if (path / "maps").is_dir():
            folders = [path / "fixation" / "maps", path / "fixation", path / "fixations", path]
            files = MapFiles(path / "maps", tuple(folders))
            found = {n: files.fixation_folder / name for n, name in files.fixation_names.items()}
            return cls(None, Maps.read("humans", path / "maps", source), by_frame(found, source))
        return cls(maps=Maps.read("humans", path, source))

    def on(self, frame: Frame) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Map (h, w) and fixated pixels (h, w) bool, or None for those where unknown; None where too few look."""
        height, width = frame.image.shape[:2]
        if self.clip is not None:
            rows = self.clip.on_frame(frame.seconds)
            places = rows[inside(rows[:, 3:5]), 3:5]
            if len(places) < MIN_OBSERVERS:
                return None
            fixated = count_fixations(to_pixels(places, height, width), height, width) > 0
            return draw_map(places, height, width), fixated
        assert self.maps is not None
        truth = self.maps.on(frame)
        if truth is None or truth.max() == 0:
            return None
        path = self.fixations.get(frame.index)
        if path is None:
            return truth, None
        marked = read_fixations(path)
        places = (np.argwhere(marked)[:, ::-1] + 0.5) / np.array(marked.shape[::-1])
        fixated = count_fixations(to_pixels(places, height, width), height, width) > 0
        return truth, fixated if fixated.any() else None


def read_map(path: Path, height: int, width: int) -> np.ndarray:
    """A grey map as float32 (height, width) in [0, 1]; :class:`InputError` if it cannot be read."""
    values = pictures.read_map(path)
    return values if values.shape == (height, width) else cv2.resize(values, (width, height))


@dataclass(frozen=True)
class Score:
    """One map on one frame; NaN where it cannot be said."""

    cc: float = float("nan")
    nss: float = float("nan")

    def __str__(self) -> str:
        parts = [f"{name} {value:.{digits}f}" for name, value, digits in (("CC", self.cc, 3), ("NSS", self.nss, 2))
                 if not np.isnan(value)]
        return "   ".join(parts)


def score(saliency: np.ndarray, truth: np.ndarray, fixated: np.ndarray | None) -> Score:
    p = torch.from_numpy(saliency)
    by_nss = float("nan") if fixated is None else nss(p, torch.from_numpy(fixated)).item()
    return Score(cc(p, torch.from_numpy(truth)).item(), by_nss)


@dataclass
class Comparison:
    """The scores of every model on every frame that counts; ``scores[k][i]`` is model i on ``frames[k]``.

    ``frames`` are (index, seconds). Without humans, ``disagreement[k]`` says instead which share of attention the
    first two models place elsewhere. ``missing`` counts the frames left out, by model that lacks their map.
    """

    names: list[str]
    frames: list[tuple[int, float]] = field(default_factory=list)
    scores: list[list[Score]] = field(default_factory=list)
    disagreement: list[float] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # maps that cannot be read, a line each

    @property
    def measure(self) -> str:
        """NSS where there are fixations, else CC."""
        return "cc" if any(np.isnan(s.nss) for row in self.scores for s in row) else "nss"

    def gains(self) -> np.ndarray:
        """The first model's score over the best of the others'; alone, its score; without humans, disagreement."""
        if not self.scores:
            return np.array(self.disagreement)
        values = np.array([[getattr(s, self.measure) for s in row] for row in self.scores])
        return values[:, 0] - values[:, 1:].max(1) if values.shape[1] > 1 else values[:, 0]

    def means(self) -> list[Score]:
        """Over frames, a model each."""
        rows = np.array([[(s.cc, s.nss) for s in row] for row in self.scores])
        return [Score(*map(float, model)) for model in rows.mean(0)]

    def chosen(self, each: int = 1) -> list[tuple[str, int]]:
        """(why, k) of the figure's rows: ``each`` of the largest gains, of the largest losses and of the typical."""
        gains = self.gains()
        picked: list[tuple[str, int]] = []
        seconds = np.array([s for _, s in self.frames])
        if not self.scores:
            kinds = ("agree least", "agree most", "typical")
        else:
            kinds = ("largest gain", "largest loss", "typical") if len(self.names) > 1 else ("best", "worst", "typical")
        for kind, order in zip(kinds, (-gains, gains, np.abs(gains - np.median(gains))), strict=True):
            wanted = each
            for k in np.argsort(order, kind="stable"):
                far = all(abs(seconds[k] - seconds[j]) >= APART_SECONDS for _, j in picked)
                if wanted and far:
                    picked.append((kind, int(k)))
                    wanted -= 1
        return picked

    def rule(self) -> str:
        """How the frames were chosen, in a sentence or three."""
        counted = f"{len(self.frames)} frames"
        apart = f"Frames of the figure are at least {APART_SECONDS:g} s apart."
        if not self.scores:
            return (f"Frames chosen by rule from {counted} (every {FRAME_STEP}th): most, least and median share of "
                    f"attention on which {self.names[0]} and {self.names[1]} differ. {apart}")
        measure = self.measure.upper()
        what = f"{measure} of {self.names[0]}"
        if len(self.names) > 1:
            what += f" minus the best {measure} of {', '.join(self.names[1:])}"
        return (f"Frames chosen by rule from {counted} (every {FRAME_STEP}th with at least {MIN_OBSERVERS} fixations, "
                f"or with a ground truth): {what}, largest, smallest and nearest to the median. {apart}")


def measure(
    source: Source, models: list[Maps], humans: Humans | None, on_frame: Callable[[int], None] | None = None
) -> Comparison:
    """Score every fifth frame. Raises :class:`InputError` where no frame can be compared, or there is too little to."""
    if humans is None and len(models) < 2:
        raise InputError(f"{source.name}: one model without --ground-truth leaves nothing to compare; give either")
    comparison = Comparison([m.name for m in models], missing={m.name: 0 for m in models})
    if humans and humans.outside:
        comparison.problems.append(f"{source.name}: {humans.outside} fixations outside the picture are left out")
    for frame in source.frames():
        if on_frame:
            on_frame(frame.index + 1)
        if frame.index % FRAME_STEP:
            continue
        try:
            truth = humans.on(frame) if humans else None
            if humans and truth is None:
                continue
            maps = {m.name: m.on(frame) for m in models}
        except InputError as error:
            comparison.problems.append(f"{error} (frame {frame.index} is left out)")
            continue
        there = [values for values in maps.values() if values is not None]
        if len(there) < len(maps):
            for name, values in maps.items():
                comparison.missing[name] += values is None
            continue
        comparison.frames.append((frame.index, frame.seconds))
        if truth is not None:
            comparison.scores.append([score(x, *truth) for x in there])
        else:
            comparison.disagreement.append(moved(*there[:2]))
    if not comparison.frames:
        lacking = ", ".join(f"{name} lacks {n}" for name, n in comparison.missing.items() if n)
        raise InputError(f"{source.name}: no frame can be compared ({lacking or 'no ground truth fits it'}); maps are "
                         "numbered by frame, from 0")
    return comparison


def draw(
    source: Source, models: list[Maps], humans: Humans | None, comparison: Comparison, each: int = 1
) -> np.ndarray:
    """The figure: a row per chosen frame; picture, humans, models, with CC and NSS; the rule at its foot. RGB uint8."""
    chosen = comparison.chosen(each)
    indices = {comparison.frames[k][0] for _, k in chosen}
    wanted: dict[int, Frame] = {}
    for frame in source.frames():
        if frame.index in indices:
            wanted[frame.index] = frame
    gains, rows = comparison.gains(), []
    for why, k in chosen:
        frame = wanted[comparison.frames[k][0]]
        if (why, gains[k] > 0) in SIGNED:
            why = SIGNED[why, gains[k] > 0]
        scored = f"{comparison.measure.upper()} {gains[k]:+.2f}"
        unit = scored if comparison.scores else f"{gains[k]:.1%} of attention elsewhere"
        row = [Panel(frame.image, f"frame {frame.index}, {frame.seconds:.2f} s", f"{why}: {unit}")]
        if humans is not None:
            truth = humans.on(frame)
            assert truth is not None
            row.append(Panel(heat(truth[0]), "humans", " "))
        for i, model in enumerate(models):
            saliency = model.on(frame)
            assert saliency is not None
            row.append(Panel(heat(saliency), model.name, str(comparison.scores[k][i]) if humans else ""))
        rows.append(row)
    notes = [comparison.rule()]
    if comparison.scores:
        notes.append("Means over those frames: " + "; ".join(
            f"{name} {mean}" for name, mean in zip(comparison.names, comparison.means(), strict=True)) + ".")
    left_out = [f"{name}: {n} frames without a map" for name, n in comparison.missing.items() if n]
    if left_out:
        notes.append("Left out: " + ", ".join(left_out) + ".")
    return figure(rows, Path(source.name).name, notes)
