"""An evaluation on Ray gives the scores of one on this machine, whatever dies."""

import json
import os
from pathlib import Path

import pytest

from diffsal.cluster.evaluate import pool_on_ray
from diffsal.data.databases import DATASETS, synthetic
from diffsal.scoring.jobs import score_clips
from diffsal.scoring.protocols import PROTOCOLS
from diffsal.scoring.results import document_head
from tests.commands import outcome
from tests.standin import Oracle

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("ray"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return synthetic.write("avad", tmp_path_factory.mktemp("avad"), None)


def test_the_command_gives_the_same_files(cluster, root, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(root.parent)
    for out, more in (("here", ["--workers", "1"]), ("ray", ["--cluster"])):
        assert outcome(capsys, "evaluate", "avad", "--data", root.name, "--split", "test", "--weights", str(weights),
                       "--out", str(tmp_path / out), "--maps", str(tmp_path / f"{out} maps"), *more)[0] == 0
    here, there = (json.loads((tmp_path / out / "scores.json").read_bytes()) for out in ("here", "ray"))
    assert {**here, "made": ""} == {**there, "made": ""} and len(here["sets"][0]["models"][0]["videos"]) > 1
    for name in ("per_frame.csv", "per_video.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()
    maps = [{p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.png")}
            for folder in (tmp_path / "here maps", tmp_path / "ray maps")]
    assert maps[0] == maps[1] and len(maps[0]) > 10


class Deadly(Oracle):
    """The ground truth as a model's maps; it ends its process once at one clip and always at another."""

    name = "deadly"

    def __init__(self, folder: Path, once: str, always: str) -> None:
        self.folder, self.once, self.always = folder, once, always

    def maps(self, clip, wanted, problems):
        first = not (self.folder / clip.name).exists()
        (self.folder / clip.name).touch()
        if clip.name == self.always or (clip.name == self.once and first):
            os._exit(3)
        yield from super().maps(clip, wanted, problems)


def test_a_clip_that_ends_its_process_twice_is_named_and_the_rest_is_scored(cluster, root, tmp_path):
    clips = DATASETS["avad"](root, "test")
    head = document_head("evaluate", "avad", root, PROTOCOLS["stavis"], {})
    deadly = Deadly(tmp_path, clips[0].name, clips[1].name)
    found = score_clips(clips, [deadly], "stavis", tmp_path / "out", head=head, pool=pool_on_ray())
    (one_set,) = found["sets"]
    assert {v["name"] for v in one_set["models"][0]["videos"]} == {clip.name for clip in clips} - {clips[1].name}
    (problem,) = found["problems"]
    assert clips[1].name in problem and "ended the process" in problem
