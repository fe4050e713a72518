"""What all charts share: matplotlib's figure, colours and marks that everybody can tell apart, and words."""

from __future__ import annotations

from typing import Any

from diffsal.errors import InputError

# Okabe and Ito's colours, told apart by the colour-blind, each with a mark of its own for those who see none
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "x", "P", "|")


def figure_class() -> Any:
    """matplotlib's Figure, which needs no screen; :class:`InputError` where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError('charts are drawn by matplotlib, which is not installed: pip install "diffsal[charts]"'
                         ) from None
    return Figure


def plain(words: str) -> str:
    """With nothing that matplotlib reads as mathematics or cannot draw: control characters, bytes that are no UTF-8."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in words)
    return shown.replace("$", r"\$")


def legend_name(words: str) -> str:
    """:func:`plain` words for a legend, which leaves out what begins with an underscore."""
    return plain(" " + words if words.startswith("_") else words)


def shortened(words: str, width: int) -> str:
    """At most ``width`` characters, :func:`plain`."""
    return plain(words if len(words) <= width else words[: width - 1] + "…")
