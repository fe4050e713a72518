"""What scores are computed from: a part that is kept belongs to its inputs; inputs stay; one bad file ends no run."""

import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from diffsal.data.databases import DATASETS, synthetic
from diffsal.errors import InputError
from diffsal.media.pictures import write_map
from diffsal.scoring import jobs as scoring
from diffsal.scoring import results as scores
from diffsal.scoring.evaluate import evaluate, score
from diffsal.scoring.ground_truth import GroundTruth
from diffsal.scoring.protocols import PROTOCOLS
from diffsal.scoring.results import ClipScores
from tests.standin import Oracle


class Blobs(Oracle):
    """A model whose maps are the ground truth; of the clip ``ends_at`` it ends the process."""

    name = "blobs"

    def __init__(self, ends_at=None):
        self.ends_at = ends_at

    def maps(self, clip, wanted, problems):
        if clip.name == self.ends_at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().maps(clip, wanted, problems)


def run(root, out, dataset="hollywood2", protocol="released", model=None, **options):
    head = scores.document_head("evaluate", dataset, root, PROTOCOLS[protocol], {})
    clips = DATASETS[dataset](root, DATASETS[dataset].scored_split)
    return scoring.score_clips(clips, [model or Blobs()], protocol, out, head=head, baselines=False, **options)


@pytest.mark.parametrize("change", ["map", "fixations", "frames"])
def test_an_interrupted_run_scores_again_what_was_corrected_meanwhile(tmp_path, monkeypatch, change):
    root = synthetic.write("ucf_sports", tmp_path / "db")
    original, scored = scoring.score_clip, []

    def interrupted(job, clip):
        if scored:
            raise KeyboardInterrupt
        scored.append(clip.name)
        return original(job, clip)

    monkeypatch.setattr(scoring, "score_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "out", "ucf_sports", "ntire")
    clip = root / "testing" / scored[0]
    folder = {"map": clip / "maps", "fixations": clip / "fixation", "frames": clip / "images"}[change]
    path = sorted(folder.iterdir())[3]
    time = path.stat().st_mtime_ns
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    path.write_bytes(cv2.imencode(".png", image[::-1])[1].tobytes())
    os.utime(path, ns=(time, time))  # a copy that keeps its times is another file all the same
    again = []
    monkeypatch.setattr(scoring, "score_clip", lambda job, clip: again.append(clip.name) or original(job, clip))
    found = run(root, tmp_path / "out", "ucf_sports", "ntire")
    assert scored[0] in again
    monkeypatch.setattr(scoring, "score_clip", original)
    assert found["sets"] == run(root, tmp_path / "fresh", "ucf_sports", "ntire")["sets"]


def test_what_an_interrupted_run_left_damaged_is_made_again(tmp_path, monkeypatch):
    root, original = synthetic.write("ucf_sports", tmp_path / "db"), scoring.score_clip
    whole = run(root, tmp_path / "whole", "ucf_sports", "ntire")
    monkeypatch.setattr(scores, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "out", "ucf_sports", "ntire")
    monkeypatch.undo()
    parts = sorted((tmp_path / "out/.parts").iterdir())
    assert len(parts) == 2
    for part, data in zip(parts, (b"[" * 100_000, b'[{"name": 3}]'), strict=True):
        part.write_bytes(data)
    again = []
    monkeypatch.setattr(scoring, "score_clip", lambda job, clip: again.append(clip.name) or original(job, clip))
    assert run(root, tmp_path / "out", "ucf_sports", "ntire")["sets"] == whole["sets"] and len(again) == 2


def test_predicted_maps_never_take_the_place_of_the_data(tmp_path, weights):
    root = synthetic.write("hollywood2", tmp_path / "db")
    by_kind = synthetic.write("dhf1k", tmp_path / "kinds", "frames")
    gaze = synthetic.write("gaze", tmp_path / "gaze")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    clip = root / "testing/actioncliptest00001_1"
    (tmp_path / "link").symlink_to(clip / "maps")
    for dataset, data, split, maps in (
        ("hollywood2", root, "test", clip / "maps"), ("hollywood2", root, "test", tmp_path / "link"),
        ("hollywood2", root, "test", clip / "images"), ("hollywood2", root, "test", clip / "maps" / "ours"),
        ("dhf1k", by_kind, "val", by_kind / "frames" / "601"), ("gaze", gaze, "play", gaze / "videos/play/ball.mp4"),
    ):
        with pytest.raises(InputError, match=r"belongs to the data .*--maps"):
            evaluate(dataset, data, str(weights), tmp_path / "out", split=split, maps=maps, workers=1)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "link" not in str(p)} == before


def test_a_file_that_kills_its_process_is_named_and_the_others_are_scored(tmp_path):
    root = synthetic.write("hollywood2", tmp_path / "db")
    found = run(root, tmp_path / "out", protocol="ntire", model=Blobs("actioncliptest00001_2"), workers=2)
    assert len(found["problems"]) == 1 and "actioncliptest00001_2" in found["problems"][0]
    assert "ended the process" in found["problems"][0]
    videos = found["sets"][0]["models"][0]["videos"]
    assert [v["name"] for v in videos] == ["actioncliptest00001_1", "actioncliptest00003_1"]
    assert found["sets"][0]["frames"]["skipped"]["the clip cannot be read"] == 1


def test_a_matlab_file_that_kills_scipy_is_named_and_the_frame_left_out(tmp_path):
    root = synthetic.write("etmd", tmp_path / "db")
    folder = root / "annotations/ETMD_av/clip_1"
    path = folder / "fixMap_00003.mat"
    savemat(path, {"eyeMap": np.eye(48, 64)}, do_compression=False)
    data = bytearray(path.read_bytes())
    place = data.index(np.float64(1).tobytes()) - 8
    data[place : place + 4] = (1 << 30).to_bytes(4, "little")  # its numbers are of no known type
    path.write_bytes(data)
    (folder / "fixMap_00005.mat").write_bytes(b"\0" * 40)
    found = run(root, tmp_path / "out", "etmd", "stavis")
    assert any("fixMap_00003.mat" in p for p in found["problems"])
    assert any("fixMap_00005.mat" in p for p in found["problems"])
    assert [v["frames"] for v in found["sets"][0]["models"][0]["videos"]] == [16, 18, 18]


def test_staviss_negatives_are_all_frames_without_the_pixels_of_this_one(tmp_path):
    root = synthetic.write("avad", tmp_path)
    clip = next(c for c in DATASETS["avad"](root, "test") if c.name == "clip_1")
    folder = root / "annotations/AVAD/clip_1"
    fixated = [loadmat(path)["eyeMap"] > 0 for path in sorted(folder.glob("fixMap_*.mat"))]
    truth = GroundTruth(clip, PROTOCOLS["stavis"], [clip])
    for index in (0, 7, 17):
        expected = np.logical_or.reduce(fixated)
        expected[fixated[index]] = False  # their eval_*.m: shufMap1(eyeMap==1) = 0
        np.testing.assert_array_equal(truth.frame(index).negatives, expected)
        shared = np.logical_or.reduce([f for i, f in enumerate(fixated) if i != index]) & fixated[index]
        assert shared.any() and not truth.frame(index).negatives[shared].any()


def test_the_released_evaluation_leaves_out_short_clips_and_the_ends_of_long_ones(tmp_path, monkeypatch):
    made = synthetic.scene("x", num_frames=40)
    monkeypatch.setattr(synthetic, "scene", lambda *a, **k: made)
    root = synthetic.write("dhf1k", tmp_path / "dhf1k", "images", num_frames=40)
    for dataset, num_frames, expected in (("dhf1k", 40, range(8, 16)), ("dhf1k", 32, []), ("avad", 20, range(20))):
        clip = DATASETS["dhf1k"](root, "val")[0]
        clip = clip.__class__(clip.name, dataset, "val", clip.video, clip.truth, 30.0)
        clip.__dict__["num_frames"] = num_frames
        found = ClipScores("s", clip.name, "")
        assert GroundTruth(clip, PROTOCOLS["released"], [clip]).frames(found) == list(expected), dataset
        if dataset == "dhf1k":
            assert found.skipped == {"the first 8 and last 24 of a clip": num_frames - len(list(expected))}
    for dataset, num_frames, scored in (("hollywood2", 31, 0), ("hollywood2", 32, 32), ("ucf_sports", 31, 0)):
        clip = clip.__class__(clip.name, dataset, "val", clip.video, clip.truth, 30.0)
        clip.__dict__["num_frames"] = num_frames
        found = ClipScores("s", clip.name, "")
        assert len(GroundTruth(clip, PROTOCOLS["released"], [clip]).frames(found)) == scored
        assert GroundTruth(clip, PROTOCOLS["dhf1k"], [clip]).frames(ClipScores("s", "", "")) == list(range(num_frames))


def test_a_damaged_results_folder_is_named_in_one_line(tmp_path):
    root = synthetic.write("ucf_sports", tmp_path / "db")
    run(root, tmp_path / "out", "ucf_sports", "ntire")
    path = tmp_path / "out/scores.json"
    text = path.read_text()
    number = str(json.loads(text)["sets"][0]["models"][0]["mean"]["CC"])
    for damage in ("[" * 200_000, text[:200], text.replace('"mean"', '"men"', 1), "3", "\0",
                   text.replace('"videos": 2', '"videos": "2"'), text.replace(number, "NaN", 1)):
        assert damage != text
        path.write_text(damage)
        with pytest.raises(InputError, match=r"scores\.json: ") as error:
            scores.read(path)
        assert len(str(error.value).splitlines()) == 1
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(InputError, match="cannot be read"):
        scores.read(Path(path))


def test_maps_that_are_kept_and_maps_of_the_scored_frames_alone_score_the_same(tmp_path, weights):
    """The second asks for frames 0, 5, 10 and 15 of 18: the last, which windows repeat, is not among them."""
    root = synthetic.write("gaze", tmp_path / "db")
    both = [evaluate("gaze", root, str(weights), tmp_path / name, split="play", maps=maps, baselines=False)
            for name, maps in (("kept", tmp_path / "maps"), ("alone", None))]
    for kept, alone in zip(*(found["sets"][0]["models"][0]["videos"] for found in both), strict=True):
        assert kept["frames"] == alone["frames"] == 4 and kept["mean"] == pytest.approx(alone["mean"], abs=1e-4)


def test_timesteps_are_spaced_as_the_weights_say_unless_told_otherwise(tmp_path, weights, monkeypatch):
    from safetensors.torch import load_file, save_file

    from diffsal.diffusion import samplers
    from diffsal.scoring import map_sources
    from diffsal.weights.files import read_metadata

    root, asked = synthetic.write("gaze", tmp_path / "db"), []
    grid = samplers.timestep_grid
    monkeypatch.setattr(samplers, "timestep_grid", lambda n, spacing, t: asked.append(spacing) or grid(n, spacing, t))
    for number, (says, given, expected) in enumerate((
            (None, None, "linspace"), ("leading", None, "leading"), ("leading", "trailing", "trailing"))):
        path = tmp_path / f"{number}.safetensors"
        save_file(load_file(weights), path, read_metadata(weights) | ({"diffsal.spacing": says} if says else {}))
        out = tmp_path / f"out{number}"
        evaluate("gaze", root, path, out, split="play", clips=["ball"], spacing=given, baselines=False)
        assert set(asked) == {expected}
        asked.clear()
    save_file(load_file(weights), path, read_metadata(weights) | {"diffsal.spacing": "[/b]"})
    map_sources._network.cache_clear()
    found = evaluate("gaze", root, path, tmp_path / "other", split="play", clips=["ball"], baselines=False)
    assert len(found["problems"]) == 1 and "its spacing is '[/b]', expected one of linspace" in found["problems"][0]


def test_maps_beside_overlays_and_maps_that_are_no_pictures_are_told(tmp_path):
    root = synthetic.write("ucf_sports", tmp_path / "db")
    one, other = DATASETS["ucf_sports"](root, "test")[:2]
    for clip in (one, other):
        for i in clip.annotated:
            write_map(tmp_path / "maps" / clip.name / f"{i:06d}.png", clip.saliency_map(i))
    write_map(tmp_path / "maps" / one.name / "a_overlay_000003.png", one.saliency_map(0))
    for path in (tmp_path / "maps" / other.name).iterdir():
        np.save(path.with_suffix(".npy"), np.ones((4, 4)))
        path.unlink()
    document = score(
        tmp_path / "maps", root, tmp_path / "out", protocol="mit", baselines=False, clips=(one.name, other.name))
    assert document["problems"][0] == (
        f"{tmp_path}/maps/{one.name}: 000003.png and a_overlay_000003.png have one number; leave only the maps there")
    assert f"/{other.name}: no map for frame " in document["problems"][1]
    assert "0.npy is none: write PNG or float TIFF" in document["problems"][1]
