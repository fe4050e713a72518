"""Opens anything people have: files, folders, cameras, sound; one clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffsal.media.soundtrack import read_sound
    from diffsal.media.source import Frame, Source, open_source

__all__ = ["Frame", "Source", "open_source", "read_sound"]


def __getattr__(name: str):
    """The public names, imported when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'diffsal.media' has no attribute {name!r}")
    from diffsal.media import soundtrack, source

    return getattr(soundtrack if name == "read_sound" else source, name)
