"""``diffsal qp-map``: how much each block of a picture matters, as quantiser offsets for video encoders."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int

from diffsal.errors import InputError
from diffsal.files import TextWriter, write_whole
from diffsal.media.source import Source, open_source
from diffsal.outputs.overlay import OVERLAY_SUFFIXES
from diffsal.outputs.panels import Panel, figure, signed_heat, write_figure
from diffsal.outputs.qp_offsets import STRENGTH, OffsetTable, check_settings, whole_offsets
from diffsal.prediction.pipeline import predict

SVT_BLOCK, SVT_LEVELS, QINDEX_PER_QP = 64, 8, 5  # of SVT-AV1's map; 255 steps of AV1 for 51 of H.264
SHOWN, SHOWN_WIDTH = 6, 400  # frames of the picture to look at, and their width


@dataclass(frozen=True)
class QpMap:
    """One frame: its index, its time, its picture, and an offset for every block, rounded to whole QP."""

    index: int
    seconds: float
    image: np.ndarray
    offsets: Int[np.ndarray, "rows columns"]


def qp_maps(
    model: Any,
    video: str | Path | Source,
    *,
    block: int = 16,
    strength: float = STRENGTH,
    **predicting: Any,
) -> Iterator[QpMap]:
    """The offsets of every frame, as they come: negative (more bits) where people look, positive elsewhere.

    ``predicting``: settings of :func:`diffsal.predict`. Raises :class:`InputError` for a camera, a block or a strength
    that cannot be, or what cannot be read.
    """
    source = video if isinstance(video, Source) else open_source(video)
    if source.camera is not None:
        raise InputError(f"{source.name}: a camera has no end; record it first")
    check_settings(block, strength)
    for frame in predict(model, source, **predicting):
        yield QpMap(frame.index, frame.seconds, frame.image, whole_offsets(frame.saliency, block, strength))


def svt_line(frame: int, offsets: Int[np.ndarray, "rows columns"]) -> str:
    """One line of SVT-AV1's ``--roi-map-file``: the frame, then an offset of the quantiser's index per 64×64 block.

    AV1 has eight segments, so at most eight values are different; the ends of the range stay.
    """
    values = offsets.astype(np.float64).ravel()
    low, high = float(values.min()), float(values.max())
    if len(np.unique(values)) > SVT_LEVELS:
        step = (high - low) / (SVT_LEVELS - 1)
        values = low + np.rint((values - low) / step) * step
    return f"{frame} " + " ".join(str(int(v)) for v in np.rint(values * QINDEX_PER_QP))


class CsvFolder:
    """``DIR/NNNNNN.csv`` per frame: a line for each row of blocks. The folder appears with its first file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, frame: QpMap) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        np.savetxt(text, frame.offsets, fmt="%d", delimiter=",")
        write_whole(self.folder / f"{frame.index:06d}.csv", text.getvalue().encode(), flush=False)

    def close(self) -> None:
        """Nothing is left to do."""

    discard = close


class CsvTable(OffsetTable):
    """One ``.csv`` of all frames."""

    def write(self, frame: QpMap) -> None:
        self.add(frame.index, frame.seconds, frame.offsets)


class SvtFile(TextWriter):
    """SVT-AV1's ``--roi-map-file``: a line for each frame whose offsets differ from those of the frame before."""

    def __init__(self, place: Path) -> None:
        super().__init__(place, newline="\n")
        self.count, self.last = 0, ""

    def write(self, frame: QpMap) -> None:
        number, _, values = svt_line(self.count, frame.offsets).partition(" ")
        if values != self.last:
            self.file.write(f"{number} {values}\n")
        self.count, self.last = self.count + 1, values


class Preview:
    """A picture of six frames over their offsets, to look at: light where a block gets more bits."""

    def __init__(self, place: Path, num_frames: int | None, name: str, block: int, strength: float) -> None:
        self.place, self.name, self.block, self.strength = place, name, block, strength
        self.every, self.count = max(1, (num_frames or SHOWN) // SHOWN), 0
        self.panels: list[tuple[Panel, Panel]] = []

    def write(self, frame: QpMap) -> None:
        if self.count % self.every == self.every // 2 and len(self.panels) < SHOWN:
            height = max(1, round(SHOWN_WIDTH * frame.image.shape[0] / frame.image.shape[1]))
            small = cv2.resize(frame.image, (SHOWN_WIDTH, height), interpolation=cv2.INTER_AREA)
            scaled = np.append(-frame.offsets.astype(np.float64), [[self.strength]] * len(frame.offsets), axis=1)
            blocks = signed_heat(scaled)[:, :-1].repeat(self.block, 0).repeat(self.block, 1)
            blocks = blocks[: frame.image.shape[0], : frame.image.shape[1]]
            low, high = int(frame.offsets.min()), int(frame.offsets.max())
            self.panels.append(
                (
                    Panel(small, f"{frame.seconds:.2f} s", " "),
                    Panel(cv2.resize(blocks, (SHOWN_WIDTH, height), interpolation=cv2.INTER_NEAREST), " ",
                          f"QP {low:+d} to {high:+d}"),
                )
            )
        self.count += 1

    def close(self) -> None:
        rows = [[panel for pair in self.panels[i : i + 2] for panel in pair] for i in range(0, len(self.panels), 2)]
        note = f"Offsets of the quantiser by blocks of {self.block} pixels; light: lower QP, more bits."
        write_figure(self.place, figure(rows, self.name, [note]))

    def discard(self) -> None:
        """Nothing is left to do: the picture is written in one go."""


def write_qp_maps(
    model: Any,
    source: Source,
    outputs: list[Path],
    *,
    block: int = 16,
    strength: float = STRENGTH,
    codec: str = "h264",
    crf: float = 23.0,
    preset: str = "medium",
    on_frame: Callable[[int], None] | None = None,
    **predicting: Any,
) -> int:
    """Write the maps by the outputs' endings: none or ``.qp``, a folder of ``NNNNNN.csv``; ``.csv``, one table;
    ``.txt``, SVT-AV1's map (blocks of 64); ``.png`` or ``.jpg``, to look at; ``.mp4``, ``.mkv`` or ``.mov``, the video
    coded with them. Returns how many frames were done.
    """
    from diffsal.decisions.qp_encode import CodedVideo

    check_settings(block, strength)
    writers: list[Any] = []
    coarse: list[bool] = []  # which of them take blocks of 64
    done = 0
    try:
        for place in outputs:
            ending = place.suffix.lower()
            coarse.append(ending == ".txt")
            if ending == ".txt":
                writers.append(SvtFile(place))
            elif ending == ".csv":
                writers.append(CsvTable(place))
            elif ending in (".png", ".jpg"):
                writers.append(Preview(place, source.num_frames, Path(source.name).name, block, strength))
            elif ending in OVERLAY_SUFFIXES:
                writers.append(CodedVideo(place, source, block, codec, crf, preset))
            else:
                writers.append(CsvFolder(place))
        for frame in predict(model, source, **predicting):
            for size in {SVT_BLOCK if c else block for c in coarse}:
                made = QpMap(frame.index, frame.seconds, frame.image, whole_offsets(frame.saliency, size, strength))
                for writer, is_coarse in zip(writers, coarse, strict=True):
                    if (SVT_BLOCK if is_coarse else block) == size:
                        writer.write(made)
            done += 1
            if on_frame:
                on_frame(done)
        for writer in writers:
            writer.close()
    finally:
        for writer in writers:
            writer.discard()
    return done
