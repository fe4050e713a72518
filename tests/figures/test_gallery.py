"""The gallery's pictures are there and small, and its commands have the options that they use."""

import re
import shlex
from pathlib import Path

import cv2
import pytest
import typer

from diffsal.cli import commands as cli

DOCS = Path(__file__).parents[2] / "docs"
LINKED = re.findall(r"\]\((gallery/[^)]+)\)", (DOCS / "gallery.md").read_text())
COMMANDS = [line for page in ("gallery.md", "json.md") for line in (DOCS / page).read_text().splitlines()
            if line.startswith("diffsal ")]


def test_pictures_are_there_and_small():
    assert {f"gallery/{p.name}" for p in (DOCS / "gallery").iterdir()} == set(LINKED) and len(LINKED) >= 5
    sizes = [(DOCS / name).stat().st_size for name in LINKED]
    assert max(sizes) < 150_000 and sum(sizes) < 1_500_000
    for name in LINKED:
        image = cv2.imread(str(DOCS / name))
        assert image is not None and image.std() > 20, name


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_as_the_program_knows_them(line):
    _, name, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(cli.application()).commands[name]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = [a for a in arguments if a.startswith("-")]
    assert set(used) <= options
