"""What predicts needs no torch: the command runs where importing torch, or anything of the extra, fails."""

import subprocess
import sys

import pytest

from tests.movies import tone, write_movie

FORBIDDEN = ("torch", "scipy", "safetensors", "einops", "torchmetrics", "accelerate", "huggingface_hub", "jinja2",
             "tensorboard", "onnx", "onnxscript", "matplotlib")
SLOW = ("rich", "jaxtyping", "unittest", "asyncio", "PIL.ImageDraw")  # to import, for nothing
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys({names}))  # None there: not installed
from diffsal.cli import main
main(sys.argv[1:])
"""


def run(*arguments: object, without: tuple[str, ...] = FORBIDDEN) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", PROGRAM.format(names=without), *map(str, arguments)],
                          capture_output=True, text=True, timeout=120)


def test_without_a_terminal_predict_imports_nothing_that_it_does_not_use(tmp_path):
    video = write_movie(tmp_path / "a.mp4", num_frames=3, sound=tone(0.12, 16_000))
    result = run("predict", video, "-o", tmp_path / "out.mp4", without=SLOW)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.mp4").stat().st_size and "3 frames" in result.stdout


@pytest.mark.parametrize("sound", [True, False])
def test_predict_runs_without_torch(tmp_path, sound):
    video = write_movie(tmp_path / "a.mp4", num_frames=12, sound=tone(0.48, 16_000) if sound else None)
    result = run("predict", video, "-o", tmp_path / "out.mp4", "--maps", tmp_path / "maps", "--npz", tmp_path / "a.npz",
                 "--json", tmp_path / "a.json", "--sheet", tmp_path / "sheet.png", "--steps", 2)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.mp4").stat().st_size and len(list((tmp_path / "maps").glob("*.png"))) == 12


def test_a_command_that_needs_torch_says_so_in_one_line(tmp_path):
    video = write_movie(tmp_path / "a.mp4", num_frames=3)
    for arguments in (["predict", video, "--engine", "torch", "-o", tmp_path / "b.mp4"],
                      ["explain", video, "-o", tmp_path / "b.png"],
                      ["train", "compact", "--data", tmp_path, "--out", tmp_path / "run"]):
        result = run(*arguments)
        assert result.returncode == 1 and 'pip install "diffsal[torch]"' in result.stderr, (arguments, result.stderr)
        assert len(result.stderr.strip().splitlines()) == 1
