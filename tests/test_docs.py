"""The site and README: every command they show runs, or at least is one; the site builds without a warning."""

import functools
import importlib.util
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from diffsal.cli.cluster import with_address
from diffsal.cli.commands import COMMANDS, application
from diffsal.runtime import loading
from diffsal.training.validation import METRICS
from diffsal.weights import catalogue

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "MODEL_CARD.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = ROOT / "examples" / "bigbuckbunny.mp4"
FRAMES = 6  # of the clip that the commands run on

# Lines that are parsed here, with their real options, and not run: what is in them, and where such a command runs
ONLY_PARSED = {
    "diffsal web": "tests/web", "diffsal train": "tests/training", "diffsal evaluate": "tests/scoring",
    "diffsal score": "tests/scoring", "diffsal validate": "tests/data", "diffsal prepare": "tests/data",
    "diffsal convert": "tests/weights", "diffsal export": "tests/runtime", "diffsal report": "tests/figures",
    "diffsal reproduce": "tests/reproduce",
    "diffsal compare": "tests/figures", "diffsal explain": "tests/figures", "diffsal push": "tests/weights/test_hub.py",
    "diffsal info released": "tests/weights", "hf://": "tests/weights/test_hub.py", "--cluster": "tests/cluster",
    "--aspect": "tests/decisions", "--start 1 --end 2.5": "seconds that the clip does not have",
    "corner.mp4": "a cut that ffmpeg makes, and an exit code of 3; tests/decisions",
    "--samples": "8 maps for each frame take too long; tests/prediction",
}  # fmt: skip


def shown() -> list[tuple[str, str]]:
    """(page, line) of every command in a block of code, once each."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in re.findall(r"```(?:sh|text)?\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                if re.match(r"(diffsal|make|python) ", line):
                    found.setdefault(shlex.join(shlex.split(line, comments=True)), page.name)
    return [(page, line) for line, page in found.items()]


SHOWN = shown()
DIFFSAL = [line for _, line in SHOWN if line.startswith("diffsal ")]
RUN = [line for line in DIFFSAL if not any(part in line for part in ONLY_PARSED)]
STARTED = (ROOT / "docs/getting-started.md").read_text()


def arguments_of(line: str) -> list[str]:
    return with_address([word.removesuffix("…") for word in shlex.split(line)[1:]])


def test_the_sites_page_of_commands_has_each_with_its_options():
    """The page is made while the site is built, which the tests' environment cannot do."""
    page = runpy.run_path(str(ROOT / "docs/site/pages.py"))["commands"]()
    assert all(f"## {name}\n\n```text\nUsage: diffsal {name}" in page for name in COMMANDS)
    assert "--sheet" in page


@pytest.mark.parametrize("line", DIFFSAL)
def test_a_command_that_is_shown_is_one(line):
    group = get_command(application())
    with typer.Context(group, info_name="diffsal") as context:
        _, command, rest = group.resolve_command(context, arguments_of(line))
        command.make_context(command.name, rest, parent=context).close()  # raises where it is not


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the shown commands name: a short clip, a photo, a folder of clips, a mask."""
    folder = tmp_path_factory.mktemp("shown")
    for name in ("holiday", "videos", "examples"):
        (folder / name).mkdir()
    clip = folder / "clip.mp4"
    with av.open(str(EXAMPLE)) as source, av.open(str(clip), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in (*source.streams.video, *source.streams.audio)}
        for packet in source.demux():
            if packet.dts is not None and packet.dts * packet.time_base < FRAMES / 25:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
        source.seek(0)
    with av.open(str(EXAMPLE)) as source:
        image = next(source.decode(video=0)).to_image()
    image.save(folder / "photo.jpg")
    image.convert("L").save(folder / "ball_mask.png")
    for name in ("VIDEO", "holiday/a.mp4", "videos/a.mp4", "examples/bigbuckbunny.mp4", "sam2_juggle.mp4"):
        shutil.copy(clip, folder / name)
    return folder


@pytest.fixture(scope="module")
def kept_engines():
    """Engines are prepared once for all the commands, which takes as long as predicting so few frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_engine", functools.cache(loading.load_engine))
        yield


@pytest.mark.usefixtures("kept_engines")
@pytest.mark.parametrize("line", RUN)
def test_a_command_that_is_shown_runs(place, tmp_path, monkeypatch, line):
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = {path for path in tmp_path.rglob("*")}
    arguments = arguments_of(line)
    result = CliRunner().invoke(application(arguments), arguments)
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    if arguments[0] != "info":
        assert {path for path in tmp_path.rglob("*")} > before
    for option, name in pairwise(arguments):
        if option in ("-o", "--maps", "--moments", "--json", "--npz", "--sheet"):
            assert (tmp_path / name).exists(), name


def test_what_else_is_shown_is_there():
    makefile = (ROOT / "Makefile").read_text()
    for _, line in SHOWN:
        program, first, *rest = shlex.split(line)
        if program == "make":
            assert re.search(rf"^{first}:", makefile, re.MULTILINE), line
        elif program == "python":
            script = (ROOT / first).read_text()
            assert all(f'"{word}"' in script for word in rest if word.startswith("--")), line


def test_the_python_that_the_site_shows_runs(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (code,) = re.findall(r"```python\n(.*?)```", STARTED, re.DOTALL)
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 5


def test_what_the_site_documents_is_there():
    names = re.findall(r"^::: ([\w.]+)", (ROOT / "docs/python.md").read_text(), re.MULTILINE)
    assert len(names) > 5
    for name in names:
        pkgutil.resolve_name(name)  # raises where it is not


@pytest.mark.skipif(importlib.util.find_spec("mkdocstrings") is None, reason="needs pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / "site/commands/index.html").read_text()
    for name in ("predict", "evaluate", "train", "web", "convert", "info", "push"):
        assert f'id="{name}"' in page


def test_the_catalogue_says_what_the_model_card_says():
    card, entry = (ROOT / "MODEL_CARD.md").read_text(), catalogue.entry_of("compact")
    rows = {"FIND 021": "FIND 021", "HEVC, mean of the five": "5 held-out HEVC clips",
            "MIT1003, 200 pictures": "MIT1003 (200 pictures)"}
    stated = {}
    for row, name in rows.items():
        scores = re.search(rf"^\| {row} \| (.*?) \|", card, re.MULTILINE)[1].strip("*").split(" / ")[:3]
        stated |= {f"{metric}, {name}": float(score) for metric, score in zip(METRICS, scores, strict=True)}
    assert dict(entry.scores) == stated
