"""Bits at the same quality where people look: x264 with our QP maps against plain x264.

    python benchmarks/qp_map.py GAZE --out qp_map.json

GAZE is a folder in the gaze layout. Each clip is coded four times plainly and four times with the map, by the same
x264 (preset medium, CRF 23, 28, 33 and 38). Quality is the PSNR of luma with every pixel's squared error weighted by
people's fixation map (sigma 0.025 of the width), on frames on which five or more people fixate. BD-rate: the mean
difference in bits over the qualities that both have, by piecewise cubics; -10 % is a tenth fewer bits. Beside it: the
same for a map of the people's own fixations (as good as a map can be), for a Gaussian in the middle, and for plain
PSNR, which pays for it. It needs scipy and no ffmpeg program.
"""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from gaze_clips import LEAST_FIXATIONS, clips_of, parser_of
from scipy.interpolate import PchipInterpolator

import diffsal
from diffsal.data.databases.gaze import read_clip
from diffsal.data.truth import draw_map
from diffsal.decisions.qp_encode import Regions, encoder_options
from diffsal.media.source import open_source
from diffsal.outputs.qp_offsets import EVEN_PART, STRENGTH, qp_offsets

CLIPS = "BasketballDrive,Cactus,Traffic"  # compact was not trained on them
CRFS = (23, 28, 33, 38)
CENTRE_SIGMA = 0.2  # of the sides
BLOCK = 16


def decoded(video: Path | io.BytesIO) -> list[av.VideoFrame]:
    with av.open(video if isinstance(video, io.BytesIO) else str(video)) as container:
        return [frame.reformat(format="yuv420p") for frame in container.decode(container.streams.video[0])]


def luma(frame: av.VideoFrame) -> np.ndarray:
    return frame.to_ndarray()[: frame.height, : frame.width].astype(np.float32)


def code(frames: list, maps: list | None, crf: float, rate: Fraction) -> tuple[int, list[np.ndarray]]:
    """Bytes of the packets, and luma of what a player shows. ``maps``: int8 offsets per frame."""
    out, regions, size = io.BytesIO(), Regions(BLOCK), 0
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=rate, options=encoder_options("h264", crf, "medium"))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for k, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.pict_type = k, 1 / rate, 0
            for packet in stream.encode(frame if maps is None else regions.mark(frame, maps[k])):
                size += packet.size
                container.mux(packet)
        for packet in stream.encode(None):
            size += packet.size
            container.mux(packet)
    out.seek(0)
    return size, [luma(f) for f in decoded(out)]


def quality(originals: list, shown: list, weights: list) -> tuple[float, float]:
    """Fixation-weighted PSNR over the frames with weights (None: without), and plain PSNR over all."""
    weighted = [float(((a - b) ** 2 * w).sum()) for a, b, w in zip(originals, shown, weights, strict=True)
                if w is not None]
    plain = [float(((a - b) ** 2).mean()) for a, b in zip(originals, shown, strict=True)]
    return 10 * np.log10(255**2 / np.mean(weighted)), 10 * np.log10(255**2 / np.mean(plain))


def bd_rate(sizes: list[int], qualities: list[float], other: list[int], others: list[float]) -> float:
    """How many more bits ``other`` needs than the first at the same quality, a fraction: Bjøntegaard's mean of logs."""
    low, high = max(min(qualities), min(others)), min(max(qualities), max(others))
    integrals = [PchipInterpolator(*zip(*sorted(zip(q, np.log(s), strict=True)), strict=True)).integrate(low, high)
                 for s, q in ((sizes, qualities), (other, others))]
    return float(np.exp((integrals[1] - integrals[0]) / (high - low)) - 1)


def measure(model, video: Path, table: Path, strength: float, even: float, predict=diffsal.predict) -> dict:
    source, clip, frames = open_source(video), read_clip(video, table), decoded(video)
    originals, weights, ours, people = [luma(f) for f in frames], [], [], []
    height, width = originals[0].shape
    y, x = np.mgrid[0:height, 0:width]
    centre = np.exp(-(((x / width - 0.5) / CENTRE_SIGMA) ** 2 + ((y / height - 0.5) / CENTRE_SIGMA) ** 2) / 2)
    for p in predict(model, source):
        places = clip.on_frame(p.seconds)[:, 3:5]
        drawn = draw_map(places, height, width)
        weights.append(drawn / drawn.sum() if len(places) >= LEAST_FIXATIONS and drawn.any() else None)
        people.append(drawn)
        ours.append(cv2.resize(p.saliency, (width, height)))
    rate, curves = Fraction(source.frame_rate).limit_denominator(1001), {}
    for name, maps in (("plain", None), ("ours", ours), ("people", people), ("centre", [centre] * len(frames))):
        offsets = None if maps is None else [
            np.rint(qp_offsets(m.astype(np.float32), BLOCK, strength, even)).astype(np.int8) for m in maps]
        curve = []
        for crf in CRFS:
            size, shown = code(frames, offsets, crf, rate)
            curve.append((size, *quality(originals, shown, weights)))
        curves[name] = curve
    sizes, weighted, plain = map(list, zip(*curves["plain"], strict=True))
    row: dict = {"clip": video.stem, "strength": strength, "even": even, "curves": curves}
    for name in ("ours", "people", "centre"):
        own_sizes, own_weighted, own_plain = map(list, zip(*curves[name], strict=True))
        row[name] = bd_rate(sizes, weighted, own_sizes, own_weighted)
        row[f"{name}_plain"] = bd_rate(sizes, plain, own_sizes, own_plain)
    return row


def main() -> None:
    parser = parser_of(__doc__, "qp_map.json", CLIPS)
    parser.add_argument("--strength", type=float, default=STRENGTH)
    parser.add_argument("--even", type=float, default=EVEN_PART)
    options = parser.parse_args()
    model, rows = diffsal.load(options.weights), []
    for video, table in clips_of(options.gaze, options.clips):
        rows.append(measure(model, video, table, options.strength, options.even))
        print_row(rows[-1])
        options.out.write_text(json.dumps(rows, indent=1))
    print("mean: " + "  ".join(f"{key} {np.mean([r[key] for r in rows]):+.1%}" for key in KEYS))


KEYS = ("ours", "people", "centre", "ours_plain", "people_plain", "centre_plain")


def print_row(row: dict) -> None:
    print(f"{row['clip']:16s} " + "  ".join(f"{key} {row[key]:+.1%}" for key in KEYS), flush=True)


if __name__ == "__main__":
    main()
