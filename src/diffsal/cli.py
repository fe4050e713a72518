"""One thin function per command: parse, call one public function, exit code.

Exit codes: 0 everything done; 1 an input or an output was at fault (one line on stderr says which and what to do;
what was finished stays); 2 the command line itself was wrong. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from diffsal.errors import InputError

app = typer.Typer(
    name="diffsal",
    help="Where will people look in this video?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> None:
    """The ``diffsal`` command: run ``arguments`` (default: those of the process) and exit."""
    try:
        app(args=arguments)
    except InputError as error:
        sys.exit(_complain(str(error)))
    except OSError as error:  # a folder that cannot be read, a full disk: the system's own words
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_complain(f"{where}{error.strerror or error}"))


def _complain(message: str) -> int:
    print(f"diffsal: {message}", file=sys.stderr)
    return 1


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("diffsal"))
        raise typer.Exit()


@app.callback()
def diffsal(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Where will people look in this video?"""


@app.command(no_args_is_help=True)
def predict(
    inputs: Annotated[list[str], typer.Argument(metavar="VIDEO", help="Videos, pictures, folders, URLs, a camera.")],
) -> None:
    """Where will people look? An overlay video with the original sound, maps, or arrays."""
    raise InputError(f"{inputs[0]}: predicting is not written yet")


if __name__ == "__main__":
    main()
