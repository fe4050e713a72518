"""Peaks and their captions, read back by FFmpeg; keyframes read as their programs would; boxes by COCO's rules."""

import io
import json
import re
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from diffsal.decisions.crop_path import PathSettings
from diffsal.decisions.exports import after_effects_keys, fusion_setting
from diffsal.decisions.reframe import CropPath
from diffsal.decisions.region_chart import draw_chart
from diffsal.decisions.region_peaks import peaks_srt, region_peaks
from diffsal.decisions.regions import Attended, write_regions


def attended(shares: dict[str, np.ndarray], rate: float = 25.0) -> Attended:
    count = len(next(iter(shares.values())))
    result = Attended("clip.mp4", 640, 360, 0.05, list(range(count)), [k / rate for k in range(count)])
    result.shares = {name: [float(v) for v in values] for name, values in shares.items()}
    result.areas = {name: [0.1] * count for name in shares}
    result.boxes = {name: [(0.0, 0.0, 64.0, 36.0)] * count for name in shares}
    return result


def hills(at: list[tuple[float, float]], seconds: float = 12, width: float = 1) -> np.ndarray:
    """Shares, 25 a second, that rise to a height within ``width`` seconds of each of some times, and fall again."""
    t = np.arange(round(seconds * 25)) / 25
    return np.max([height * np.clip(1 - np.abs(t - when) / width, 0, 1) for when, height in at], axis=0)


def read_srt(path):
    """(start, end, words) by FFmpeg's reader."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.subtitles[0]) if p.size]
        return [
            (float(p.pts * p.time_base), float((p.pts + p.duration) * p.time_base), bytes(p).decode()) for p in packets
        ]


def test_peaks():
    logo = hills([(2, 0.4), (3.5, 0.1), (8, 0.3), (10.5, 0.19)])
    peaks = region_peaks(attended({"logo": logo, "never": 0 * logo}))
    assert [(p.name, round(p.seconds, 2)) for p in peaks] == [("logo", 2.0), ("logo", 8.0)]  # half of .4 is more
    assert peaks[0].share == pytest.approx(0.35, abs=0.01)  # the mean over half a second around 0.4
    assert peaks[0].start == pytest.approx(1.64, abs=0.1) and peaks[0].end == pytest.approx(2.4, abs=0.1)


def test_captions_are_read_by_others(tmp_path):
    result = attended({"logo": hills([(3, 0.4), (9, 0.3)], width=3), "a → b": hills([(3.8, 0.2)], width=3)})
    write_regions(result, tmp_path / "peaks.srt")
    read = read_srt(tmp_path / "peaks.srt")
    assert [words for *_, words in read] == ["logo 38%", "logo 38%\na → b 19%", "a → b 19%", "logo 29%"]
    assert all(end - start >= 0.5 for start, end, _ in read)
    assert all(one[1] <= other[0] + 1e-6 for one, other in pairwise(read))
    assert read[0][0] == pytest.approx(2.2, abs=0.1) and read[-1][0] == pytest.approx(8.2, abs=0.1)
    assert re.match(r"1\n00:00:02,\d{3} --> 00:00:02,\d{3}\nlogo 38%\n\n2\n", peaks_srt(result))


def test_a_share_that_never_changes_is_one_caption(tmp_path):
    write_regions(attended({"all": np.full(100, 0.5)}), tmp_path / "p.srt")
    assert read_srt(tmp_path / "p.srt") == [(0, pytest.approx(4.0), "all 50%")]
    assert peaks_srt(attended({"none": np.zeros(50)})) == ""


def test_coco_boxes_hold_together(tmp_path):
    result = attended({"logo": hills([(2, 0.4)], 4), "gone": hills([(2, 0.4)], 4)})
    result.boxes["gone"][10:] = [None] * 90
    write_regions(result, tmp_path / "r.coco.json")
    coco = json.loads((tmp_path / "r.coco.json").read_text())
    images, names = {i["id"]: i for i in coco["images"]}, {c["id"]: c["name"] for c in coco["categories"]}
    assert len(images) == 100 and len({a["id"] for a in coco["annotations"]}) == len(coco["annotations"]) == 110
    for annotation in coco["annotations"]:
        image, (x, y, w, h) = images[annotation["image_id"]], annotation["bbox"]
        assert 0 <= x < x + w <= image["width"] and 0 <= y < y + h <= image["height"]
        assert names[annotation["category_id"]] in result.shares and annotation["area"] == w * h
    assert coco["annotations"][50]["score"] == pytest.approx(result.shares["logo"][50], abs=1e-5)


@pytest.fixture
def pan():
    """A crop of 200x360 that stands for a second, pans 100 pixels in the next, then cuts and stands at 300."""
    left = [50.0] * 25 + [50 + 4 * k for k in range(25)] + [300.0] * 25
    return path_of(left)


def path_of(left: list[float]) -> CropPath:
    count = len(left)
    return CropPath(
        source="clip.mp4",
        width=640,
        height=360,
        aspect=Fraction(5, 9),
        sample_aspect_ratio=Fraction(1),
        crop_width=200,
        crop_height=360,
        frame_rate=25.0,
        settings=PathSettings(),
        index=list(range(count)),
        seconds=[k / 25 for k in range(count)],
        left=left,
        top=[0.0] * count,
        attention=[0.5] * count,
        faces=[[] for _ in range(count)],
        shots=[0, 50],
    )


def test_after_effects_keys_are_the_path(pan):
    lines = after_effects_keys(pan).split("\n")
    assert lines[0] == "Adobe After Effects 8.0 Keyframe Data" and "End of Keyframe Data" in lines
    first = lines.index("Transform\tPosition") + 2
    keys = [[float(v) for v in line.split("\t")[1:5]] for line in lines[first : lines.index("", first)]]
    frames, xs, ys, zs = map(list, zip(*keys, strict=True))
    # The layer's middle stands at x - left: where the picture's middle is, seen from the crop's left edge
    assert np.interp(range(75), frames, xs) == pytest.approx([320 - x for x in pan.left], abs=0.3)
    assert set(ys) == {180.0} and set(zs) == {0.0} and {49.0, 50.0} <= set(frames)


def test_fusion_keys_are_the_path(pan):
    text = fusion_setting(pan)
    assert text.count("{") == text.count("}") and "XSize = Input { Value = 200, }" in text
    keys = [(int(a), float(b)) for a, b in re.findall(r"\[(\d+)\] = \{ ([\d.]+), Flags", text)]
    frames, xs = zip(*keys, strict=True)
    assert np.interp(range(75), frames, xs) == pytest.approx(pan.left, abs=0.3)
    assert "YOffset = Input { Value = 0, }" in text


def test_the_legend_leaves_the_lines_free():
    """Many regions with long names: the legend stands outside the axes, with every name once, people and threshold."""
    shares = {f"the {k}th of many regions, with a name that goes on and on": hills([(k, 0.4)]) for k in range(1, 12)}
    result = attended(shares)
    result.people = {name: list(values / 2) for name, values in shares.items()}
    figure = draw_chart(result)
    figure.savefig(io.BytesIO(), dpi=100)
    (legend,), lines = figure.legends, figure.axes[-1]
    box = legend.get_window_extent()
    assert not box.overlaps(lines.get_window_extent())
    assert figure.bbox.contains(*box.min) and figure.bbox.contains(*box.max)
    assert len(legend.get_texts()) == 11 + 2 and lines.get_window_extent().width > 500
    strokes = {(line.get_color(), str(line.get_linestyle())) for line in lines.get_lines()[:22:2]}
    assert len(strokes) == 11  # no two regions look alike
