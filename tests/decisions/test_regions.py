"""Shares, times and gaps are those worked out by hand; regions move as they are told; bad ones are refused."""

import json

import cv2
import numpy as np
import pytest

from diffsal.decisions.region_chart import chart_html, draw_chart
from diffsal.decisions.region_sources import read_regions, read_roi
from diffsal.decisions.regions import Attended, as_document, measure_regions, write_regions
from diffsal.decisions.requirements import read_requirement
from diffsal.errors import InputError
from diffsal.media.source import Source, open_source
from tests.commands import outcome
from tests.movies import write_movie
from tests.standin import StandIn


@pytest.fixture
def halves(tmp_path):
    """Two seconds bright on the left, then two bright on the right: 64×48, 25 frames per second."""
    images = np.zeros((100, 48, 64, 3), np.uint8)
    images[:50, :, :32] = 255
    images[50:, :, 32:] = 255
    return write_movie(tmp_path / "h.mp4", images=images, num_frames=100)


def measured(video, rois, tracks=(), **settings):
    source = open_source(video)
    return measure_regions(
        StandIn(noise=0.0, sound=False), source, read_regions(rois, tracks, source), every=1, **settings
    )


def test_shares_over_time(halves, tmp_path):
    result = measured(halves, ["left=0,0,0.5,1", "right=32,0,64,48"], threshold=0.5)
    left, right = result.measures()
    assert (left.first_seconds, right.first_seconds) == (0.0, pytest.approx(2.0))
    assert left.attended_seconds == pytest.approx(2.0, abs=0.01) and right.longest_gap_seconds == pytest.approx(
        2, abs=0.01
    )
    assert left.area == right.area == 0.5 and left.mean + right.mean == pytest.approx(1, abs=1e-4)
    assert result.cuts == [50] and len(result.strip) == 8
    document = as_document(result)
    assert document["frames"][0]["shares"]["left"] > 0.9 and document["cuts"] == [50]
    for ending in ("json", "csv", "coco.json", "png", "pdf", "html"):
        write_regions(result, tmp_path / f"r.{ending}")
    assert cv2.imread(str(tmp_path / "r.png")).shape[1] > 800
    assert (tmp_path / "r.pdf").read_bytes()[:4] == b"%PDF"
    assert len(json.loads((tmp_path / "r.coco.json").read_text())["annotations"]) == 200
    chart = draw_chart(result)
    assert chart.get_suptitle() == "h.mp4"
    boxes = [[p.get_bbox().extents for p in axes.patches] for axes in chart.axes[:8]]  # 240 pixels wide, centres whole
    assert np.allclose(boxes, [[[-0.5, -0.5, 119.5, 179.5], [119.5, -0.5, 239.5, 179.5]]] * 8)
    assert "<figure>" in chart_html(result) and "<script" not in chart_html(result)


def test_a_region_that_moves_with_what_is_bright(halves, tmp_path):
    table = tmp_path / "b.csv"
    table.write_text(
        "seconds,left,top,right,bottom\n0,0,0,32,48\n1.98,0,0,32,48\n2.0,32,0,64,48\n3,32,0,64,48\n3.5,,,,\n"
    )
    result = measured(halves, [f"moving={table}"])
    shares = np.array(result.shares["moving"])
    assert np.nanmin(shares) > 0.9 and np.isnan(shares[-5:]).all() and not np.isnan(shares[60])


def test_boxes_are_interpolated(halves, tmp_path):
    (tmp_path / "b.csv").write_text("frame,left,top,right,bottom\n0,0,0,0.2,1\n50,0.5,0,0.7,1\n")
    source = open_source(halves)
    region = read_regions([f"b={tmp_path / 'b.csv'}"], [], source)[0]
    boxes = [region.box(frame) for frame in source.frames()]
    assert boxes[25][0] == pytest.approx(16) and boxes[50][2] == pytest.approx(44.8) and boxes[51] is None


def test_masks_per_frame_and_people(halves, tmp_path):
    (tmp_path / "m").mkdir()
    for i in range(100):
        mask = np.zeros((48, 64), np.uint8)
        mask[:, :32] = 255 * (i < 50)
        mask[:, 32:] = 255 * (i >= 50)
        cv2.imwrite(str(tmp_path / f"m/{i:06d}.png"), mask)
    rows = [f"{i},0,2,0.25,0.5\n{i},2,2,0.2,0.5" for i in range(6)]  # they stay on the left
    (tmp_path / "g.csv").write_text("observer,start_s,duration_s,x,y\n" + "\n".join(rows) + "\n")
    result = measured(halves, [f"bright={tmp_path / 'm'}", "left=0,0,0.5,1"], fixations=tmp_path / "g.csv")
    assert min(result.shares["bright"]) > 0.9
    people = {m.name: m.mean for m in result.measures(people=True)}
    assert people == {"bright": pytest.approx(0.5), "left": pytest.approx(1.0)}
    assert result.agreement()["left"][0] == pytest.approx(0.5, abs=0.05)


def moving_patch(num_frames: int, shown: int) -> np.ndarray:
    """A patch that moves 3 pixels to the right per frame, and is gone after ``shown``."""
    rng = np.random.default_rng(0)
    patch = cv2.resize(rng.integers(60, 255, (6, 6, 3), np.uint8), (24, 24), interpolation=cv2.INTER_NEAREST)
    images = np.full((num_frames, 96, 160, 3), 20, np.uint8)
    for i in range(shown):
        images[i, 30:54, 20 + 3 * i : 44 + 3 * i] = patch
    return images


def tracked(video) -> list:
    source = open_source(video)
    region = read_regions([], ["p=20,30,44,54"], source)[0]
    return [region.box(frame) for frame in source.frames()]


def test_a_track_follows(tmp_path):
    video = write_movie(tmp_path / "t.mp4", images=moving_patch(30, 30), num_frames=30, size=(96, 160))
    boxes = tracked(video)
    expected = [(20 + 3 * i, 30, 44 + 3 * i, 54) for i in range(30)]
    np.testing.assert_allclose(boxes, expected, atol=2)
    assert tracked(video) == boxes  # the same video gives the same boxes


def test_a_track_that_is_lost_stays_away(tmp_path):
    images = moving_patch(30, 15)
    images[15:] = np.random.default_rng(1).integers(0, 255, images[15:].shape, np.uint8)
    boxes = tracked(write_movie(tmp_path / "t.mp4", images=images, num_frames=30, size=(96, 160)))
    assert boxes[14] is not None and boxes[16:] == [None] * 14


def test_a_track_that_is_lost_is_told(tmp_path, monkeypatch, capsys):
    images = moving_patch(20, 10)
    images[10:] = np.random.default_rng(1).integers(0, 255, images[10:].shape, np.uint8)
    video = write_movie(tmp_path / "t.mp4", images=images, num_frames=20, size=(96, 160))
    monkeypatch.setattr("diffsal.runtime.loading.load", lambda name: StandIn(noise=0.0, sound=False))
    code, out, _ = outcome(
        capsys, "regions", str(video), "--track", "p=20,30,44,54", "--track", "late=20,30,44,54@7")
    assert code == 0 and "p was lost at 0.40 s" in out
    assert "t.mp4: ends before 7.00 s, so late is never there" in out and "p is never there" not in out


def test_bad_regions(halves, tmp_path):
    source = open_source(halves)
    cv2.imwrite(str(tmp_path / "small.png"), np.full((10, 10), 255, np.uint8))
    (tmp_path / "off.csv").write_text("seconds,left,top,right,bottom\n0,100,100,200,200\n")
    (tmp_path / "back.csv").write_text("seconds,left,top,right,bottom\n1,0,0,9,9\n0,0,0,9,9\n")
    for roi, words in (
        ("a=0,0,100,40", "outside the picture"),
        ("a=0.5,0,0.2,1", "left < right"),
        ("a", "expected NAME"),
        ("a=none.png", "no such file"),
        ("a=none.csv", "none.csv: no such file; check the name"),
        ("a=1.1,0.1,1.4,0.4", "smaller than a pixel"),
        (f"a={tmp_path / 'off.csv'}", "outside the picture"),
        (f"a={tmp_path / 'back.csv'}", "increase"),
    ):
        with pytest.raises(InputError, match=words):
            read_regions([roi], [], source)
    with pytest.raises(InputError, match="is 10x10, the picture 64x48"):
        measured(halves, [f"a={tmp_path / 'small.png'}"])
    with pytest.raises(InputError, match="two regions"):
        read_regions(["a=0,0,1,1"], ["a=0,0,1,1"], source)


def test_requirements(capsys, halves):
    requirement = read_requirement("logo >= 0.05", ["logo"])
    assert requirement.failure({"logo": 0.06}) is None and "gets 0.0400" in requirement.failure({"logo": 0.04})
    for text in ("logo", "logo >= many", "other > 0.1"):
        with pytest.raises(InputError, match="--require"):
            read_requirement(text, ["logo"])
    for arguments in (["--roi", "logo=0,0,9,9,9"], ["--roi", "a=0,0,1,1", "--require", "b > 1"], []):
        code, _, error = outcome(capsys, "regions", str(halves), *arguments)
        assert code == 1 and error.count("\n") == 1


def test_without_variation_there_is_no_correlation():
    result = Attended(
        "x", 4, 4, 0.1, [0, 1, 2], [0.0, 0.1, 0.2], {"a": [0.5] * 3}, {"a": [0.1] * 3}, {}, {"a": [0.4] * 3}
    )
    difference, correlation = result.agreement()["a"]
    assert difference == pytest.approx(0.1) and np.isnan(correlation)


def test_tables_of_boxes_as_spreadsheets_write_them_and_masks_with_numbers_in_their_names(tmp_path):
    source = Source("clip", width=64, height=48)
    rows = "Seconds\tLeft\tTop\tRight\tBottom\r\n0\t0,25\t0\t0,5\t1\r\n1,5\t\t\t\t\r\n"
    (tmp_path / "boxes.TSV").write_bytes(rows.encode("utf-16"))
    boxes = read_roi(f"a={tmp_path / 'boxes.TSV'}", source)
    assert boxes.seconds.tolist() == [0, 1.5] and boxes.boxes[0].tolist() == [16, 0, 32, 48]
    assert np.isnan(boxes.boxes[1]).all()
    (tmp_path / "m").mkdir()
    for number in (5, 12):
        cv2.imwrite(str(tmp_path / f"m/mask2_{number:06d}.png"), np.ones((48, 64), np.uint8))
    assert sorted(read_roi(f"a={tmp_path / 'm'}", source).pictures) == [5, 12]
