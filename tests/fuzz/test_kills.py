"""Processes that are killed at any moment: the same command, run again, gives what an undisturbed run gives."""

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from diffsal.data.databases import synthetic
from tests import processes
from tests.fuzz import CASES, NUM_KINDS, SECONDS, SEED, report
from tests.movies import tone, write_movie

LEAST_KILLS = 2


def command(*arguments) -> list[str]:
    return [str(argument) for argument in arguments]


def finish(arguments, folder) -> float:
    """Run to the end; the seconds that it took."""
    told = folder.with_name(f"{folder.name}.told")
    began = time.monotonic()
    assert processes.run(processes.command, arguments, folder, told=told) == [0], told.read_text()
    return time.monotonic() - began


def kill_after(arguments, folder, seconds: float) -> bool:
    """Start, wait, kill it and its children; whether it was still running."""
    process = processes.start(processes.command, arguments, folder)
    process.join(seconds)
    if process.exitcode is not None:
        return False
    with suppress(ProcessLookupError):  # not even begun
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    return True


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def campaign(kind: str, prepared: Path, arguments: list[str], compare, tmp_path: Path, again=lambda root: []) -> None:
    """Kill at random moments in fresh copies of ``prepared`` for this kind's share of the time.

    ``again(root)`` is what the command needs beside ``arguments`` where it was killed before.
    """
    whole = tmp_path / "whole"
    shutil.copytree(prepared, whole)
    seconds, rng = finish(arguments, whole), np.random.default_rng([SEED, *kind.encode()])
    expected, kills, end = compare(whole), 0, time.monotonic() + 2 * SECONDS / NUM_KINDS
    while kills < LEAST_KILLS or (kills < CASES // 10 if CASES else time.monotonic() < end):
        root = tmp_path / f"cut{kills}"
        shutil.copytree(prepared, root)
        for _ in range(int(rng.integers(1, 4))):
            kill_after([*arguments, *again(root)], root, float(rng.uniform(0.2, 1.0)) * seconds)
        kills += 1
        if compare(root) != expected or list(root.rglob(".*")):  # the next run removes what a killed one left
            finish([*arguments, *again(root)], root)
        assert compare(root) == expected, root
        assert not [p for p in root.rglob(".*")], root
        shutil.rmtree(root)
    report(kind, kills, 0, seconds)


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_prepare(tmp_path):
    root = synthetic.write("gaze", tmp_path / "prepared")
    shutil.rmtree(root / "gaze/play")
    for name in ("ball", "kite"):
        (root / "samples/play").mkdir(parents=True, exist_ok=True)
        (root / f"samples/play/{name}.csv").write_text(
            "observer,t_ms,x,y\n" + "".join(f"1,{t},{20 + 10 * (t > 300)},20\n" for t in range(0, 700, 4)))
    shutil.make_archive(str(root / "images"), "zip", root, "images")
    shutil.rmtree(root / "images")
    arguments = command("prepare", "gaze", "--data", ".", "--pixels-per-degree", 4)
    campaign("kill: prepare", root, arguments, contents, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_evaluate(tmp_path, weights):
    root = synthetic.write("hollywood2", tmp_path / "prepared")

    def sets(folder: Path):
        path = folder / "out/scores.json"
        if not path.exists():
            return None
        maps = contents(folder / "maps")
        return json.loads(path.read_text())["sets"], maps

    arguments = command("evaluate", "hollywood2", "--data", ".", "--weights", weights, "--workers", 1, "--out", "out",
                        "--maps", "maps", "--force", "--no-baselines")
    campaign("kill: evaluate", root, arguments, sets, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_predict(tmp_path):
    root = tmp_path / "prepared"
    root.mkdir()
    write_movie(root / "a.mp4", num_frames=40, sound=tone(1.6, 44_100), sound_rate=44_100)
    arguments = command("predict", "a.mp4", "-o", "out.mp4", "--maps", "maps", "--npz", "a.npz", "--json", "a.json",
                        "--moments", "m.png", "--qp-map", "q.csv", "--force")
    campaign("kill: predict", root, arguments, contents, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no signals")
@pytest.mark.skipif(SECONDS < 600 and not CASES, reason="in the campaign; tests/training/test_engine.py kills at three")
def test_train(tmp_path):
    from tests.processes import NARROW

    root = synthetic.write("dhf1k", tmp_path / "prepared/data").parent

    def weights(folder: Path) -> dict[str, bytes] | None:
        path = folder / "run/dhf1k.safetensors"
        return {name: value.tobytes() for name, value in load_file(path).items()} if path.exists() else None

    arguments = command("train", "dhf1k", *NARROW, "--data", "data", "--out", "run")
    campaign("kill: train", root, arguments, weights, tmp_path,
             lambda root: ["--resume"] if (root / "run/last.pt").exists() else [])
