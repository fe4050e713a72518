"""Evaluation of data sets and of folders of maps: layouts, counts, means, bad input, interruptions, processes."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from diffsal.data.databases import DATASETS, recognise, synthetic
from diffsal.errors import InputError
from diffsal.scoring import evaluate
from diffsal.scoring import jobs as scoring
from diffsal.scoring import results as scores
from diffsal.scoring.literature import published_rows
from diffsal.scoring.protocols import PROTOCOLS
from diffsal.scoring.results import ClipScores, summarise
from tests.commands import outcome
from tests.standin import Oracle


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """``copy("dhf1k")`` is the root of a synthetic copy, made once: not to be changed."""
    made = {}

    def root(name, variant=None):
        if name not in made:
            made[name] = synthetic.write(name, tmp_path_factory.mktemp(name), variant)
        return made[name]

    return root


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """``run("score", …)`` in an empty folder → (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    return lambda *arguments: outcome(capsys, *map(str, arguments))


def oracle(root: Path, dataset: str, out: Path, protocol: str, split: str | None = None, **options) -> dict:
    clips = DATASETS[dataset](root, split or DATASETS[dataset].scored_split)
    return scoring.score_clips(clips, [Oracle()], protocol, out, head=scores.document_head(
        "evaluate", dataset, root, PROTOCOLS[protocol], {}), **options)


def model(document: dict, name: str, number: int = 0) -> dict:
    return next(m for m in document["sets"][number]["models"] if m["name"] == name)


def write_maps(root: Path, dataset: str, folder: Path, name: str = "{clip}/{index:06d}.png", split: str | None = None):
    """The ground truth as a model's 8-bit maps."""
    for clip in DATASETS[dataset](root, split or DATASETS[dataset].scored_split):
        for index in range(clip.num_frames):
            path = folder / name.format(clip=clip.name, number=clip.number(index), index=index, set=clip.split)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.rint(clip.saliency_map(index) * 255).astype(np.uint8))


# --- data sets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DATASETS)
def test_who_knows_the_truth_scores_best_on_every_data_set(copy, tmp_path, dataset):
    document = oracle(copy(dataset), dataset, tmp_path, DATASETS[dataset].protocol)
    assert document["problems"] == [] and document["sets"]
    for found in document["sets"]:
        best, centre = (next(m for m in found["models"] if m["name"] == n) for n in ("oracle", scores.CENTRE))
        assert best["frames"] == centre["frames"] == found["frames"]["scored"] > 0
        assert best["mean"]["CC"] > 0.95 and best["mean"]["SIM"] > 0.75
        for metric in ("CC", "SIM", "NSS", "AUC-J", "AUC-B"):
            assert best["mean"][metric] > centre["mean"][metric], metric
        assert best["mean"]["KLD"] < centre["mean"]["KLD"]
    assert scores.read(tmp_path / "scores.json")["sets"] == document["sets"]
    assert not (tmp_path / ".parts").exists()


def test_the_gaze_protocol_takes_its_frames_and_knows_its_observers(copy, tmp_path):
    document = oracle(copy("gaze"), "gaze", tmp_path, "gaze", "play")
    found = document["sets"][0]
    assert found["name"] == "play" and found["frames"]["scored"] == 8  # 18 frames each: 0, 5, 10, 15
    assert found["frames"]["skipped"] == {"not every 5th": 28}
    assert {m["name"]: m["kind"] for m in found["models"]} == {
        "oracle": "model", scores.CENTRE: "baseline", scores.HUMANS: "baseline"}
    assert 0 < model(document, scores.HUMANS)["mean"]["CC"] < model(document, "oracle")["mean"]["CC"]
    assert model(document, scores.CENTRE)["mean"]["IG"] == pytest.approx(0, abs=1e-9)


def test_centre_and_humans_are_those_of_the_packs_own_script(shared, tmp_path, monkeypatch):
    few = replace(PROTOCOLS["gaze"], metrics=("CC", "SIM", "NSS", "AUC-J"), negatives=None)
    monkeypatch.setitem(PROTOCOLS, "gaze", few)
    clips = DATASETS["gaze"](shared / "gaze", "find")
    head = scores.document_head("evaluate", "gaze", shared, PROTOCOLS["gaze"], {})
    last = [clip for clip in clips if clip.name == "071"]  # the script's halves of all clips before move its generator
    document = scoring.score_clips(last, [], "gaze", tmp_path, head=head, all_clips=clips)
    for row in csv.DictReader((shared / "gaze/peers.csv").open()):
        name = {"centre": scores.CENTRE, "humans": scores.HUMANS}.get(row["model"])
        if name and (row["set"], row["clip"]) == ("find", "071"):
            ours = model(document, name)
            assert ours["frames"] == int(row["frames"])
            for metric in ("CC", "SIM", "NSS", "AUC-J"):
                assert ours["mean"][metric] == pytest.approx(float(row[metric]), abs=1e-3), (name, metric)


def test_a_network_is_evaluated_and_its_maps_score_the_same(copy, run, tmp_path, weights):
    arguments = ["--split", "play", "--sound", "own", "--sound", "muted", "--workers", 1, "--weights", weights]
    code, out, _ = run("evaluate", "gaze", "--data", copy("gaze"), *arguments, "--maps", "maps", "--out", "one")
    assert code == 0 and "tiny, muted" in out and "play: 2 clips, 8 frames" in out
    one = scores.read(Path("one/scores.json"))
    own, muted = (tmp_path / "maps" / name / "play/ball" for name in ("tiny", "tiny, muted"))
    assert sorted(p.name for p in own.iterdir()) == sorted(p.name for p in muted.iterdir()) == [
        f"{i:06d}.png" for i in range(18)]
    code, out, _ = run("score", own.parents[1], copy("gaze"), "--protocol", "gaze", "--split", "play", "--out", "two",
                       "--workers", 1)
    assert code == 0
    two = scores.read(Path("two/scores.json"))
    assert model(two, "tiny")["mean"] == pytest.approx(model(one, "tiny")["mean"], abs=1e-9)
    code, _, err = run("score", own.parents[1], copy("gaze"), "--protocol", "gaze", "--out", "two")
    assert code == 1 and "--force" in err


def test_without_ground_truth_maps_are_written_as_the_organisers_ask(copy, run, weights):
    code, out, _ = run("evaluate", "dhf1k", "--data", copy("dhf1k"), "--split", "test", "--maps", "maps",
                       "--workers", 1, "--weights", weights)
    document = scores.read(Path("scores/scores.json"))
    frames = document["sets"][0]["frames"]["skipped"]["the database keeps the ground truth to itself"]
    written = sorted(Path("maps/0701").iterdir())
    assert code == 0 and [p.name for p in written] == [f"{i + 1:04d}.png" for i in range(frames)]
    assert cv2.imread(str(written[0]), cv2.IMREAD_UNCHANGED).dtype == np.uint8 and "0 frames" in out


# --- folders of maps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "name", "truth_name"), [
    ("dhf1k", "{clip}/{index:06d}.png", "dhf1k"), ("dhf1k", "{clip}/{number:04d}.png", "dhf1k"),
    ("hollywood2", "{clip}/pred_{number:05d}.jpg", "hollywood2"), ("avad", "AVAD/{clip}/{index}.png", "avad"),
    ("gaze", "{set}/{clip}/{index:06d}.png", "gaze"),
])
def test_maps_are_found_whatever_they_are_called(copy, tmp_path, dataset, name, truth_name):
    root, maps = copy(dataset), tmp_path / "maps"
    split = "play" if dataset == "gaze" else None
    write_maps(root, dataset, maps, name, split)
    maps = maps / "AVAD" if name.startswith("AVAD") else maps
    assert recognise(root).name == truth_name
    document = evaluate.score(maps, root, tmp_path / "out", protocol="mit", split=split, baselines=False, workers=1)
    assert document["problems"] == []
    assert document["sets"][0]["models"][0]["mean"]["CC"] > 0.99  # a frame off by one would score far less


def test_numbered_folders_and_own_layouts(copy, tmp_path):
    write_maps(copy("dhf1k"), "dhf1k", tmp_path / "m")
    for folder in list((tmp_path / "m").iterdir()):
        folder.rename(tmp_path / "m" / str(int(folder.name)))
    assert evaluate.score(tmp_path / "m", copy("dhf1k"), tmp_path / "a", protocol="mit", workers=1)["problems"] == []
    own = tmp_path / "own"
    for clip in DATASETS["hollywood2"](copy("hollywood2"), "test"):
        for kind in ("maps", "fixation"):
            shutil.copytree(copy("hollywood2") / "testing" / clip.name / kind, own / clip.name / kind)
    write_maps(copy("hollywood2"), "hollywood2", tmp_path / "h", "{clip}/{number:04d}.png")
    document = evaluate.score(tmp_path / "h", own, tmp_path / "b", protocol="released", workers=1)
    assert document["dataset"] == "folders" and document["problems"] == []
    assert model(document, "h")["mean"]["CC"] > 0.99


# --- what is at fault ----------------------------------------------------------------------------------------------


def test_bad_input_is_named_and_counted_and_the_rest_is_scored(run, tmp_path):
    root = synthetic.write("dhf1k", tmp_path / "dhf1k", "images")
    write_maps(root, "dhf1k", Path("maps"))
    truth = root / "annotation/0601"
    Path("maps/0601/000002.png").unlink()
    Path("maps/0601/000004.png").write_bytes(b"no picture")
    cv2.imwrite("maps/0601/000006.png", np.zeros((10, 10), np.uint8))
    maps, fixations = sorted((truth / "maps").iterdir()), sorted((truth / "fixation").rglob("*.mat")) or sorted(
        (truth / "fixation").rglob("*.png"))
    cv2.imwrite(str(maps[8]), 0 * cv2.imread(str(maps[8]), 0))
    fixations[10].write_bytes(b"\0" * 40)
    shutil.rmtree("maps/0602")
    code, out, err = run("score", "maps", root, "--protocol", "dhf1k", "--workers", 1)
    lines = err.strip().splitlines()
    assert code == 1 and "0601" in out + err
    for path, what in ((Path("maps/0601"), "no map for frame 2"), ("000004.png", "not a picture"),
                       ("000006.png", "is 10x10"), (maps[8], "all zero"), (fixations[10].name, ""),
                       ("maps/0602", "no map for frame 0"), ("0602", "more problems")):
        assert any(str(path) in line and what in line for line in lines), (path, what, lines)
    document = scores.read(Path("scores/scores.json"))
    found = document["sets"][0]
    assert found["frames"]["skipped"]["ground truth cannot be used"] == 2
    first = model(document, "maps")["videos"]
    assert [v["name"] for v in first] == ["0601"] and first[0]["frames"] == len(maps) - 5
    assert model(document, scores.CENTRE)["frames"] == found["frames"]["scored"]


def test_a_fixation_outside_the_picture_and_a_broken_video(run, tmp_path):
    root = synthetic.write("gaze", tmp_path / "gaze")
    table = root / "gaze/play/ball.csv"
    table.write_text(table.read_text() + "3,0.1,0.2,1.7,0.5\n")
    (root / "videos/play/kite.mp4").write_bytes(b"no video at all")
    out = tmp_path / "out"
    document = oracle(root, "gaze", out, "gaze", "play")
    assert any("ball.csv" in p and "1 fixations of ball are outside" in p for p in document["problems"])
    assert any("kite.mp4" in p for p in document["problems"]) and len(document["problems"]) == 2
    assert [v["name"] for v in model(document, "oracle")["videos"]] == ["ball"]
    assert document["sets"][0]["frames"]["skipped"]["the clip cannot be read"] == 1


@pytest.mark.parametrize(("arguments", "message"), [
    (["evaluate", "dhf2k", "--data", "."], "no such name; did you mean dhf1k"),
    (["evaluate", "gaze", "--data", ".", "--weights", "huge"], "no such weights"),
    (["score", "nowhere", ".", "--protocol", "mit"], "nowhere: no such folder"),
    (["score", ".", ".", "--protocol", "mit"], "no ground truth in a layout that is known"),
    (["score", ".", "GAZE", "--protocol", "gaze", "--clips", "ball,bell"], "bell: no clip of that name"),
])
def test_what_cannot_be_begun_is_one_line(copy, run, arguments, message):
    code, _, err = run(*(copy("gaze") if a == "GAZE" else a for a in arguments))
    assert code == 1 and message in err and len(err.strip().splitlines()) == 1


# --- interruptions and processes -----------------------------------------------------------------------------------


def test_a_run_that_was_killed_goes_on(copy, tmp_path, monkeypatch):
    whole = oracle(copy("hollywood2"), "hollywood2", tmp_path / "whole", "mit")
    scored, original = [], scoring.score_clip

    def interrupted(job, clip):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(clip.name)
        return original(job, clip)

    monkeypatch.setattr(scoring, "score_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        oracle(copy("hollywood2"), "hollywood2", tmp_path / "cut", "mit")
    assert not (tmp_path / "cut/scores.json").exists() and len(list((tmp_path / "cut/.parts").iterdir())) == 2
    (tmp_path / "cut/.parts/.half.partial.json").write_text("[{")
    again = []
    monkeypatch.setattr(scoring, "score_clip", lambda job, clip: again.append(clip.name) or original(job, clip))
    resumed = oracle(copy("hollywood2"), "hollywood2", tmp_path / "cut", "mit")
    assert resumed["sets"] == whole["sets"] and len(again) == whole["sets"][0]["videos"] - 2
    assert not set(again) & set(scored)


def test_two_processes_score_the_same(copy, tmp_path):
    write_maps(copy("avad"), "avad", tmp_path / "m", split="test")
    one, two = (evaluate.score(tmp_path / "m", copy("avad"), tmp_path / f"out{n}", protocol="stavis", workers=n)
                for n in (1, 2))
    assert one["sets"] == two["sets"] and len(one["sets"][0]["models"][0]["videos"]) > 1
    assert (tmp_path / "out1/per_frame.csv").read_bytes() == (tmp_path / "out2/per_frame.csv").read_bytes()


# --- means, intervals, files ---------------------------------------------------------------------------------------


def clips_of(*rows: list[list[float | None]]) -> list[ClipScores]:
    return [ClipScores("s", f"v{i}", "p", 1.0, False, list(range(len(r))), [3] * len(r),
                       {"m": [[v, v, v, v] for v in r]}) for i, r in enumerate(rows)]


def test_means_over_frames_and_over_videos():
    clips = clips_of([0.1, 0.3, None], [0.8])
    over_videos = summarise(clips, PROTOCOLS["released"], ["m"])[0]["models"][0]
    assert over_videos["mean"]["CC"] == pytest.approx(0.5) and over_videos["frames"] == 3
    assert [v["mean"]["CC"] for v in over_videos["videos"]] == [pytest.approx(0.2), 0.8]
    over_frames = summarise(clips, replace(PROTOCOLS["released"], average="frames"), ["m"])[0]["models"][0]
    assert over_frames["mean"]["CC"] == pytest.approx(0.4) and PROTOCOLS["dhf1k"].average == "frames"


def test_a_metric_that_is_not_defined_is_left_out_and_counted():
    clips = clips_of([0.1, 0.3], [0.8])
    clips[0].scores["m"][1][2] = None
    found = summarise(clips, PROTOCOLS["released"], ["m"])[0]["models"][0]
    assert found["nan"] == {"CC": 0, "SIM": 0, "NSS": 1, "AUC-J": 0}
    assert found["mean"]["NSS"] == pytest.approx((0.1 + 0.8) / 2)


def test_the_interval_is_that_of_the_mean_over_clips():
    values = np.random.default_rng(0).normal(0.5, 0.1, 40)
    found = summarise(clips_of(*([v] for v in values)), PROTOCOLS["released"], ["m"])[0]["models"][0]
    error = 1.96 * values.std(ddof=0) / 40**0.5
    assert found["interval"]["CC"] == pytest.approx([values.mean() - error, values.mean() + error], abs=0.004)
    alone = summarise(clips_of([0.5]), PROTOCOLS["released"], ["m"])[0]["models"][0]
    assert alone["interval"]["CC"] is None and alone["mean"]["CC"] == 0.5


def shape_of(value):
    """The keys and types of a document, of lists that of their first item."""
    if isinstance(value, dict):
        return {key: shape_of(v) for key, v in value.items()}
    return [shape_of(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_the_example_of_the_schema_is_what_is_written(copy, tmp_path):
    example = scores.read(Path(__file__).parents[1] / "golden/scores.json")
    document = evaluate.score(_played(copy, tmp_path), copy("gaze"), tmp_path / "out", protocol="gaze", split="play",
                              workers=1)
    written = json.loads((tmp_path / "out/scores.json").read_text())
    written["published"], written["problems"] = published_rows(["dhf1k"]), ["a line"]
    written["settings"] = example["settings"]
    assert shape_of(written) == shape_of(example) and document["problems"] == []


def _played(copy, tmp_path: Path) -> Path:
    write_maps(copy("gaze"), "gaze", tmp_path / "m", split="play")
    return tmp_path / "m"


@pytest.mark.parametrize(("text", "message"), [
    ("{", "not JSON"), ("[]", "not a file of scores"), ('{"schema": "diffsal.scores", "version": 9}', "version 9")])
def test_other_files_are_not_taken_for_scores(tmp_path, text, message):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(InputError, match=message):
        scores.read(tmp_path / "scores.json")


def test_published_rows_are_the_papers():
    rows = {(r["method"], r["dataset"]): r for r in published_rows()}
    assert rows["DiffSal", "hollywood2"]["mean"] == {"CC": 0.765, "NSS": 3.955, "AUC-J": 0.951, "SIM": 0.61}
    assert rows["DiffSal", "dhf1k"]["parameters"] == 70_540_000
    assert rows["DiffSal (S3D)", "etmd"]["mean"] == {"CC": 0.637, "SIM": 0.492}
    assert ("VSFT", "ucf_sports") not in rows and all(r["source"] for r in rows.values())
    assert len([r for r in rows.values() if "Table 8" in r["source"]]) == 24
    assert {r["dataset"] for r in published_rows(["avad"])} == {"avad"}


def test_half_read_videos_still_count(copy, tmp_path):
    class Half(Oracle):
        def maps(self, clip, wanted, problems):
            for index in wanted:
                yield index, clip.saliency_map(index) if index < 9 else InputError(f"{clip.video}: frame {index}")

    clips = DATASETS["avad"](copy("avad"), "test")
    head = scores.document_head("evaluate", "avad", copy("avad"), PROTOCOLS["stavis"], {})
    document = scoring.score_clips(clips[:1], [Half()], "stavis", tmp_path, head=head)
    assert model(document, "oracle")["frames"] == 9
    assert document["sets"][0]["frames"]["skipped"]["no usable map"] == clips[0].num_frames - 9


def test_frames_are_seeded_by_name_not_by_order(copy, tmp_path):
    clips = DATASETS["ucf_sports"](copy("ucf_sports"), "test")
    torch.manual_seed(5)
    head = scores.document_head("evaluate", "ucf_sports", copy("ucf_sports"), PROTOCOLS["mit"], {})
    a = scoring.score_clips(clips, [Oracle()], "mit", tmp_path / "a", head=head, all_clips=clips)
    b = scoring.score_clips(clips[::-1], [Oracle()], "mit", tmp_path / "b", head=head, all_clips=clips)
    by_name = [{v["name"]: v["mean"] for v in model(d, "oracle")["videos"]} for d in (a, b)]
    assert by_name[0] == by_name[1]
