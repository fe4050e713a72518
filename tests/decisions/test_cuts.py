"""Shares of two cuts are those worked out by hand; intervals are scipy's, or hold what they say; bad input is told."""

import csv
import json

import av
import cv2
import numpy as np
import pytest
from scipy import stats

from diffsal.decisions.cut_chart import draw_cut_chart, shown_names
from diffsal.decisions.cut_files import as_document, write_cuts
from diffsal.decisions.cuts import CutComparison, check_sizes, compare_cuts
from diffsal.decisions.intervals import block_interval, block_length, sample_interval, student_t
from diffsal.decisions.region_sources import read_regions
from diffsal.decisions.regions import measure_regions
from diffsal.errors import InputError
from diffsal.media.source import open_source
from tests.commands import outcome
from tests.movies import write_movie
from tests.standin import StandIn

HALVES = ["left=0,0,0.5,1", "corner=0.5,0,1,0.5"]


def bright(path, sides, rate=25, size=(48, 64)):
    """A dark video with a bright half: ``sides`` has a letter per frame, l or r."""
    images = np.zeros((len(sides), *size, 3), np.uint8)
    middle = size[1] // 2
    for image, side in zip(images, sides, strict=True):
        image[:, :middle] = 255 * (side == "l")
        image[:, middle:] = 255 * (side == "r")
    return write_movie(path, images=images, num_frames=len(images), frame_rate=rate, size=size)


@pytest.fixture
def cuts(tmp_path):
    """A: two seconds on the left, then two on the right. B: one on the left, two on the right."""
    return bright(tmp_path / "a.mp4", "l" * 50 + "r" * 50), bright(tmp_path / "b.mp4", "l" * 25 + "r" * 50)


def compared(a, b, rois=HALVES, noise=0.0, **settings) -> CutComparison:
    sources = open_source(a), open_source(b)
    regions = [read_regions(rois, [], source) for source in sources]
    return compare_cuts(StandIn(noise=noise, sound=False), *sources, *regions, every=1, **settings)


def test_shares_by_the_clock(cuts):
    result = compared(*cuts)
    left, corner, rest = result.changes()
    assert (left.a, left.b) == (pytest.approx(2 / 3, abs=0.01), pytest.approx(1 / 3, abs=0.01))
    assert (left.whole_a, left.whole_b) == (pytest.approx(0.5, abs=0.01), pytest.approx(1 / 3, abs=0.01))
    assert corner.difference == pytest.approx(1 / 6, abs=0.01) == pytest.approx(rest.difference, abs=0.01)
    assert rest.name == "elsewhere" and left.blocks[0] < left.difference < left.blocks[1]
    assert len(result.pairs) == 75 and result.pairs[30] == (30, 30)
    assert np.mean(result.moved) == pytest.approx(1 / 3, abs=0.01)  # in the second second only, and then all of it
    assert result.notes() == [
        "A lasts 4.00 s, B 3.00 s: the first 3.00 s are compared; --require is asked of all of B"
    ]
    assert result.gained()[0] == pytest.approx(0.75, abs=0.03) and result.lost()[0] == pytest.approx(0.25, abs=0.03)
    assert result.gained()[2] == pytest.approx(1 / 3, abs=0.02)


def test_a_cut_that_goes_on_after_the_other(cuts):
    result = compared(*cuts[::-1])
    assert len(result.pairs) == 75 and len(result.b.index) == 100 and result.common_seconds == pytest.approx(3)


def test_another_frame_rate(cuts, tmp_path):
    quicker = bright(tmp_path / "c.mp4", "l" * 100 + "r" * 100, rate=50)
    result = compared(cuts[0], quicker)
    assert len(result.pairs) == 200 and result.pairs[:4] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert abs(result.change("left").difference) < 0.01 and result.notes() == []


def test_a_cut_and_itself(cuts):
    result = compared(cuts[0], cuts[0], noise=0.3)
    assert [c.difference for c in result.changes()] == [0, 0, 0] and max(result.moved) == 0
    assert result.change("left").interval == (0, 0) and result.gained()[2] == 0


def test_pictures_and_shapes(tmp_path):
    for name, size in (("a", (48, 64)), ("b", (64, 48))):
        image = np.zeros((*size, 3), np.uint8)
        image[:, : size[1] // 2] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    result = compared(tmp_path / "a.png", tmp_path / "b.png")
    assert result.change("left").difference == pytest.approx(0, abs=0.02) and len(result.strip) == 1
    assert result.change("left").interval is None and "another shape" in result.notes()[0]


def test_people_beside(cuts, tmp_path):
    for name, x in (("a", 0.25), ("b", 0.75)):
        rows = [f"{i},0,9,{x},0.2" for i in range(6)]
        (tmp_path / f"{name}.csv").write_text("observer,start_s,duration_s,x,y\n" + "\n".join(rows) + "\n")
    result = compared(*cuts, fixations=(tmp_path / "a.csv", tmp_path / "b.csv"))
    assert (result.people("left").difference, result.people("corner").difference) == (-1, 1)
    assert as_document(result)["regions"][1]["people"]["a"] == 0


def test_samples_give_the_interval_that_separate_runs_give(tmp_path):
    a, b = bright(tmp_path / "a.mp4", "l" * 10), bright(tmp_path / "b.mp4", "lr" * 5)
    result = compared(a, b, noise=0.5, samples=4)
    own = []
    for seed in range(4):
        shares = []
        for video in (a, b):
            source = open_source(video)
            regions = read_regions(HALVES, [], source)
            measured = measure_regions(StandIn(noise=0.5, sound=False), source, regions, every=1, seed=seed)
            shares.append(np.mean(measured.shares["left"]))
        own.append(shares[1] - shares[0])
    change = result.change("left")
    expected = stats.t.interval(0.95, 3, 0, stats.sem(own))
    assert change.interval_from == "samples"
    assert np.array(change.interval) - change.difference == pytest.approx(expected, rel=0.05)


def test_students_t():
    ours = [student_t(k) for k in (1, 2, 4.9, 15, 16, 40, 400)]
    assert ours == pytest.approx(stats.t.ppf(0.975, [1, 2, 4, 15, 16, 40, 400]), rel=0.01)
    values = np.random.default_rng(0).normal(size=12)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert sample_interval(values) == pytest.approx(expected, rel=0.01)
    assert sample_interval(values[:1]) is None and block_interval(values[:7], 0.04) is None


def test_blocks_hold_the_mean_as_often_as_they_say():
    """Attention that keeps its level for 0.3 s (an autoregressive series), 20 s at 25 frames per second."""
    rng, keep, count = np.random.default_rng(0), np.exp(-1 / (25 * 0.3)), 150
    noise, series = rng.normal(size=(count, 700)), np.zeros((count, 700))
    for i in range(1, 700):
        series[:, i] = keep * series[:, i - 1] + noise[:, i]
    found = [block_interval(one[200:], 0.04)[0] for one in series]
    assert 0.87 <= np.mean([low <= 0 <= high for low, high in found]) <= 0.99
    single = [one.std() / np.sqrt(500) * 1.96 for one in series[:, 200:]]  # as if every frame were news: far too narrow
    assert np.mean([abs(one.mean()) <= half for one, half in zip(series[:, 200:], single, strict=True)]) < 0.6
    assert block_interval(series[0], 0.04, seed=3) == block_interval(series[0], 0.04, seed=3)
    assert block_length(noise[0], 0.04) == 50 and block_length(np.repeat([0.0, 1], 200), 0.04) == 100


@pytest.fixture
def run(cuts, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("diffsal.runtime.loading.load", lambda name: StandIn(noise=0.0, sound=False))

    return lambda *arguments: outcome(capfd, "compare", "a.mp4", *arguments)


def test_command(run, tmp_path):
    regions = ("--roi", HALVES[0], "--roi", HALVES[1])
    outputs = [f"c.{e}" for e in ("json", "csv", "png")]
    code, out, err = run("b.mp4", *regions, "--require", "left > 0.2", *(x for o in outputs for x in ("-o", o)))
    assert (code, err) == (0, "") and "left: 6" in out and "points (" in out and "the first 3.00 s" in out
    document = json.loads((tmp_path / "c.json").read_text())
    assert (document["schema"], document["version"], len(document["frames"])) == ("diffsal.cuts", 1, 75)
    share = document["regions"][0]["whole_b"]
    assert document["requirements"] == [{"requirement": "left > 0.2", "share": share, "met": True}]
    assert 0.3 < share < 0.36
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 75 and float(rows[30]["left, A"]) > 0.98 and float(rows[30]["left, B"]) < 0.02
    assert np.mean([float(r["left, B"]) for r in rows]) == pytest.approx(document["regions"][0]["b"], abs=1e-4)
    assert cv2.imread("c.png").shape[1] == 1430
    code, _, err = run("b.mp4", *regions, "--require", "left >= 0.4", "-o", "d.json")
    assert code == 3 and "b.mp4: required left >= 0.4, but it gets 0.34" in err and (tmp_path / "d.json").exists()
    code, out, _ = run("b.mp4", *regions, "--roi-b", "left=0.5,0,1,1", "-o", "e.json")
    assert code == 0 and "left: 65.8% in A, 65.8% in B" in out


def test_one_line_for_what_cannot_be(run, tmp_path):
    bright(tmp_path / "small.mp4", "l" * 8, size=(24, 32))
    cv2.imwrite("mask.png", np.full((48, 64), 255, np.uint8))
    left = ("--roi", HALVES[0])
    for arguments, words in (
        (("none.mp4", *left), "none.mp4"),
        (("b.mp4", "--roi", "a=0,0,99,40"), "outside the picture"),
        (("small.mp4", "--roi", "a=0,0,30,20"), "A is 64x48, B 32x24; give the region as fractions"),
        (("small.mp4", "--track", "a=0,0,30,20"), "A is 64x48, B 32x24; give the region as fractions"),
        (("small.mp4", "--roi", "a=mask.png"), "a mask fits one size"),
        (("b.mp4", *left, "--roi-b", "right=0,0,1,1"), "no --roi right"),
        (("b.mp4", *left, "--require", "right > 0"), "no region right"),
        (("b.mp4", "--roi", "elsewhere=0,0,1,1"), "choose another"),
        (("b.mp4", *left, "-o", "x.gif"), "must end in one of"),
        (("b.mp4", *left, "-o", "b.mp4", "--force"), "is the input itself"),
        (("b.mp4", *left, "--ground-truth", "a.csv"), "two cuts need two"),
    ):
        code, _, err = run(*arguments)
        assert code == 1 and words in err and err.count("\n") == 1, err
    assert run(*left)[0] == 2 and run("b.mp4", "--require", "left > 0")[0] == 2


def test_a_mask_in_pixels_is_no_matter_where_sizes_are_alike(cuts, tmp_path):
    a, b = map(open_source, cuts)
    check_sizes(a, b, list(zip(*(read_regions(["a=3,4,30,20"], [], s) for s in (a, b)), strict=True)))
    with pytest.raises(InputError, match="both need the same"):
        compare_cuts(StandIn(), a, b, read_regions(["a=0,0,1,1"], [], a), read_regions(["b=0,0,1,1"], [], b))


def test_pages(cuts, tmp_path):
    result = compared(*cuts)
    for ending in ("pdf", "html"):
        write_cuts(result, tmp_path / f"c.{ending}")
    assert (tmp_path / "c.pdf").read_bytes()[:4] == b"%PDF"
    page = (tmp_path / "c.html").read_text()
    assert page.count("<tr>") == 4 and "<script" not in page and "a.mp4 and b.mp4" in page
    with av.open(str(cuts[1])) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert as_document(result)["b"]["frames"] == frames == 75


def test_a_picture_that_has_no_room_for_every_region_says_so(cuts):
    names = [f"strip {k}" for k in range(16)]  # columns of four pixels: attention goes from the left eight to the right
    result = compared(*cuts, rois=[f"{name}={4 * k},0,{4 * k + 4},48" for k, name in enumerate(names)])
    shown = shown_names(result)
    change = {name: abs(result.change(name).difference) for name in names}
    assert len(shown) == 12 and shown[-1] == "elsewhere" and shown[:-1] == sorted(shown[:-1], key=names.index)
    assert min(change[n] for n in shown[:-1]) >= max(change[n] for n in names if n not in shown)
    title = draw_cut_chart(result).get_suptitle()
    assert "a.mp4" in title and "b.mp4" in title and "11 of 16 regions" in title
    _, *notes = draw_cut_chart(compared(*cuts)).get_suptitle().split("\n")
    assert len(notes) == 1 and notes[0].startswith("A lasts 4.00 s, B 3.00 s: the first 3.00 s are compared")
