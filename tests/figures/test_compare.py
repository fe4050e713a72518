"""The comparison's frames come from its rule and its scores from the maps; what is missing is told."""

import cv2
import numpy as np
import pytest

from diffsal.errors import InputError
from diffsal.figures.compare import Comparison, Humans, Maps, Score, measure
from diffsal.media.source import open_source
from tests.commands import outcome
from tests.movies import write_movie

HEIGHT, WIDTH, FRAMES = 48, 64, 41  # at 10 frames a second; every fifth counts: 0, 5 … 40


def blob(x, y, sigma=4.0):
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))


def write_maps(folder, centres, first=0):
    folder.mkdir(parents=True)
    for i, (x, y) in enumerate(centres):
        cv2.imwrite(str(folder / f"{i + first:06d}.png"), np.rint(blob(x, y) * 65_535).astype(np.uint16))
    return folder


@pytest.fixture
def clip(tmp_path):
    """Six people look at (20, 24) all the time; ``good`` follows them but for the end, ``bad`` looks elsewhere."""
    write_movie(tmp_path / "a.mp4", num_frames=FRAMES, frame_rate=10, size=(HEIGHT, WIDTH))
    rows = [f"{i},0,10,{(20.5 + i % 3) / WIDTH},{24.5 / HEIGHT}" for i in range(6)]
    (tmp_path / "a.csv").write_text("observer,start_s,duration_s,x,y\n" + "\n".join(rows) + "\n")
    write_maps(tmp_path / "good", [(20, 24)] * 20 + [(24, 24)] * 20 + [(45, 10)])
    write_maps(tmp_path / "bad", [(30, 24)] * FRAMES)
    return tmp_path


def test_scores_are_the_metrics_own(clip):
    models = [Maps.read(name, clip / name) for name in ("good", "bad")]
    result = measure(open_source(clip / "a.mp4"), models, Humans.read(clip / "a.csv"))
    assert [i for i, _ in result.frames] == list(range(0, 41, 5)) and result.measure == "nss"
    saliency = cv2.imread(str(clip / "bad/000005.png"), cv2.IMREAD_UNCHANGED) / 65_535
    fixated = [24] * 3, [20, 21, 22]
    truth = np.zeros((HEIGHT, WIDTH))
    truth[fixated] = 2.0
    truth = cv2.GaussianBlur(truth, (0, 0), 0.025 * WIDTH)
    score = result.scores[1][1]
    assert score.cc == pytest.approx(np.corrcoef(saliency.ravel(), truth.ravel())[0, 1], abs=1e-5)
    assert score.nss == pytest.approx(((saliency - saliency.mean()) / saliency.std(ddof=1))[fixated].mean(), abs=1e-5)
    gains = result.gains()
    assert gains[-1] < 0 < gains[0] and np.argmax(gains) == 0
    assert [(why, result.frames[k][0]) for why, k in result.chosen()] == [
        ("largest gain", 0), ("largest loss", 40), ("typical", 20)]


def test_the_rule_keeps_frames_apart_and_takes_the_nearest_to_the_median():
    frames = [(i, i / 2) for i in range(9)]  # half a second apart
    gains = [5, 4, 3, -9, -8, 0, 1, 0.5, 0.4]
    result = Comparison(["a", "b"], frames, [[Score(0, g), Score(0, 0)] for g in gains])
    assert [k for _, k in result.chosen()] == [0, 3, 7]  # the median is 0.5
    assert [k for _, k in result.chosen(2)] == [0, 2, 4, 8, 6]  # no second typical one is far enough from the others
    assert "minus the best NSS of b" in result.rule()


def test_ground_truth_in_folders_numbered_from_one(clip):
    write_maps(clip / "0001/maps", [(20, 24)] * FRAMES, first=1)
    models = [Maps.read("good", clip / "good")]
    by_maps = measure(open_source(clip / "a.mp4"), models, Humans.read(clip / "0001"))
    assert by_maps.measure == "cc" and by_maps.scores[0][0].cc == pytest.approx(1, abs=1e-6)
    assert {why for why, _ in by_maps.chosen()} == {"best", "worst", "typical"}
    (clip / "0001/fixation").mkdir()
    for i in range(1, FRAMES + 1):
        fixated = np.zeros((HEIGHT, WIDTH), np.uint8)
        fixated[24, 20] = 255
        cv2.imwrite(str(clip / f"0001/fixation/{i:04d}.png"), fixated)
    both = measure(open_source(clip / "a.mp4"), models, Humans.read(clip / "0001"))
    assert both.measure == "nss" and both.scores[0][0].nss > 3 > 0 > both.scores[-1][0].nss


def test_without_humans_the_frames_are_where_the_models_differ(clip):
    models = [Maps.read(name, clip / name) for name in ("good", "bad")]
    result = measure(open_source(clip / "a.mp4"), models, None)
    assert result.gains().max() > 0.95 and "differ" in result.rule()
    with pytest.raises(InputError, match="nothing to compare"):
        measure(open_source(clip / "a.mp4"), models[:1], None)


@pytest.fixture
def run(clip, monkeypatch, capfd):
    monkeypatch.chdir(clip)

    return lambda *arguments: outcome(capfd, "compare", "a.mp4", *arguments)


def test_command(run, clip):
    code, out, err = run("--maps", "good=good", "bad=bad", "--ground-truth", "a.csv")
    assert code == 0, err
    assert (clip / "a.saliency.compared.pdf").read_bytes().startswith(b"%PDF") and "good: CC" in out
    image = cv2.imread("a.saliency.compared.png")
    assert image.shape[1] == 4 * 408 + 8 and image.shape[0] > 3 * 300
    assert run("--maps", "good=good", "bad=bad")[0] == 1  # the files are there already
    assert run("--maps", "good", "-o", "b.png")[0] == 2
    assert run("--maps", "good=good", "good=bad", "-o", "b.png")[0] == 2
    for arguments, words in ((("good=nowhere",), "no such folder"), (("good=good", "-o", "b.gif"), "rename it")):
        code, _, err = run("-o", "b.png", "--maps", *arguments, "--ground-truth", "a.csv")
        assert code == 1 and words in err and len(err.splitlines()) == 1


def test_missing_and_damaged_maps_are_told_and_the_rest_is_done(run, clip):
    (clip / "bad/000005.png").unlink()
    (clip / "bad/000010.png").write_bytes(b"no picture")
    code, out, err = run("--maps", "good=good", "bad=bad", "--ground-truth", "a.csv", "-o", "b.png")
    assert code == 1 and (clip / "b.png").exists() and "7 frames compared" in out
    assert "bad has no map for 1" in err and "000010.png" in err


def spread_of(first, folder, ending, count=11):
    """Six fixated pixels for each frame, as a database keeps them."""
    from scipy.io import savemat

    for i in range(count):
        fixated = np.zeros((HEIGHT, WIDTH), np.uint8)
        fixated[24, 18:24] = 1
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ending.format(i + first)
        if path.suffix == ".mat":
            savemat(path, {"eyeMap": fixated})
        else:
            cv2.imwrite(str(path), fixated * 255)


@pytest.mark.parametrize(("name", "first", "pictures", "fixations"), [
    ("actioncliptest00001_1", 23, "images/actioncliptest00001_1_{:05d}.png",
     "fixation/actioncliptest00001_1_{:05d}.png"),
    ("actioncliptest00001_2", 47, "images/actioncliptest00001_{:05d}.png", "fixation/actioncliptest00001_{:05d}.png"),
    ("Diving-Side-001", 1, "images/Diving-Side_001_{:03d}.png", "fixation/Diving-Side_001_{:03d}.png"),
    ("clip_1", 1, "images/img_{:05d}.jpg", "fixMap_{:05d}.mat"),
    ("0601", 1, "images/{:04d}.png", "fixation/maps/{:04d}.mat"),
])
@pytest.mark.parametrize("own", ["{frame:06d}.png", "{number:05d}.png", "pred_3_{number:04d}.png"])
def test_every_database_s_names_find_their_frames(tmp_path, name, first, pictures, fixations, own):
    clip = tmp_path / name
    for i in range(11):
        x = 20 if i < 6 else 40  # people look at 20 all the time: the second half is wrong
        for place, image in (
            (clip / pictures.format(i + first), np.full((HEIGHT, WIDTH, 3), 90, np.uint8)),
            (clip / "maps" / (pictures.split("/")[1].format(i + first)), np.rint(255 * blob(20, 24)).astype(np.uint8)),
            (tmp_path / "ours" / own.format(frame=i, number=i + first), np.rint(255 * blob(x, 24)).astype(np.uint8)),
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place), image)
    path = clip / fixations
    spread_of(first, path.parent, path.name)
    source = open_source(clip / "images")
    found = measure(source, [Maps.read("ours", tmp_path / "ours", source)], Humans.read(clip, source))
    assert [i for i, _ in found.frames] == [0, 5, 10] and found.measure == "nss" and found.problems == []
    assert found.scores[0][0].cc > 0.99 and found.scores[1][0].cc > 0.99 and found.scores[2][0].cc < 0.2


def test_fixations_outside_the_picture_are_left_out_and_told(clip):
    models = [Maps.read("good", clip / "good")]
    inside = measure(open_source(clip / "a.mp4"), models, Humans.read(clip / "a.csv"))
    with (clip / "a.csv").open("a") as file:
        file.write("7,0,10,-0.01,0.5\n8,0,10,1.2,0.5\n9,0,10,nan,0.5\n")
    found = measure(open_source(clip / "a.mp4"), models, Humans.read(clip / "a.csv"))
    assert found.scores == inside.scores
    assert len(found.problems) == 1 and "3 fixations outside the picture" in found.problems[0]
