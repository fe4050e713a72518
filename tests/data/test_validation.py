"""`diffsal validate` on synthetic copies: whole ones pass, and each fault put into one is told with its path."""

import shutil

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from diffsal.data.databases import DATASETS, synthetic
from diffsal.data.validation import validate
from diffsal.errors import InputError
from tests.commands import outcome


@pytest.mark.parametrize("name", DATASETS)
def test_a_whole_copy_passes_and_its_size_is_compared_with_the_published(name, tmp_path):
    root = synthetic.write(name, tmp_path)
    for full in (False, True):
        assert validate(name, root, partial=True, full=full).problems == []
    if name != "gaze":
        problems = validate(name, root).problems
        assert problems and all("published were" in p for p in problems)
        published = {"dhf1k": 1000, "hollywood2": 1707, "ucf_sports": 150, "avad": 45, "coutrot1": 60, "coutrot2": 15,
                     "diem": 81, "etmd": 12, "summe": 25}[name]
        rows = validate(name, root).rows
        whole = [r for r in rows if r.split == "all"] or rows
        assert sum(r.published for r in whole) == published


def faults(root, dataset, **options):
    return validate(dataset, root, partial=True, **options).problems


def only(problems, *words):
    """There is one problem, and it says all of ``words``."""
    assert len(problems) == 1 and all(word in problems[0] for word in words), problems


def put(path, image):
    assert cv2.imwrite(str(path), image.astype(np.uint8))


@pytest.fixture
def shots(tmp_path):
    """A copy of Hollywood-2, and one shot of it with five frames, 21 to 25."""
    root = synthetic.write("hollywood2", tmp_path)
    return root, root / "training/actioncliptrain00001_2"


@pytest.mark.parametrize(("break_it", "words"), [
    (lambda f: next(f.glob("maps/*_00022.png")).unlink(), ("maps: frames without a map: 1", "22")),
    (lambda f: next(f.glob("images/*_00025.png")).unlink(), ("maps: maps without a frame: 1", "25")),
    (lambda f: next(f.glob("fixation/*_00022.png")).unlink(), ("fixation: maps without fixations: 1", "22")),
    (lambda f: shutil.rmtree(f / "fixation"), ("fixation: no fixations for 5 maps",)),
    (lambda f: next(f.glob("maps/*_00022.png")).write_bytes(b""), ("maps: empty maps: 1", "_00022.png")),
    (lambda f: next(f.glob("maps/*_00023.png")).write_bytes(b"PNG"), ("_00023.png", "not a picture")),
    (lambda f: next(f.glob("fixation/*_00023.png")).write_bytes(b"PNG"), ("fixation/", "_00023.png", "not a picture")),
    (lambda f: next(f.glob("images/*_00023.png")).write_bytes(b"PNG"), ("images/", "_00023.png", "not a picture")),
    (lambda f: put(next(f.glob("images/*_00023.png")), np.zeros((9, 9, 3))), ("is 9x9",)),
    (lambda f: put(next(f.glob("maps/*_00023.png")), np.zeros((48, 64))), ("zero everywhere",)),
    (lambda f: put(next(f.glob("fixation/*_00023.png")), np.zeros((48, 64))), ("nobody fixates",)),
    (lambda f: put(next(f.glob("fixation/*_00023.png")), np.ones((24, 32))), ("64x48", "32x24")),
    (lambda f: shutil.rmtree(f / "images"), ("images", "no such")),
])
def test_each_fault_is_told_and_nothing_else(shots, break_it, words):
    root, folder = shots
    break_it(folder)
    only(faults(root, "hollywood2"), folder.name, *words)


def test_a_fault_between_the_sampled_frames_is_found_in_full(shots):
    root, folder = shots
    next(folder.glob("maps/*_00022.png")).write_bytes(b"PNG")
    assert faults(root, "hollywood2") == []
    only(faults(root, "hollywood2", full=True), "_00022.png", "not a picture")


def test_sound_missing_short_or_not_there(tmp_path):
    root = synthetic.write("avad", tmp_path)
    first, second, third = (root / f"video_audio/AVAD/clip_{n}/clip_{n}.wav" for n in (1, 2, 3))
    first.unlink()
    second.write_bytes(second.read_bytes()[:4000])
    third.write_bytes(b"no wav")
    problems = faults(root, "avad")
    assert len(problems) == 3
    assert "clip_1.wav: no such sound" in problems[0]
    assert "clip_2.wav: 0.12 s of sound for 0.72 s of video" in problems[1] and "clip_3.wav" in problems[2]


def test_frames_are_held_against_the_list_and_matlab_files_read(tmp_path):
    root = synthetic.write("etmd", tmp_path)
    (root / "video_frames/ETMD_av/clip_1/img_00018.jpg").unlink()
    (root / "annotations/ETMD_av/clip_2/fixMap_00001.mat").write_bytes(b"nothing")
    savemat(root / "annotations/ETMD_av/clip_3/fixMap_00001.mat", {"eyeMap": np.ones((5, 5))})
    problems = faults(root, "etmd")
    assert len(problems) == 4
    assert "clip_1: 17 frames of 18 in the list" in problems[0] and "maps without a frame: 1" in problems[1]
    assert "fixMap_00001.mat: not a MATLAB file" in problems[2] and "64x48, its fixations 5x5" in problems[3]


def test_gaze_outside_the_picture_too_late_or_not_there(tmp_path):
    root = synthetic.write("gaze", tmp_path)
    (root / "gaze/play/ball.csv").write_text("observer,start_s,duration_s,x,y\n1,0,1,1.5,.5\n1,99,1,.5,.5\n")
    (root / "gaze/play/kite.csv").unlink()
    (root / "gaze/sketches.csv").write_text("image,observer\n")
    problems = faults(root, "gaze")
    assert len(problems) == 4
    assert "ball.csv: 1 of 2 fixations lie outside" in problems[0] and "1 of 2 fixations begin after" in problems[1]
    assert "kite.csv: no such file" in problems[2] and "sketches.csv: no column index, x, y" in problems[3]


def test_a_video_file_that_was_cut_short(tmp_path):
    root = synthetic.write("dhf1k", tmp_path)
    path = root / "video/601.AVI"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert any("0601" in p and "maps without a frame" in p for p in faults(root, "dhf1k", full=True))


def test_a_video_file_at_another_rate_than_the_list_says(tmp_path):
    root = synthetic.write("coutrot1", tmp_path, "videos")
    made = synthetic.scene("other", num_frames=18)
    synthetic.movie(root / "videos/Coutrot_db1/clip_2.avi", made.frames, 30.0)
    only(faults(root, "coutrot1"), "clip_2.avi: 30.000 frames per second, the database's are 25.000")


def test_the_command_prints_a_table_and_exits_with_1_where_something_is_wrong(tmp_path, capsys):
    root = synthetic.write("summe", tmp_path)
    for arguments, code in (([], 1), (["--partial"], 0)):
        ended, out, err = outcome(capsys, "validate", "summe", "--data", str(root), *arguments)
        assert ended == code and "fold 3" in out and ("published were 25" in err) == bool(code)
    ended, _, err = outcome(capsys, "validate", "sume", "--data", str(root))
    assert ended == 1 and "did you mean summe" in err


def test_an_empty_folder_and_an_unknown_split(tmp_path):
    for name in DATASETS:
        with pytest.raises(InputError, match=r"databases\.md|no such|expected"):
            validate(name, tmp_path)
    root = synthetic.write("dhf1k", tmp_path)
    with pytest.raises(InputError, match="expected one of train, val, test, all"):
        validate("dhf1k", root, "testing")
