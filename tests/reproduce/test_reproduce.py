"""Each target of the paper from synthetic data to what it shows, by tiny networks; what it takes; what is refused."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from diffsal.errors import InputError
from diffsal.media.pictures import read_picture
from diffsal.reproduce import costs, pictures, run, tables
from diffsal.reproduce.steps import Training, in_order
from diffsal.reproduce.targets import FOLDS, TARGETS, Request, target
from tests.commands import outcome
from tests.narrow import narrow_encoders  # noqa: F401

pytestmark = [pytest.mark.xdist_group("reproduce"), pytest.mark.timeout(900)]  # the targets share runs


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The folder of all five targets: what one has trained, the next does not."""
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture
def reproduced(out, capsys, narrow_encoders):  # noqa: F811
    """``reproduced("table8")`` runs the command, narrow → (stdout, stderr)."""

    def run(name: str, *options: str) -> tuple[str, str]:
        code, *told = outcome(capsys, "reproduce", name, "--narrow", "--out", str(out), *options)
        assert code == 0, told
        return tuple(told)

    return run


def test_table8(out, reproduced):
    told, _ = reproduced("table8")
    document = json.loads((out / "narrow/table8.json").read_text())
    rows = {(row["method"], row["whose"]): row for row in document["rows"]}
    assert len(document["rows"]) == 11 and rows["TASED-Net", "the paper's"]["mean"]["dhf1k"]["NSS"] == 2.541
    paper, ours, apart = (rows["DiffSal", whose] for whose in ("the paper's", "ours", "ours less the paper's"))
    assert paper["parameters"] == 70_540_000 and paper["mean"]["ucf_sports"]["SIM"] == 0.543
    for name in ("dhf1k", "hollywood2", "ucf_sports"):
        scores = out / f"narrow/scores/ntire/{'mvit_v2_s-video' if name == 'dhf1k' else name}/{name}/scores.json"
        mean = json.loads(scores.read_text())["sets"][0]["models"][0]["mean"]
        for metric in ("CC", "NSS", "AUC-J", "SIM"):
            assert ours["mean"][name][metric] == pytest.approx(mean[metric])
            assert apart["mean"][name][metric] == pytest.approx(mean[metric] - paper["mean"][name][metric])
    assert "| DiffSal | the paper's | 70.54 M | 161.06 G | 0.533 | 3.066 | 0.918 | 0.405 |" in told


def test_figure7(out, reproduced):
    reproduced("figure7")
    assert read_picture(out / "narrow/figure7.png").shape[1] > 1600  # two pairs side by side
    assert sorted(p.name for p in (out / "narrow/figure7").iterdir()) == ["avad-clip_1.png", "coutrot2-clip_1.png"]


def test_table7(out, reproduced):
    reproduced("table7")
    document = json.loads((out / "narrow/table7.json").read_text())
    rows = {(row["method"], row["whose"]): row for row in document["rows"]}
    assert [row["method"] for row in document["rows"]] == [
        *["DiffSal (3D ResNet)"] * 3, "STAViS", *["DiffSal (S3D)"] * 3, "CASP-Net", *["DiffSal (MViT)"] * 3]
    assert rows["STAViS", "the paper's"]["mean"] == {}
    assert rows["DiffSal (S3D)", "the paper's"]["mean"]["coutrot1"] == {"CC": 0.578, "SIM": 0.469}
    for name in ("avad", "etmd", "coutrot1"):  # one test video in each fold: the mean of three
        read = [json.loads((out / f"narrow/scores/ntire/mvit_v2_s-fold{f}/{name}/scores.json").read_text())
                for f in FOLDS]
        videos = [document["sets"][0]["models"][0]["videos"] for document in read]
        assert [[v["name"] for v in found] for found in videos] == [["clip_1"], ["clip_2"], ["clip_3"]]
        ccs = [found[0]["mean"]["CC"] for found in videos]
        ours = rows["DiffSal (MViT)", "ours"]
        assert ours["folds"][name]["CC"] == pytest.approx(ccs) and len(set(ccs)) == 3
        assert ours["mean"][name]["CC"] == pytest.approx(sum(ccs) / 3)
        assert len(rows["DiffSal (S3D)", "ours"]["folds"][name]["CC"]) == 1  # to be quick; not without --narrow


def test_figure6(out, reproduced):
    reproduced("figure6")
    document = json.loads((out / "narrow/figure6.json").read_text())
    assert [row["method"] for row in document["rows"]] == ["1 stage", "2 stages", "3 stages", "4 stages", "4 stages"]
    read = [json.loads((out / f"narrow/scores/ntire/mvit_v2_s-fold{f}/etmd/scores.json").read_text()) for f in FOLDS]
    sims = [one["sets"][0]["models"][0]["mean"]["SIM"] for one in read]  # Table 7's networks have four stages
    assert document["rows"][3]["mean"]["etmd"]["SIM"] == pytest.approx(sum(sims) / 3)
    assert document["rows"][4]["mean"] == {"avad": {"CC": 0.738, "SIM": 0.571}, "etmd": {"CC": 0.652, "SIM": 0.506}}
    image = read_picture(out / "narrow/figure6.png")
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20 and (out / "narrow/figure6.pdf").stat().st_size > 5000
    for stages in (1, 2, 3):
        config = json.loads((out / f"narrow/runs/stages{stages}-fold1/config.json").read_text())
        assert config["model"]["modulation_stages"] == stages and config["train"]["fold"] == 1


def test_figures8_and_9(out, reproduced):
    maps = out / "narrow/maps/mvit_v2_s-fold1"
    _, told = reproduced("figures8-9")
    assert "--maps CASP-Net=DIR --maps STAViS=DIR shows others" in told
    alone = read_picture(out / "narrow/figure8.png").shape
    _, told = reproduced("figures8-9", "--maps", f"CASP-Net={maps / 'avad'}")
    assert told == "figures8-9: 1 of 1: figures8-9\n"  # nothing was predicted again
    wider = read_picture(out / "narrow/figure8.png").shape
    assert wider[1] > alone[1] + 300 and read_picture(out / "narrow/figure9.png").shape[2] == 3


def test_what_was_stopped_goes_on(out, reproduced, monkeypatch):
    """Only what is missing is done again, and nothing that only what is done needs."""
    narrow = out / "narrow"
    reproduced("table8")
    asked = run.plan("table8", None, out, narrow=True)
    assert [step.name for step in in_order(asked, missing_only=True)] == ["table8"]
    (narrow / "scores/ntire/hollywood2/hollywood2/scores.json").unlink()
    assert [step.name for step in in_order(asked, missing_only=True)] == ["hollywood2 on hollywood2", "table8"]
    (narrow / "runs/hollywood2/hollywood2.safetensors").rename(narrow / "kept.safetensors")
    assert [step.name for step in in_order(asked, missing_only=True)] == [
        "hollywood2", "hollywood2 on hollywood2", "table8"]
    (narrow / "kept.safetensors").rename(narrow / "runs/hollywood2/hollywood2.safetensors")
    with pytest.raises(InputError, match=r"mvit_v2_s-video: was trained with batch_size=2, not 3; give another --out"):
        run.reproduce("table8", None, out, narrow=True, settings=["batch_size=3"])
    monkeypatch.setattr("diffsal.reproduce.steps.train", lambda *a: None)
    (narrow / "runs/hollywood2/hollywood2.safetensors").unlink()
    with pytest.raises(InputError, match=r"runs/hollywood2: stopped and saved; the same command goes on"):
        run.reproduce("table8", None, out, narrow=True)


def test_weights_that_are_given_are_not_trained(tmp_path, weights):
    found = run.reproduce("figure7", None, tmp_path, weights={"": weights}, narrow=True)
    assert found.problems == [] and found.results[0].exists() and not (tmp_path / "narrow/runs").exists()
    networks = {"mvit_v2_s": weights, "s3d-fold1": "s3d.safetensors", "stages2": "two.safetensors"}
    (one, *others) = (in_order(run.plan("table7", tmp_path, tmp_path, {k: v})) for k, v in list(networks.items())[:2])
    trained = [{step.name for step in steps if isinstance(step, Training)} for steps in (one, *others)]
    assert not any("mvit" in name for name in trained[0]) and "s3d-video" in trained[0]
    assert {"s3d-video", "s3d-fold2", "mvit_v2_s-fold1"} <= trained[1] and "s3d-fold1" not in trained[1]
    trained = {s.name for s in in_order(run.plan("figure6", tmp_path, tmp_path, {"stages2": "two.safetensors"}))
               if isinstance(s, Training)}
    assert "stages1-fold3" in trained and not any(name.startswith("stages2") for name in trained)
    steps = {s.name: s for s in in_order(run.plan("table8", tmp_path, tmp_path, {"dhf1k": "video.safetensors"}))}
    hollywood2 = steps["hollywood2"]  # starts from the weights that were given
    assert isinstance(hollywood2, Training) and hollywood2.init_files() == [Path("video.safetensors")]
    assert {name for name, step in steps.items() if isinstance(step, Training)} == {"hollywood2", "ucf_sports"}
    with pytest.raises(InputError, match=r"--weights stages5=…: figure6 has no such network"):
        run.plan("figure6", tmp_path, tmp_path, {"stages5": "five.safetensors"})


def test_a_dry_run_is_a_shell_script(tmp_path, capsys):
    code, text, _ = outcome(capsys, "reproduce", "table8", "precision=bf16", "--data", str(tmp_path / "no data"),
                            "--out", str(tmp_path), "--device", "cuda", "--dry-run")
    lines = text.splitlines()
    assert code == 0
    commands = [shlex.split(line) for line in lines if line and not line.startswith("#")]
    assert [c[1] for c in commands] == ["train", "evaluate", "train", "evaluate", "train", "evaluate",
                                        "reproduce"]
    assert commands[-1][2:4] == ["table8", "precision=bf16"] and "--dry-run" not in commands[-1]
    assert not list(tmp_path.iterdir())  # nothing was done
    assert commands[0][2:] == ["dhf1k", "--data", str(tmp_path / "no data"), "--out",
                               str(tmp_path / "runs/mvit_v2_s-video"), "--resume", "video_encoder=mvit_v2_s",
                               "precision=bf16"]
    assert commands[2][commands[2].index("--init") + 1] == str(tmp_path / "runs/mvit_v2_s-video/best.safetensors")
    assert commands[1][commands[1].index("--protocol") + 1] == "released"
    for command in commands:  # each is one that the command line knows
        assert outcome(capsys, *command[1:], "--help")[0] == 0
    assert "# lacks --init mvit_v2_s=FILE" in text and "hours unknown (the data are not there)" in text
    # 346,140 frames, a window per 16, 3 epochs, 206 G multiply-accumulates three times over, at 25 T a second
    hours = 346_140 / 16 * 3 * 206e9 * 3 / 25e12 / 3600
    assert f"# 1. mvit_v2_s-video: {hours:.2g} h, 1.8 GB" in text


def test_nothing_begins_that_cannot_end(tmp_path):
    with pytest.raises(InputError, match=r"mvit_v2_s-video: the paper starts from pretrained encoders: give --init"):
        run.reproduce("table8", tmp_path, tmp_path)
    scores = tmp_path / "scores/released"
    for place in ("mvit_v2_s-video/dhf1k", "hollywood2/hollywood2", "ucf_sports/ucf_sports"):
        (scores / place).mkdir(parents=True)
        (scores / place / "scores.json").write_text("{}")
    with pytest.raises(InputError, match=r"scores.json"):  # all is scored: nothing lacks, but these are no scores
        run.reproduce("table8", tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"tabel7: no such target: did you mean table7"):
        run.reproduce("tabel7", tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"--init i3d=…: table8 begins with mvit_v2_s"):
        run.plan("table8", tmp_path, tmp_path, init={"i3d": None})
    with pytest.raises(InputError, match=r"give the folder of the databases with --data, or --narrow"):
        run.plan("table8", None, tmp_path)
    lacking = [step.lacks for step in in_order(run.plan("table8", tmp_path, tmp_path, init={"mvit_v2_s": None}))
               if isinstance(step, Training)]
    assert lacking == [(), (), ()]
    given = Request(tmp_path, tmp_path, init={"mvit_v2_s": tmp_path / "k.safetensors", "vggish": None})
    (first, *_), last = (steps := in_order(given.with_sound(2)))  , steps[-1]
    assert first.init == (tmp_path / "k.safetensors",) and last.init == (first,) and last.settings[-1] == "fold=2"


def test_folds_are_pooled_by_video_or_by_frame():
    def document(average, *videos):
        return {"protocol": {"average": average}, "sets": [{"models": [{"videos": [
            {"frames": frames, "mean": {"CC": value}} for frames, value in videos]}]}]}

    both = [document("videos", (10, 0.2), (10, 0.4)), document("videos", (80, 0.9), (5, None))]
    assert tables.pooled(both, "CC") == pytest.approx((0.2 + 0.4 + 0.9) / 3)
    for one in both:
        one["protocol"]["average"] = "frames"
    assert tables.pooled(both, "CC") == pytest.approx((2 + 4 + 72) / 100)
    assert tables.pooled([document("videos", (5, None))], "CC") is None


def test_stages_count_alike_in_figure_7():
    coarse, fine = np.full((1, 2), 100.0), np.array([[1.0, 3.0, 1.0, 3.0], [1.0, 3.0, 1.0, 3.0]])
    np.testing.assert_allclose(pictures.common_area([coarse, fine]), (1 + fine / 2) / 2)


def test_frames_are_counted_from_lists_or_clips(tmp_path):
    data = run.write_copies("table7", tmp_path)
    costs.frames_of.cache_clear()
    assert costs.frames_of(data, "avad", "train", 1) == 12 and costs.frames_of(data, "avad", "test", 2) == 6
    assert costs.frames_of(data, "dhf1k", "train", None) == 12
    assert costs.frames_of(tmp_path / "none", "dhf1k", "train", None) == 346_140
    assert costs.frames_of(tmp_path / "none", "etmd", "train", 1) is None
    assert set(TARGETS) == {"table7", "figure6", "figure7", "table8", "figures8-9"} and target("table8")
