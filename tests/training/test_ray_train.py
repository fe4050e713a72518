"""``examples/ray_train.py``, narrowed, with two processes of which one is killed: the weights of an unbroken run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffsal.data.databases import synthetic
from diffsal.training.recipes import train
from tests.processes import NARROW, run

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray.train", exc_type=ImportError)
pytestmark = [
    pytest.mark.timeout(400), pytest.mark.xdist_group("ray"),
    # Other numbers of threads round otherwise, and Adam makes a step of any rounding of a gradient near zero
    pytest.mark.skipif(torch.get_num_threads() != 1, reason="Ray gives each process one thread: OMP_NUM_THREADS=1"),
]
EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_train.py"
SETTINGS = [*NARROW, "epochs=2", "window_stride=9", "hold_out=2", "validation_windows=1"]


def test_two_processes_of_which_one_is_killed(tmp_path):
    data = tmp_path / "data"
    synthetic.write("ucf_sports", data / "ucf_sports")
    assert run(train, "ucf_sports", data, tmp_path / "whole", [], False, SETTINGS, processes=2) == [0, 0]
    out = tmp_path / "ray"
    command = [sys.executable, str(EXAMPLE), "ucf_sports", *SETTINGS, "--data", str(data), "--out", str(out)]
    with (tmp_path / "log").open("w") as log:
        example = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while example.poll() is None and not (out / "last.pt").exists():
            time.sleep(0.05)
        started = psutil.Process(example.pid).children(recursive=True)
        workers = [process for process in started if is_worker(process)]
        assert len(workers) == 2, (tmp_path / "log").read_text()
        workers[1].kill()
        assert example.wait(900) == 0, (tmp_path / "log").read_text()
    finally:
        example.kill()
    assert len(json.loads((out / "environment.json").read_text())) == 2  # begun, and gone on with
    whole, again = (load_file(folder / "ucf_sports.safetensors") for folder in (tmp_path / "whole", out))
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)


def is_worker(process) -> bool:
    try:
        return any("RayTrainWorker" in part for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False
