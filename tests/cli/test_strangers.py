"""What every command does with what strangers give: inputs that are named as outputs, names, errors of libraries."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from diffsal.cli import commands as cli
from diffsal.cli.options import check_output, say
from diffsal.errors import InputError
from tests.commands import outcome
from tests.movies import write_movie


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """``run("shots", "a.mp4")`` in ``tmp_path`` → (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    return lambda *arguments: outcome(capsys, *arguments)


@pytest.mark.parametrize("line", [
    "explain picture.png -o picture.png",
    "reframe picture.png -o picture.png",
    "reframe a.mp4 --path path.json -o path.json",
    "thumbnail picture.png -o .",
    "qp-map picture.png -o .",
    "regions a.mp4 --roi logo=boxes.csv -o boxes.csv",
    "regions a.mp4 --roi logo=masks -o masks/000000.png",
    "regions a.mp4 --roi logo=0,0,1,1 --ground-truth boxes.csv -o boxes.csv",
    "compare a.mp4 --maps m=masks -o masks/000000.png",
    "compare a.mp4 a.mp4 --roi logo=boxes.csv -o boxes.csv",
    "predict a.mp4 --roi logo=masks/000000.png --json a.json --sheet masks/000000.png",
    "predict a.mp4 -o link.mp4",
])
def test_no_input_is_overwritten_with_force(run, tmp_path, line):
    write_movie(tmp_path / "a.mp4", num_frames=2)
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks/000000.png"), np.full((48, 64), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "boxes.csv").write_text("t_s,left,top,right,bottom\n0,0,0,1,1\n")
    (tmp_path / "path.json").write_text("{}")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, _, error = run(*line.split(), "--force")
    assert code == 1 and error.count("\n") == 1 and ("is the input itself" in error or "own pictures" in error), error
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_what_is_no_input_is_overwritten_with_force(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.png").touch()
    check_output(Path("old.png"), True, (".png",), None, "compact", "logo=0,0,1,1", Path("boxes.csv"), "")
    with pytest.raises(InputError, match="exists already"):
        check_output(Path("old.png"), False, (".png",), "compact")


def test_names_cannot_steer_a_terminal(capsys):
    say("a\x1b[2J\nb\udce9.mp4: 2 frames")
    assert capsys.readouterr().out == "a\ufffd[2J b\ufffd.mp4: 2 frames\n"


def test_whatever_a_library_raises_is_one_line(run, monkeypatch):
    from diffsal.weights import describe

    def fail(name):
        raise cv2.error("OpenCV(4.10)\n> Assertion failed\n")

    monkeypatch.setattr(describe, "describe", fail)
    code, _, error = run("info", "mine.safetensors")
    assert code == 1 and error.count("\n") == 1 and "mine.safetensors: cannot be done (error: OpenCV" in error
    monkeypatch.setenv("DIFFSAL_TRACEBACKS", "1")
    monkeypatch.chdir("/")
    with pytest.raises(cv2.error):
        cli.main(["info", "mine.safetensors"])
