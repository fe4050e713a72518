"""The crop follows what is bright, stands still where nothing moves, keeps its bounds, and its files fit together."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from diffsal.decisions.crop_path import (
    KNOT_SECONDS,
    Face,
    PathSettings,
    face_cost,
    positions,
    shares,
    shot_path,
    spline,
)
from diffsal.decisions.crop_video import read_path, write_crop, write_path
from diffsal.decisions.cut_detection import CutDetector
from diffsal.decisions.exports import keyframes, write_crop_path
from diffsal.decisions.reframe import crop_size, parse_aspect, plan_crop
from diffsal.errors import InputError
from diffsal.media.source import open_source
from tests.commands import outcome
from tests.movies import tone, write_movie
from tests.standin import StandIn


def bumps(centres, bins=96, sigma=0.03):
    x = (np.arange(bins) + 0.5) / bins
    profiles = np.exp(-((x[None] - np.asarray(centres)[:, None]) ** 2) / (2 * sigma**2)).astype(np.float64)
    return profiles / profiles.sum(1, keepdims=True)


def test_a_path_follows_a_moving_bump_within_its_bounds():
    seconds = np.arange(250) / 25
    centres = np.where(seconds < 4, 0.2, np.minimum(0.2 + 0.15 * (seconds - 4), 0.8))
    settings = PathSettings(0.8, max_speed=0.2, max_acceleration=0.3)
    path = shot_path(seconds, bumps(centres), [[]] * 250, 0.3, settings)
    assert np.all((path <= centres) & (centres <= path + 0.3))
    speed = np.diff(path) * 25
    assert np.abs(speed).max() <= 0.2 + 1e-6 and np.abs(np.diff(speed) * 25).max() <= 0.3 + 1e-6
    assert np.ptp(path[:60]) < 1e-9  # still where nothing moves


def test_follow_zero_stands_still_and_trembling_is_not_followed():
    seconds = np.arange(200) / 25
    centres = np.where(np.arange(200) % 10 < 5, 0.45, 0.55)
    for follow in (0.0, 0.5):
        assert np.ptp(shot_path(seconds, bumps(centres), [[]] * 200, 0.3, PathSettings(follow))) < 1e-9


def test_the_static_path_is_the_best_of_all_positions():
    profiles = np.random.default_rng(0).dirichlet(np.full(96, 0.1), 30)
    path = shot_path(np.arange(30) / 25, profiles, [[]] * 30, 0.25, PathSettings(0.0))
    totals = shares(profiles, 0.25).mean(0)
    chosen = int(np.argmin(np.abs(positions(0.25) - path[0])))
    assert totals[chosen] >= totals.max() - 0.02  # frames count by the control points that they are nearest to


def test_long_shots_are_solved_in_pieces_without_a_jump(monkeypatch):
    seconds = np.arange(600) / 10
    centres = 0.5 + 0.3 * np.sin(seconds / 6)
    monkeypatch.setattr("diffsal.decisions.crop_path.MOST_KNOTS", 40)
    path = shot_path(seconds, bumps(centres), [[]] * 600, 0.3, PathSettings(0.9))
    assert np.abs(np.diff(path)).max() <= 0.25 / 10 + 1e-6 and np.ptp(path) > 0.4


def test_faces_are_not_cut():
    face = Face(0.40, 0.60, 0.3)
    cost = face_cost(face, 0.3)
    where = positions(0.3)
    whole = (where <= 0.40) & (where + 0.3 >= 0.60)
    assert cost[whole].max() == 0 and cost[np.abs(where - 0.5) < 0.01].min() == pytest.approx(0.5 * 0.3)
    profiles = bumps([0.65] * 50, sigma=0.02)  # attention at one end of the face
    left = shot_path(np.arange(50) / 25, profiles, [[face]] * 50, 0.3, PathSettings())[0]
    assert left <= 0.40 + 1e-9 and left + 0.3 >= 0.65


def test_a_crop_does_not_flee_from_a_face_that_it_cannot_hold():
    held, other = Face(0.30, 0.40, 0.2), Face(0.58, 0.70, 0.25)  # 0.40 wide together, in a crop of 0.30
    profiles = bumps([0.52] * 50, sigma=0.02)  # people look between them
    path = shot_path(np.arange(50) / 25, profiles, [[held, other]] * 50, 0.3, PathSettings())[0]
    assert path <= 0.47 and path + 0.3 >= 0.57
    cost, where = face_cost(other, 0.3), positions(0.3)
    assert cost[where < 0.2].min() == pytest.approx(0.5 * 0.25) == cost[np.abs(where - 0.35) < 0.01].max()


def test_a_spline_stays_between_its_control_points():
    controls = np.array([0.0, 0.0, 0.1, 0.3, 0.3, 0.2])
    at = np.linspace(0, 5, 501)
    values = spline(controls, at)
    assert values[0] == pytest.approx(0.0) and values[-1] == pytest.approx(0.2)
    assert values.min() >= -1e-12 and values.max() <= 0.3 + 1e-12
    assert np.abs(np.diff(values)).max() / 0.01 <= 0.2 + 1e-9 and KNOT_SECONDS > 0


def test_cuts_are_found_and_flashes_and_motion_are_not():
    rng = np.random.default_rng(1)
    scenes = [cv_noise(rng) for _ in range(3)]
    frames = [np.roll(scene, 2 * i, axis=1) for scene in scenes for i in range(20)]
    frames[10] = np.full_like(frames[10], 255)  # a flash
    detector = CutDetector()
    for frame in frames:
        detector.add(frame)
    assert detector.close() == [20, 40]


def cv_noise(rng):
    return cv2.resize(rng.integers(0, 255, (6, 10, 3), np.uint8), (160, 90), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(("text", "aspect"), [("9:16", Fraction(9, 16)), ("1x1", Fraction(1)), ("0.8", Fraction(4, 5))])
def test_aspects(text, aspect):
    assert parse_aspect(text) == aspect


@pytest.mark.parametrize("text", ["0:16", "9:16:4", "tall", "-1:2", "9:", "1:0"])
def test_aspects_that_cannot_be(text):
    with pytest.raises(InputError, match="expected width:height"):
        parse_aspect(text)


@pytest.fixture
def moving(tmp_path):
    """64×48, dark, a bright bar at the left for 2 s and then, after a cut to blue, at the right; with a tone."""
    images = np.zeros((100, 48, 64, 3), np.uint8)
    images[:50, :, 6:14] = 255
    images[50:] = (0, 0, 60)
    images[50:, :, 50:58] = 255
    return write_movie(tmp_path / "m.mp4", images=images, num_frames=100, sound=tone(4, 16_000))


def test_a_video_is_cropped_with_its_sound_and_times(moving, tmp_path):
    plan = plan_crop(StandIn(noise=0.0, sound=False), moving, "9:16", faces=False, every=1)
    assert (plan.crop_width, plan.crop_height) == (28, 48) and plan.shots == [0, 50] and plan.horizontal
    assert all(x == 0 or x <= 6 for x in plan.left[:50]) and all(x + 28 >= 58 and x <= 50 for x in plan.left[50:])
    assert [m["kind"] for m in plan.moves()] == ["constant", "constant"]
    out = tmp_path / "out.mp4"
    write_crop(plan, moving, out, tmp_path / "preview.mp4")
    frames = list(open_source(out).frames())
    assert frames[0].image.shape == (48, 28, 3) and len(frames) == 100
    assert [f.seconds for f in frames] == pytest.approx([f.seconds for f in open_source(moving).frames()], abs=1e-4)
    assert packets(out) == packets(moving)
    assert frames[20].image.mean() > 60 and frames[80].image.mean() > 60  # the bar is inside
    assert next(open_source(tmp_path / "preview.mp4").frames()).image.shape == (48, 64, 3)


def packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


def test_the_path_survives_its_file_and_keyframes_give_it_back(moving, tmp_path):
    plan = plan_crop(StandIn(noise=0.0, sound=False), moving, "1:1", faces=False, every=1)
    write_path(plan, tmp_path / "p.json")
    again = read_path(tmp_path / "p.json")
    assert (again.left, again.shots, again.aspect) == (plan.left, plan.shots, plan.aspect)
    keys = keyframes(plan)
    assert np.interp(range(100), keys, [plan.left[k] for k in keys]) == pytest.approx(plan.left, abs=0.26)
    for ending in ("csv", "setting", "txt", "coco.json"):
        write_crop_path(plan, tmp_path / f"p.{ending}")
    coco = json.loads((tmp_path / "p.coco.json").read_text())
    assert len(coco["annotations"]) == 100 and coco["annotations"][0]["bbox"][2:] == [48, 48]
    assert (tmp_path / "p.csv").read_text().count("\n") == 101
    keys_text = (tmp_path / "p.txt").read_text()
    assert keys_text.startswith("Adobe After Effects 8.0 Keyframe Data") and "\t0\t32.000" not in keys_text[:20]
    assert f"[0] = {{ {plan.left[0]:.3f}," in (tmp_path / "p.setting").read_text()
    broken = json.loads((tmp_path / "p.json").read_text())
    broken["frames"][3]["left"] = 60
    (tmp_path / "p.json").write_text(json.dumps(broken))
    with pytest.raises(InputError, match="leaves the picture"):
        read_path(tmp_path / "p.json")


def test_one_line_for_what_cannot_be(moving, tmp_path, capsys):
    source = open_source(moving)
    with pytest.raises(InputError, match="nothing to crop"):
        crop_size(source, Fraction(4, 3))
    with pytest.raises(InputError, match="leaves a crop of"):
        crop_size(source, Fraction(1, 40))
    (tmp_path / "there.mp4").touch()
    for arguments in (
        ["--aspect", "4:3"],
        ["-o", str(tmp_path / "there.mp4")],
        ["-o", str(moving), "--force"],
        ["-o", str(tmp_path / "x.gif")],
        ["--path", str(tmp_path / "none.json")],
        ["--max-speed", "0"],
    ):
        code, _, error = outcome(capsys, "reframe", str(moving), *arguments)
        assert code == 1 and error.count("\n") == 1
