"""Shots whose values can be worked out by hand: when the eye arrives, how far it jumps, how much in one place it is."""

import csv
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from diffsal.decisions.shots import Seen, measure_shots, rests
from diffsal.decisions.thumbnail import Candidate, choose, densest_window, find_thumbnails, unfit
from diffsal.errors import InputError
from diffsal.media.source import open_source
from tests.commands import outcome
from tests.movies import write_movie
from tests.standin import StandIn

RATE = 10


def scene(seed, size=(54, 96)):
    noise = np.random.default_rng(seed).integers(0, 200, (6, 10, 3), np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


def cell(row, column):
    grid = np.zeros((54, 96), np.float32)
    grid[row, column] = 1
    return grid


def seen(columns, cut, size=(96, 54)):
    """All attention in one cell of row 26, at these columns; the picture changes at ``cut``."""
    collected = Seen(*size)
    pictures = scene(1), scene(2)
    for k, column in enumerate(columns):
        collected.add(SimpleNamespace(index=k, seconds=k / RATE, image=pictures[k >= cut], saliency=cell(26, column)))
    return collected.close("made.mp4")


def test_arrival_jump_travel_and_centredness_by_hand():
    # 2 s at column 23; after the cut 5 columns a frame for 1 s, then at column 73
    moving = [23 + 5 * k for k in range(10)]
    result = seen([23] * 20 + moving + [73] * 30, cut=20)
    first, second = result.shots
    assert (first.first_index, first.last_index, second.first_index, second.last_index) == (0, 19, 20, 59)
    assert (first.start_seconds, first.end_seconds, second.start_seconds) == (0.0, 2.0, 2.0)
    assert second.end_seconds == pytest.approx(6.0)
    assert first.arrival_seconds == 0 and second.arrival_seconds == pytest.approx(1.0)
    assert first.jump is None and second.jump == pytest.approx(50 / 96)
    assert first.travel == 0 and second.travel == pytest.approx(50 / 96)
    assert (first.settled_x, first.settled_y) == pytest.approx((23.5 / 96, 26.5 / 54))
    assert second.settled_x == pytest.approx(73.5 / 96) and (first.rests, second.rests) == (1, 1)
    assert first.centredness == 0 and second.centredness == pytest.approx(9 / 40)  # columns 28 to 68 are in the middle
    assert first.entropy_bits == 0 and first.spread == pytest.approx(0)
    assert len(result.strip) == 2 and result.resting == [(0, 20), (30, 60)]


def test_even_attention_and_two_places():
    collected = Seen(1920, 1080)
    two = np.zeros((54, 96), np.float32)
    two[26, 23] = two[26, 71] = 1  # 48 columns apart: half a width
    for k, grid in enumerate([np.ones((54, 96), np.float32)] * 10 + [two] * 10):
        collected.add(SimpleNamespace(index=k, seconds=k / RATE, image=scene(1 + k // 10), saliency=grid))
    even, pair = collected.close("made.mp4").shots
    assert even.entropy_bits == pytest.approx(np.log2(54 * 96)) and even.centredness == pytest.approx(0.25)
    assert even.spread == pytest.approx(np.sqrt((1 - 1 / 96**2) / 12 + (9 / 16) ** 2 * (1 - 1 / 54**2) / 12))
    assert pair.entropy_bits == pytest.approx(1) and pair.spread == pytest.approx(0.25)
    assert pair.centredness == pytest.approx(0.5)  # column 71 lies inside the middle half, column 23 outside


def test_rests_end_where_the_eye_goes_and_a_wanderer_has_none():
    seconds = np.arange(40) / 10
    places = np.stack([np.where(seconds < 2, 0.2, 0.5), np.full(40, 0.3)], 1)
    assert rests(seconds, places) == [(0, 20), (20, 40)]
    assert rests(seconds, np.stack([0.03 * np.arange(40), np.zeros(40)], 1)) == []
    assert rests(seconds[:3], places[:3]) == [(0, 3)]  # shorter than a rest, and still in one place


def test_a_wanderer_never_arrives():
    shot = seen([5 * k for k in range(19)], cut=99).shots[0]
    assert shot.arrival_seconds is None and shot.rests == 0 and shot.settled_x == pytest.approx(45.5 / 96)


def test_the_densest_window_is_found_and_its_share_is_exact():
    grid = np.full((54, 96), 0.5 / (54 * 96))
    grid[10:14, 20:24] += 0.5 / 16
    share, (left, top, right, bottom) = densest_window(grid)
    assert share == pytest.approx(0.5 + 0.5 / (54 * 96) * 14 * 24)
    assert left <= 20 / 96 and right >= 24 / 96 and top <= 10 / 54 and bottom >= 14 / 54
    assert (right - left, bottom - top) == pytest.approx((0.25, 14 / 54))


def candidate(seconds, share, sharpness=100.0, brightness=100.0, contrast=50.0):
    return Candidate(round(seconds * 10), seconds, share, 5.0, (0, 0, 1, 1), sharpness, brightness, contrast)


def test_black_blurred_and_cut_frames_are_left_out():
    found = [candidate(k / 10, 0.5) for k in range(20)]
    found[3] = candidate(0.3, 0.9, brightness=5)
    found[5] = candidate(0.5, 0.9, sharpness=40)  # the shot's median is 100
    found[16] = candidate(1.6, 0.9, contrast=3)
    shots = [0] * 10 + [1] * 10
    reasons = unfit(found, shots)
    assert {k: r for k, r in enumerate(reasons) if r} == {
        3: ["black"],
        5: ["blurred"],
        8: ["near a cut"],
        9: ["near a cut"],
        10: ["near a cut"],
        11: ["near a cut"],
        12: ["near a cut"],
        16: ["black"],
    }


def test_every_shot_gives_one_before_any_gives_two():
    shares = [0.9, 0.89, 0.88, 0.5, 0.87, 0.3]
    found = [candidate(4.0 * k, share) for k, share in enumerate(shares)]
    shots = [0, 0, 0, 1, 1, 2]
    chosen = choose(found, shots, [True] * 6, 3)
    assert [(t.rank, t.shot, t.frame.share) for t in chosen] == [(1, 0, 0.9), (2, 1, 0.87), (3, 2, 0.3)]
    assert [t.frame.share for t in choose(found, shots, [True] * 6, 4)] == [0.9, 0.89, 0.87, 0.3]
    assert [t.frame.share for t in choose(found, shots, [False, True, True, True, True, False], 1)] == [0.89]
    only = choose(found, shots, [False] * 6, 1)[0]
    assert only.frame.share == 0.9 and not only.fit
    close = [candidate(k / 10, 0.5) for k in range(100)]  # ten seconds of one shot: a second apart
    times = sorted(t.frame.seconds for t in choose(close, [0] * 100, [True] * 100, 5))
    assert len(times) == 5 and np.diff(times).min() >= 1 - 1e-9


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Two shots of 2 s: over a dark texture a small bright block for 1 s, then two far apart; and a grey scene."""
    images = np.repeat((scene(3, (72, 128)) // 4)[None], 100, 0)
    images[50:] = scene(4, (72, 128)) // 2 + 60
    images[:, ::8] //= 2  # something sharp everywhere
    images[:25, 20:32, 20:32] = 255
    images[25:50, 20:32, 12:18] = images[25:50, 50:62, 100:106] = 255
    monkeypatch.setattr("diffsal.runtime.loading.load", lambda name: StandIn(noise=0.0, sound=False))
    return write_movie(tmp_path / "made.mp4", images=images, num_frames=100)


def test_a_made_video(made):
    model = StandIn(noise=0.0, sound=False)
    found = find_thumbnails(model, made, 2, every=1)
    best, second = found.chosen
    assert found.num_shots == 2 and best.shot == 0 and best.frame.index < 25 and second.shot == 1 and best.fit
    left, top, right, bottom = best.frame.window
    assert left < 26 / 128 < right and top < 26 / 72 < bottom
    shots = measure_shots(model, made, every=1).shots
    assert [s.first_index for s in shots] == [0, 50] and shots[1].spread > shots[0].spread > 0


def test_commands_write_what_they_say(made, tmp_path, capsys):
    folder, video = tmp_path / "t", str(made)

    def run(*arguments: str) -> str:
        code, out, _ = outcome(capsys, *arguments)
        assert code == 0
        return out

    run("thumbnail", video, "-o", str(folder), "--count", "2", "--png")
    listed = json.loads((folder / "thumbnails.json").read_text())
    assert listed["schema"] == "diffsal.thumbnails" and [t["file"] for t in listed["thumbnails"]] == [
        "thumbnail-1.png",
        "thumbnail-2.png",
    ]
    frames = {f.index: f.image for f in open_source(made).frames()}
    best = cv2.imread(str(folder / "thumbnail-1.png"))[..., ::-1]
    assert np.array_equal(best, frames[listed["thumbnails"][0]["index"]])
    assert (folder / "sheet.png").stat().st_size > 1000
    (folder / "mine.txt").write_text("stays")
    run("thumbnail", video, "-o", str(folder), "--count", "1", "--force")
    assert sorted(p.name for p in folder.iterdir()) == [
        "mine.txt",
        "sheet.jpg",
        "sheet.png",
        "thumbnail-1.jpg",
        "thumbnails.json",
    ]
    run("thumbnail", video, "-o", str(tmp_path / "one.png"))
    assert np.array_equal(cv2.imread(str(tmp_path / "one.png"))[..., ::-1], best)
    shown = run("shots", video, *(x for e in ("json", "csv", "png") for x in ("-o", str(tmp_path / f"s.{e}"))))
    assert "shot     start" in shown and "in 2 shots" in shown
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    document = json.loads((tmp_path / "s.json").read_text())
    assert len(rows) == 2 and rows[0]["jump"] == "" and float(rows[1]["jump"]) == document["shots"][1]["jump"]
    assert len(document["frames"]) == 100 and (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["thumbnail", "-o", "there"], "holds files already"),
        (["thumbnail", "-o", "x.png", "--count", "3"], "one file holds one frame"),
        (["thumbnail", "-o", "none/x"], "no such folder"),
        (["thumbnail", "-o", "x.gif"], "a frame is written as one of"),
        (["shots", "-o", "made.mp4"], "is the input itself"),
        (["shots", "-o", "there"], "is a folder"),
        (["shots", "-o", "x.gif"], "must end in one of"),
        (["shots", "-o", "there/old.json"], "exists already"),
    ],
)
def test_one_line_for_what_cannot_be(made, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/old.json").touch()
    code, _, error = outcome(capsys, arguments[0], str(made), *arguments[1:])
    assert code == 1 and error.count("\n") == 1 and words in error


def test_a_count_of_nothing():
    with pytest.raises(InputError, match="at least 1"):
        find_thumbnails(None, SimpleSource(), 0)


def SimpleSource():
    from diffsal.media.source import Source

    return Source("x")
