"""``diffsal qp-map``: how much each block of a picture matters, as quantiser offsets for video encoders."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int

from diffsal.errors import InputError
from diffsal.files import GrowingFile, write_whole
from diffsal.media.source import Source, open_source
from diffsal.outputs.panels import Panel, figure, signed_heat, write_figure
from diffsal.prediction.pipeline import predict

BLOCKS = (8, 16, 32, 64)  # pixels: 16 is H.264's macroblock, 64 the largest block of H.265 and of SVT-AV1's map
EVEN_PART = 0.25  # of the weight that is spread evenly: attention is not certain
QP_PER_OCTAVE = 3.0  # offset by which distortion that weighs twice as much is worth halving: D grows with 2^(QP / 3)
STRENGTH = 8.0  # largest offset either way
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
        offsets = np.rint(qp_offsets(frame.saliency, block, strength)).astype(np.int8)
        yield QpMap(frame.index, frame.seconds, frame.image, offsets)


def check_settings(block: int, strength: float) -> None:
    """:class:`InputError` for a block or a strength that cannot be."""
    if block not in BLOCKS:
        raise InputError(f"block is {block}, expected one of {', '.join(map(str, BLOCKS))} pixels")
    if not 0 < strength <= 25:
        raise InputError(f"strength is {strength}, expected more than 0 and at most 25 QP")


def qp_offsets(
    saliency: Float[np.ndarray, "h w"], block: int = 16, strength: float = STRENGTH, even: float = EVEN_PART
) -> Float[np.ndarray, "rows columns"]:
    """A QP offset for each block of ``block`` pixels, of those at the edges as much as lies in the picture.

    A block's weight w is its mean attention over that of the whole picture, ``even`` of it spread evenly. Weighted
    distortion is least at a given rate where w · dD/dR is the same everywhere, so the offset is -3 log2 w, at most
    ``strength`` either way. A map that is 0 throughout gives 0.
    """
    height, width = saliency.shape
    rows, columns = -(-height // block), -(-width // block)
    sums = cv2.integral(np.ascontiguousarray(saliency, np.float32), sdepth=cv2.CV_64F)
    down = np.minimum(np.arange(rows + 1) * block, height)
    across = np.minimum(np.arange(columns + 1) * block, width)
    totals = np.diff(np.diff(sums[np.ix_(down, across)], axis=0), axis=1)
    areas = np.diff(down)[:, None] * np.diff(across)[None]
    mean = sums[-1, -1] / (height * width)
    if mean <= 0:
        return np.zeros((rows, columns))
    weights = (1 - even) * (totals / areas) / mean + even
    return np.clip(-QP_PER_OCTAVE * np.log2(weights), -strength, strength)


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


class SvtFile:
    """SVT-AV1's ``--roi-map-file``: a line for each frame whose offsets differ from those of the frame before."""

    def __init__(self, place: Path) -> None:
        self.growing = GrowingFile(place)
        self.file = self.growing.place.open("w", encoding="ascii", newline="\n")
        self.count, self.last = 0, ""

    def write(self, frame: QpMap) -> None:
        number, _, values = svt_line(self.count, frame.offsets).partition(" ")
        if values != self.last:
            self.file.write(f"{number} {values}\n")
        self.count, self.last = self.count + 1, values

    def close(self) -> None:
        self.file.close()
        self.growing.commit()

    def discard(self) -> None:
        self.file.close()
        self.growing.discard()


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
    """Write the maps by the outputs' endings: none, a folder of ``NNNNNN.csv``; ``.txt``, SVT-AV1's map (blocks of
    64); ``.png`` or ``.jpg``, to look at; ``.mp4``, ``.mkv`` or ``.mov``, the video coded with them. Returns how many
    frames were done.
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
            elif ending in (".png", ".jpg"):
                writers.append(Preview(place, source.num_frames, Path(source.name).name, block, strength))
            elif ending:
                writers.append(CodedVideo(place, source, block, codec, crf, preset))
            else:
                writers.append(CsvFolder(place))
        for frame in predict(model, source, **predicting):
            for size in {SVT_BLOCK if c else block for c in coarse}:
                offsets = np.rint(qp_offsets(frame.saliency, size, strength)).astype(np.int8)
                made = QpMap(frame.index, frame.seconds, frame.image, offsets)
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
