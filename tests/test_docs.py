"""The site: it builds without a warning, every command it shows runs, and every command there is stands on it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STARTED = (ROOT / "docs/getting-started.md").read_text()
ELSEWHERE = {  # tested in their own files, or the installation itself
    "pip install .": "makes an environment", "make test": "this", "diffsal web": "tests/web/test_page.py",
}


def shown(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", STARTED, re.DOTALL)


COMMANDS = [line for block in shown("sh") for line in block.splitlines() if line not in ELSEWHERE]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_that_the_site_shows_runs(copy, line):
    program, *arguments = line.split()
    assert program == "diffsal"
    arguments = [a if a != "1" or arguments[i - 1] != "--end" else "0.2" for i, a in enumerate(arguments)]
    command = [sys.executable, "-m", "diffsal.cli", *arguments]
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for option in ("-o", "--maps", "--moments", "--json"):
        if option in arguments:
            assert (copy / arguments[arguments.index(option) + 1]).exists()


def test_the_python_that_the_site_shows_runs(copy):
    (code,) = shown("python")
    result = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 5


@pytest.mark.skipif(importlib.util.find_spec("mkdocstrings") is None, reason="needs pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / "site/commands/index.html").read_text()
    for name in ("predict", "evaluate", "train", "web", "convert", "info"):
        assert f'id="{name}"' in page
