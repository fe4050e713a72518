"""The attention that regions get over time, drawn under a strip of frames: PNG, PDF, SVG, or a page."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsal.errors import InputError
from diffsal.files import write_whole

if TYPE_CHECKING:
    from diffsal.decisions.regions import Attended

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's


def draw_chart(result: Attended) -> Any:
    """A matplotlib figure: frames above, below a line per region; people dashed, cuts dotted, the threshold grey.

    Raises :class:`InputError` where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("charts need matplotlib: pip install matplotlib, or ask for .json and .csv only") from None
    figure = Figure(figsize=(11, 5), layout="constrained")
    columns = max(1, len(result.strip))
    grid = figure.add_gridspec(2, columns, height_ratios=[1, 3])
    for k, (seconds, image) in enumerate(result.strip):
        axes = figure.add_subplot(grid[0, k])
        axes.imshow(image)
        axes.set_title(f"{seconds:.1f} s", fontsize=9)
        axes.set_axis_off()
    axes = figure.add_subplot(grid[1, :])
    for k, (name, shares) in enumerate(result.shares.items()):
        colour = COLOURS[k % len(COLOURS)]
        axes.plot(result.seconds, 100 * np.array(shares), color=colour, label=name, linewidth=1.8)
        if name in result.people:
            axes.plot(
                result.seconds,
                100 * np.array(result.people[name]),
                "--",
                color=colour,
                alpha=0.6,
                linewidth=1,
                label=f"{name}, people",
            )
    for cut in result.cuts:
        axes.axvline(result.seconds[cut], color="0.6", linestyle=":", linewidth=1)
    axes.axhline(100 * result.threshold, color="0.6", linewidth=0.8)
    axes.set(xlabel="seconds", ylabel="share of attention (%)", xlim=(result.seconds[0], max(result.seconds[-1], 1e-3)))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", fontsize=9, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def chart_bytes(result: Attended, kind: str) -> bytes:
    """The chart as ``png``, ``pdf`` or ``svg``."""
    data = io.BytesIO()
    draw_chart(result).savefig(data, format=kind, dpi=110)
    return data.getvalue()


def chart_html(result: Attended) -> str:
    """A ``<figure>`` with the chart and a table of the measures, to stand in any HTML page; nothing is fetched."""
    picture = base64.b64encode(chart_bytes(result, "png")).decode()
    head = "".join(
        f"<th>{c}</th>"
        for c in ("region", "rank", "mean", "highest", "first at", "attended", "longest gap", "over chance")
    )
    rows = "".join(
        f"<tr><td>{html.escape(m.name)}</td><td>{m.rank}</td><td>{m.mean:.1%}</td><td>{m.highest:.1%}</td>"
        f"<td>{'never' if m.first_seconds is None else f'{m.first_seconds:.2f} s'}</td>"
        f"<td>{m.attended_seconds:.2f} s</td>"
        f"<td>{m.longest_gap_seconds:.2f} s</td><td>{'–' if m.lift is None else f'{m.lift:.1f}×'}</td></tr>"
        for m in result.measures()
    )
    name = html.escape(Path(result.source).name)
    return (
        f'<figure><img alt="Share of attention of each region over time, {name}" style="max-width:100%" '
        f'src="data:image/png;base64,{picture}"><figcaption>{name}: share of attention, threshold '
        f"{result.threshold:.0%}</figcaption><table><tr>{head}</tr>{rows}</table></figure>"
    )


def write_chart(result: Attended, place: Path) -> None:
    """By the ending of ``place``: ``.png``, ``.pdf``, ``.svg``, or ``.html``, a page that opens from disk."""
    if place.suffix.lower() == ".html":
        title = html.escape(Path(result.source).name)
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            "<style>body{font:16px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}td,th{padding:.2em .8em;"
            f"text-align:left}}</style><h1>{title}</h1>{chart_html(result)}</html>\n"
        )
        write_whole(place, page.encode())
        return
    write_whole(place, chart_bytes(result, place.suffix.lower()[1:]))
