"""The command line in this process."""

import pytest

from diffsal.cli import commands as cli


def outcome(capture, *arguments: str) -> tuple[int, str, str]:
    """``outcome(capfd, "shots", "a.mp4")`` → (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    return int(stopped.value.code or 0), *capture.readouterr()
