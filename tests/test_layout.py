"""The tree in docs/architecture.md is the tree on disk, and imports point down only."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_architecture_shows_every_module():
    tree = (ROOT / "docs/architecture.md").read_text()
    modules = [p.name for p in (ROOT / "src/diffsal").rglob("*.py") if p.name != "__init__.py"]
    assert [name for name in modules if name not in tree] == []


def test_files_are_rooms_not_halls():
    long = {p.name: n for p in (ROOT / "src/diffsal").rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_imports_point_down_only():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", "pyproject.toml"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_help_imports_nothing_heavy():
    code = "import sys, diffsal.cli.commands; print([m for m in ('torch', 'cv2', 'av', 'numpy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
