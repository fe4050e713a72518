"""Offsets of the quantiser by hand, the files that encoders read, a coded video that is better where people look."""

import av
import cv2
import numpy as np
import pytest

from diffsal.decisions.qp_encode import rectangles
from diffsal.decisions.qp_map import svt_line
from diffsal.media.source import open_source
from diffsal.outputs.qp_offsets import qp_offsets
from tests.commands import outcome
from tests.movies import write_movie
from tests.standin import StandIn


def test_offsets_by_hand():
    saliency = np.zeros((32, 64), np.float32)
    saliency[:16, :16] = 1  # all attention in one of eight blocks: weight .75 * 8 + .25 = 6.25, elsewhere .25
    offsets = qp_offsets(saliency, 16, 25, even=0.25)
    assert offsets.shape == (2, 4) and offsets[0, 0] == pytest.approx(-3 * np.log2(6.25))
    assert np.delete(offsets.ravel(), 0) == pytest.approx(6.0)
    assert qp_offsets(saliency, 16, 4).min() == -4 and qp_offsets(saliency, 16, 4).max() == 4
    assert not qp_offsets(np.zeros((32, 64), np.float32)).any() and not qp_offsets(np.ones((32, 64), np.float32)).any()


def test_blocks_at_the_edges_count_as_much_as_lies_in_the_picture():
    offsets = qp_offsets(np.ones((20, 70), np.float32), 16)
    assert offsets.shape == (2, 5) and np.abs(offsets).max() < 1e-9


def test_svt_lines_hold_every_block_and_at_most_eight_values():
    offsets = np.arange(-8, 7).reshape(3, 5)
    number, *values = svt_line(7, offsets).split()
    values = [int(v) for v in values]
    assert number == "7" and len(values) == 15 and len(set(values)) <= 8
    assert min(values) == -40 and max(values) == 30 and np.abs(np.array(values) / 5 - offsets.ravel()).max() <= 1.1
    assert svt_line(0, np.array([[-4, 2]])) == "0 -20 10"


def test_rectangles_cover_each_block_once():
    offsets = np.random.default_rng(0).integers(-2, 3, (9, 14))
    offsets[3:6, 4:9] = -2
    again = np.zeros_like(offsets)
    for left, top, width, height, offset in rectangles(offsets):
        assert not again[top : top + height, left : left + width].any()
        again[top : top + height, left : left + width] = offset
    assert np.array_equal(again, offsets)
    assert rectangles(np.full((4, 6), 3)) == [(0, 0, 6, 4, 3)] and rectangles(np.zeros((4, 6), int)) == []


@pytest.fixture
def made(tmp_path, monkeypatch):
    """128×64, 12 frames of moving noise, dark at the left and bright at the right, where the stand-in looks."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 50, (12, 64, 128, 3), np.uint8)
    noise[:, :, 64:] += 200
    monkeypatch.setattr("diffsal.runtime.loading.load", lambda name: StandIn(noise=0.0, sound=False))
    return write_movie(tmp_path / "made.mp4", images=noise, num_frames=12, size=(64, 128), options={"crf": "5"})


@pytest.fixture
def run(capsys):
    return lambda *arguments: outcome(capsys, *arguments)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_the_coded_video_is_better_where_people_look(made, run, tmp_path, codec):
    coded = tmp_path / "coded.mkv"
    assert run("qp-map", str(made), "-o", str(coded), "--crf", "18", "--preset", "ultrafast", "--codec", codec)[0] == 0
    with av.open(str(coded)) as container:
        assert container.streams.video[0].codec_context.name == {"h264": "h264", "h265": "hevc"}[codec]
    pairs = list(zip(open_source(made).frames(), open_source(coded).frames(), strict=True))
    errors = np.mean([(a.image.astype(float) - b.image) ** 2 for a, b in pairs], axis=(0, 3))
    assert [b.seconds for _, b in pairs] == pytest.approx([a.seconds for a, _ in pairs], abs=1e-3)
    assert errors[:, 80:].mean() < 0.6 * errors[:, :48].mean()


def test_files_for_encoders(made, run, tmp_path):
    folder, svt, picture = tmp_path / "qp", tmp_path / "roi.txt", tmp_path / "look.png"
    outputs = [x for place in (folder, svt, picture) for x in ("-o", str(place))]
    assert run("qp-map", str(made), *outputs, "--block", "32", "--strength", "5")[0] == 0
    assert sorted(p.name for p in folder.iterdir()) == [f"{i:06d}.csv" for i in range(12)]
    offsets = np.loadtxt(folder / "000003.csv", delimiter=",", dtype=int)
    assert offsets.shape == (2, 4) and offsets[:, 0].tolist() == [4, 4] and (offsets[:, 2:] < 0).all()
    lines = svt.read_text().splitlines()
    assert all(len(line.split()) == 3 for line in lines) and lines[0].startswith("0 ")  # one row of two blocks
    assert int(lines[0].split()[1]) > 0 > int(lines[0].split()[2])
    assert cv2.imread(str(picture)).shape[1] > 400


def test_one_table_by_both_commands_and_a_folder_by_default(made, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("diffsal.runtime.loading.load_engine", lambda *_: StandIn(noise=0.0, sound=False))
    assert run("qp-map", str(made))[0] == 0 and run("qp-map", str(made), "-o", "a.csv")[0] == 0
    assert run("predict", str(made), "--only-maps", "--qp-map", "b.csv")[0] == 0
    folder = made.with_suffix(".qp")
    names, *rows = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    assert names == ["frame", "seconds", "row", *(f"block{k}" for k in range(8))] and len(rows) == 12 * 4
    for frame in range(12):
        alone = [line.split(",") for line in (folder / f"{frame:06d}.csv").read_text().splitlines()]
        mine = [row for row in rows if row[0] == str(frame)]
        assert [row[3:] for row in mine] == alone and [row[2] for row in mine] == list("0123")
        assert {float(row[1]) for row in mine} == {frame / 25}
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--block", "12"], "expected one of 8, 16, 32, 64"),
        (["--strength", "0"], "expected more than 0"),
        (["-o", "x.mp4", "--codec", "av2"], "expected one of h264, h265"),
        (["-o", "x.mp4", "--preset", "swift"], "preset is swift, expected one of ultrafast"),
        (["-o", "x.gif"], "must end in one of"),
        (["-o", "none/qp"], "no such folder"),
    ],
)
def test_one_line_for_what_cannot_be(made, run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, error = run("qp-map", str(made), *arguments)
    assert code == 1 and error.count("\n") == 1 and words in error
    assert not list(tmp_path.glob("x.*"))
