"""Every layout of every data set is read from its synthetic copy, and what is broken in one is named."""

import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffsal.data.clip import Clip
from diffsal.data.databases import DATASETS, dhf1k, gaze, stavis, synthetic
from diffsal.errors import InputError
from tests.movies import tone, write_movie

COPIES = [(name, variant) for name in DATASETS
          for variant in synthetic.VARIANTS.get("stavis" if name in stavis.SETS else name, ("only",))
          if name not in ("coutrot1", "coutrot2", "etmd", "summe") or variant == "frames"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """``copy("dhf1k", "frames")`` is the root of a synthetic copy, made once."""
    made = {}

    def root(name, variant=None):
        if (name, variant) not in made:
            made[name, variant] = synthetic.write(name, tmp_path_factory.mktemp(name), variant)
        return made[name, variant]

    return root


@pytest.mark.parametrize(("name", "variant"), COPIES)
def test_every_frame_comes_with_its_own_ground_truth(copy, name, variant):
    clips = DATASETS[name](copy(name, variant), "all")
    assert len({(c.split, c.name) for c in clips}) == len(clips) > 2
    for clip in clips:
        assert clip.dataset == name and clip.num_frames >= 1
        assert [f.index for f in clip] == list(range(clip.num_frames))
        if clip.truth is None:
            assert (name, clip.split) == ("dhf1k", "test") and clip.annotated == [] and clip.saliency_map(0) is None
            continue
        assert clip.annotated == list(range(clip.num_frames))
        for index in {0, clip.num_frames // 2, clip.num_frames - 1}:
            image = clip.frames([index])[0].astype(int)
            ball = np.argwhere(image[..., 0] - image[..., 1] > 100)
            saliency, fixated, points = clip.saliency_map(index), clip.fixations(index), clip.points(index)
            assert saliency.dtype == np.float32 and saliency.shape == fixated.shape == (clip.height, clip.width)
            assert saliency.max() == pytest.approx(1, abs=0.02) and fixated.dtype == bool
            assert {(x, y) for x, y in points} == {(x, y) for y, x in np.argwhere(fixated)}
            # people look at the ball of this very frame
            assert np.linalg.norm(np.median(points, 0)[::-1] - ball.mean(0)) < 6, (clip.name, index)


def test_frames_come_in_the_order_asked_for_from_files_and_folders(copy):
    for variant in synthetic.VARIANTS["dhf1k"]:
        clip = DATASETS["dhf1k"](copy("dhf1k", variant), "val")[0]
        whole = np.stack([f.image for f in clip])
        np.testing.assert_array_equal(clip.frames([9, 9, 4, 17, 0]), whole[[9, 9, 4, 17, 0]])
        with pytest.raises(ValueError, match="18 frames"):
            clip.frames([18])


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("c.webm", "libvpx"),
                                             ("d.webm", "libvpx-vp9"), ("e.avi", "mpeg4"), ("f.mkv", "mjpeg")])
def test_any_frame_of_any_codec_is_the_one_that_comes_in_sequence(tmp_path, name, codec):
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    audio = None if name == "e.avi" else tone(0.9, 48_000)
    path = write_movie(tmp_path / name, num_frames=30, codec=codec, pixels=pixels, options={"g": "7"}, sound=audio,
                       sound_rate=48_000, sound_codec="libopus" if "webm" in name else "aac",
                       seconds=None if audio is None else 0.2 + np.arange(30) / 25)  # the sound starts first
    clip = Clip(name, "own", "test", path)
    frames = list(clip)
    assert clip.num_frames == len(frames) == 30
    for indices in ([29], [3, 17, 3], [0], [28, 9]):
        np.testing.assert_array_equal(clip.frames(indices), np.stack([frames[i].image for i in indices]))
    assert [clip.seconds(i) for i in range(30)] == pytest.approx([f.seconds for f in frames], abs=2e-3)


def test_splits_and_folds(copy):
    assert [c.name for c in DATASETS["dhf1k"](copy("dhf1k"), "val")] == ["0601", "0602"]
    assert [c.name for c in DATASETS["avad"](copy("avad"), "test", 2)] == ["clip_2"]
    assert [c.name for c in DATASETS["avad"](copy("avad"), "train", 2)] == ["clip_1", "clip_3"]
    tested = DATASETS["avad"](copy("avad"), "test")
    assert [(c.name, c.fold) for c in tested] == [("clip_1", 1), ("clip_2", 2), ("clip_3", 3)]
    assert [c.name for c in DATASETS["diem"](copy("diem"), "test", 2)] == ["clip_3"]  # one list for all folds
    assert [c.name for c in DATASETS["gaze"](copy("gaze"), "play")] == ["ball", "kite"]
    for name, split, fold in (("dhf1k", "testing", None), ("ucf_sports", "val", None), ("avad", "test", 4),
                              ("gaze", "talk", None)):
        with pytest.raises(InputError, match="expected"):
            DATASETS[name](copy(name), split, fold)


def test_rates_that_are_no_whole_numbers_and_sound_on_the_clock_of_the_video(copy):
    for variant in synthetic.VARIANTS["stavis"]:
        clips = DATASETS["avad"](copy("avad", variant), "all")
        assert [c.frame_rate for c in clips] == pytest.approx([14.99985, 25, 29.97003], abs=2e-4)
        for clip in clips:
            assert clip.seconds(17) == pytest.approx(17 / clip.frame_rate, abs=1e-3)
            assert clip.listed_frames == clip.num_frames and clip.has_sound
            sound = clip.sound()
            assert (sound.rate, sound.start_seconds) == (16_000, 0)
            assert sound.duration_seconds == pytest.approx(clip.num_frames / clip.frame_rate, abs=2e-3)
            assert clip.source().sound(None).rate in (44_100, 16_000, 48_000)


def test_shots_shorter_than_a_window_and_numbered_from_anywhere(copy):
    shots = {c.name: c for c in DATASETS["hollywood2"](copy("hollywood2"), "test")}
    assert [c.num_frames for c in shots.values()] == [20, 5, 1]
    assert shots["actioncliptest00001_1"].number(0) == 23 and shots["actioncliptest00003_1"].number(0) == 5
    assert shots["actioncliptest00001_2"].map_path(4).name == "actioncliptest00001_00047.png"


def test_observers_and_repeated_points_of_the_gaze_layout(tmp_path):
    synthetic.write("gaze", tmp_path)
    path = tmp_path / "gaze/play/ball.csv"
    path.write_text("observer,start_s,duration_s,x,y\n1,0,1,.5,.5\n4,0,1,.5,.5\n2,0,1,1.2,.5\n3,0.2,1,0,1\n")
    clip = DATASETS["gaze"](tmp_path, "play")[0]
    assert clip.points(0).tolist() == [[32, 24], [32, 24]] and clip.observers(0).tolist() == [1, 4]
    assert clip.fixations(0).sum() == 1 and clip.truth.outside == 1
    assert clip.points(5).tolist()[2] == [0, 47]  # the corner belongs to the picture


def test_a_map_is_the_filtered_picture_of_its_fixations():
    rng = np.random.default_rng(0)
    fixations = np.c_[np.zeros((40, 3)), rng.random((40, 2))]
    fixations[:3, 3:] = (0.0, 0.5), (1.0, 1.0), (0.5, 0.0)  # at the edges, where a filter mirrors
    fixations[5] = fixations[4]
    grid = np.zeros((90, 160))
    np.add.at(grid, tuple(np.minimum(fixations[:, 4:2:-1] * (90, 160), (89, 159)).astype(int).T), 1)
    expected = cv2.GaussianBlur(grid, (0, 0), 4.0)
    ours = gaze.saliency_map(fixations, 90, 160, 160 / 90, 0.025)
    np.testing.assert_allclose(ours, expected / expected.max(), atol=2e-6)
    assert not gaze.saliency_map(fixations[:0], 90, 160, 1.0).any()


def test_what_is_broken_is_named(tmp_path):
    root = synthetic.write("dhf1k", tmp_path, "images")
    truth = root / "annotation/0001"
    (truth / "maps/0003.png").unlink()
    (truth / "maps/0004.png").write_bytes((truth / "maps/0004.png").read_bytes()[:60])
    (truth / "fixation/0005.png").write_bytes(b"")
    (truth / "images/0006.png").write_bytes(b"nothing")
    clip = dhf1k.read(root, "train")[0]
    assert clip.annotated == [i for i in range(18) if i != 2]
    for read, name in ((clip.saliency_map, "maps/0003.png"), (clip.saliency_map, "maps/0004.png"),
                       (clip.fixations, "fixation/0005.png"), (lambda i: clip.frames([i]), "images/0006.png")):
        with pytest.raises(InputError, match=name):
            read(int(name[-7:-4]) - 1)
    with pytest.raises(InputError, match="no DHF1K videos"):
        dhf1k.read(tmp_path / "elsewhere")


def test_matlab_files_that_are_broken_new_or_something_else(tmp_path):
    from scipy.io import savemat
    from scipy.sparse import csc_matrix

    from diffsal.data.map_files import read_fixations

    path = tmp_path / "fixMap_00001.mat"
    savemat(path, {"eyeMap": csc_matrix(np.eye(3))})
    assert read_fixations(path).tolist() == np.eye(3, dtype=bool).tolist()
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    cases = {b"nothing": "not a MATLAB file", header + bytes(400): "7.3", path.read_bytes()[:150]: "not a MATLAB file"}
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"fixMap_00001\.mat.*{message}"):
            read_fixations(path)
    words = np.array([["a", "b"], ["c", "d"]], object)
    for variables, message in (({"other": np.eye(2)}, "no variable I or eyeMap"), ({"I": "text"}, "rows by columns"),
                               ({"I": words}, "expected a matrix of numbers")):
        savemat(path, variables)
        with pytest.raises(InputError, match=message):
            read_fixations(path)


def test_the_example_of_the_documentation(copy):
    text = (Path(__file__).parents[2] / "docs/databases.md").read_text()
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].replace("ROOT", str(copy("avad")))
    names: dict = {}
    exec(example, names)
    assert names["clip"].name == "clip_1" and names["i"] == 17


def test_lists_with_a_broken_line(copy, tmp_path):
    path = tmp_path / "fold_lists/AVAD_list_test_1_fps.txt"
    path.parent.mkdir()
    for line, message in (("V1 30", "line 2 is 'V1 30'"), ("V1 0 25", "line 2 has 0 frames"),
                          ("../V1 9 25", r"line 2 is '\.\./V1")):
        path.write_text(f"V0 20 25.0\n{line}\n")
        with pytest.raises(InputError, match=message):
            DATASETS["avad"](tmp_path, "test", 1)
    with pytest.raises(InputError, match=r"AVAD_list_test_2_fps\.txt: no such list"):
        DATASETS["avad"](tmp_path, "test", 2)
    path.write_text("a name of three words 20 25.0\n\n")
    assert stavis.read_list(path) == [("a name of three words", 20, 25.0)]


def test_tables_as_spreadsheets_write_them_and_compressed_ones_cut_short(tmp_path):
    root = synthetic.write("gaze", tmp_path)
    path = root / "gaze/play/ball.csv"
    path.write_bytes("\ufeffobserver,start_s,duration_s,x,y\r\n1,0,1,.5,.5\r\n\r\n".encode())
    assert DATASETS["gaze"](root, "play")[0].points(0).tolist() == [[32, 24]]
    path.write_text("observer,start_s,duration_s,x,y\n1,0,1\n")
    with pytest.raises(InputError, match=r"ball\.csv: line 2 has 3 cells, expected 5: 1,0,1"):
        DATASETS["gaze"](root, "play")[0].points(0)
    table = root / "gaze/stills.csv.gz"
    (root / "gaze/sketches.csv").unlink()
    (root / "gaze/sketches.csv").mkdir()
    with pytest.raises(InputError, match=r"sketches\.csv: damaged"):
        DATASETS["gaze"](root, "sketches")
    for data in (table.read_bytes()[:-20], b"no gzip"):
        table.write_bytes(data)
        with pytest.raises(InputError, match=r"stills\.csv\.gz: damaged or cut short"):
            DATASETS["gaze"](root, "stills")


def test_clips_travel_to_other_processes_and_can_forget_what_they_listed(copy):
    for name in ("dhf1k", "avad", "gaze"):
        clip = DATASETS[name](copy(name), "all")[0]
        expected = clip.saliency_map(3)
        for other in (pickle.loads(pickle.dumps(clip)), clip.fresh()):
            np.testing.assert_array_equal(other.saliency_map(3), expected)
    fresh = DATASETS["dhf1k"](copy("dhf1k", "images"), "all")[0].fresh()
    size = len(pickle.dumps(fresh))
    assert fresh.annotated and len(pickle.dumps(fresh)) > size == len(pickle.dumps(fresh.fresh()))


def test_lost_fixations_written_as_numbers_are_left_out_and_counted(tmp_path):
    root = synthetic.write("gaze", tmp_path)
    header = "observer,start_s,duration_s,x,y\n"
    (root / "gaze/play/ball.csv").write_text(header + "1,0,1,.5,.5\n2,0,1,0,0\n3,0,1,-1,-1\n4,0,1,1e8,1e8\n"
                                             "5,0,1,nan,nan\n"
                                             "6,0,1,0,.25\n")
    clip = DATASETS["gaze"](root, "play")[0]
    assert clip.observers(0).tolist() == [1, 6] and clip.truth.outside == 4
    assert np.argwhere(clip.fixations(0)).tolist() == [[12, 0], [24, 32]]
