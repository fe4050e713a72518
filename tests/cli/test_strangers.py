"""What every command does with what strangers give: inputs that are named as outputs, names, errors of libraries."""

import gzip
import json
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffsal.cli import commands as cli
from diffsal.cli.options import check_output, say
from diffsal.config import ModelConfig
from diffsal.data.databases import synthetic
from diffsal.errors import InputError
from diffsal.weights.metadata import CONFIG_KEY
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


def header(*tensors: tuple[str, dict], size: int | None = None, config: str | None = None) -> bytes:
    """The beginning of a safetensors file: the header's length (or ``size``), then the header."""
    metadata = {CONFIG_KEY: json.dumps(ModelConfig().to_dict()) if config is None else config}
    text = json.dumps({"__metadata__": metadata, **{name: {
        "dtype": "F32", "shape": [2], "data_offsets": [0, 8], **values} for name, values in tensors}}).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


DEEP = "[" * 100_000
BAD = {  # by the ending of their names
    "any": {
        "missing": None, "empty": b"", "text": b"hello\n", "zeros": bytes(4000),
        "noise": np.random.default_rng(0).bytes(4000), "folder": Path()},
    "json": {
        "list": b"[]", "null": b"null", "deep": DEEP.encode(), "wide": "{}".encode("utf-16"),
        "number": b'{"version": ' + b"9" * 5000 + b"}", "bare": b'{"schema": "diffsal.scores", "version": 1}',
        "odd": b'{"schema": "diffsal.scores", "version": 1, "sets": [{"name": 3}], "protocol": 5, "published": 7}'},
    "safetensors": {
        "huge": header(size=1 << 60), "large": header(size=100_000_001), "deep": header(config=DEEP),
        "overlap": header(("a", {}), ("b", {"data_offsets": [4, 12]})) + bytes(12),
        "hole": header(("a", {}), ("b", {"data_offsets": [12, 20]})) + bytes(20),
        "kind": header(("a", {"dtype": "F33"})) + bytes(8), "small": header(("a", {"dtype": "I64"})) + bytes(8),
        "below": header(("a", {"shape": [-2]})) + bytes(8), "over": header(("a", {"shape": [1 << 62, 4]})) + bytes(8),
        "beyond": header(("a", {"data_offsets": [0, 800]})) + bytes(8), "more": header(("a", {})) + bytes(80),
        "back": header(("a", {"data_offsets": [8, 0]})) + bytes(8), "other": header(("a", {})) + bytes(8)},
}
MATRIX = [(line, f"{name}.{ending}", data) for line, endings in {
    "report BAD -o page.html": ("json",), "info BAD": ("safetensors", "onnx"), "export BAD out.onnx": ("safetensors",),
    "convert BAD out.safetensors": ("safetensors", "pth"), "score BAD BAD --protocol mit": ("maps",),
}.items() for ending in endings for name, data in {**BAD["any"], **BAD.get(ending, {})}.items()]


@pytest.mark.parametrize(("line", "name", "data"), MATRIX, ids=[f"{m[0].split()[0]}-{m[1]}" for m in MATRIX])
def test_a_bad_input_is_one_line_that_names_it(run, tmp_path, line, name, data):
    if isinstance(data, bytes):
        (tmp_path / name).write_bytes(data)
    elif data is not None:
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, out, error = run(*line.replace("BAD", name).split())
    assert code == 1 and error.count("\n") == 1 and name in error and "cannot be done" not in error, error
    assert out == "" and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("line", [
    "prepare gaze --data gaze --workers 2", "evaluate gaze --data gaze --split play --out out --workers 1",
    "evaluate gaze --data gaze --split play --out out --maps maps --workers 1"])
@pytest.mark.parametrize(("number", "reason", "hint"), [
    (28, "No space left on device", "; make room there, or write elsewhere"),
    (30, "Read-only file system", "; write elsewhere")])
def test_a_full_disk_is_one_line_that_names_a_file(run, tmp_path, monkeypatch, line, number, reason, hint):
    """The first file ends it: others would fare no better. What is written says no name, as a library's writes do."""
    def full(*arguments):
        raise OSError(number, reason)

    synthetic.write("gaze", tmp_path / "gaze")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, error = run(*line.split())
    assert code == 1 and error.count("\n") == 1, error
    name, _, words = error.removeprefix("diffsal: ").partition(": ")
    assert Path(name).suffix in (".png", ".json", ".csv") and words == f"{reason}{hint}\n"
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_archive_that_is_damaged_is_told_before_what_it_should_have_held(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.tar.gz").write_bytes(gzip.compress(gzip.compress(bytes(10_240))))
    code, _, error = run("prepare", "dhf1k", "--data", "data")
    assert code == 1 and error.count("\n") == 1 and "a.tar.gz: damaged or cut short" in error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_told_and_not_waited_for(run, tmp_path):
    root = synthetic.write("gaze", tmp_path / "gaze")
    table = next((root / "gaze").glob("*/*.csv"))
    table.unlink()
    (tmp_path / "folder.mp4").mkdir()
    for pipe in (table, tmp_path / "a.png", tmp_path / "a.mp4", tmp_path / "scores.json"):
        os.mkfifo(pipe)
    for line, named in ((f"validate gaze --data {root}", table), (f"predict {tmp_path}", tmp_path / "a.mp4"),
                        (f"predict {tmp_path}/a.png", tmp_path / "a.png"),
                        (f"report {tmp_path}/scores.json", tmp_path / "scores.json")):
        code, _, error = run(*line.split())
        assert code == 1 and error.splitlines() == [
            f"diffsal: {named}: is a pipe, a socket or a device; write what it gives into a file first"]


def test_a_name_that_is_too_long_and_a_folder_among_pictures(run, tmp_path):
    long = tmp_path / f"{'x' * 250}.mp4"
    write_movie(long)
    code, _, error = run("predict", str(long))
    assert code == 1 and error.endswith("File name too long; give a shorter name\n") and error.count("\n") == 1
    (tmp_path / "pictures/1.png").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "pictures/2.png"), np.zeros((48, 64, 3), np.uint8))
    assert run("predict", str(tmp_path / "pictures"), "--maps", str(tmp_path / "maps"), "--only-maps")[0] == 0
