"""The command `diffsal`: one thin function per command, each of which calls one public function."""

from __future__ import annotations


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ``arguments`` by default those of the process."""
    from diffsal.cli.commands import main as run  # nothing is loaded by `import diffsal.cli`

    run(arguments)
