"""The one error that a user can mend: it carries the line that the command prints."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` in one line, without characters that steer a terminal: names and metadata are a stranger's."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(str(text).split()))


class InputError(ValueError):
    """Something given from outside cannot be used: a file, a folder, a name, a setting.

    The message is one line: which file, what is wrong, where in it, and what to do about it. The command line
    prints it on stderr and exits with 1. Of anything else that is raised it prints a line that asks for a report.

    >>> str(InputError("clip.mp4: cut short;\\n   fetch it again"))
    'clip.mp4: cut short; fetch it again'
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))
