"""The attention that regions get over time, drawn under a strip of frames: PNG, PDF, SVG, or a page."""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsal.files import write_text, write_whole
from diffsal.plots import COLOURS, figure_class, legend_name, shortened

if TYPE_CHECKING:
    from diffsal.decisions.regions import Attended

STROKES: tuple[Any, ...] = ("-", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))  # the second, third, … seven regions
PEOPLE_STROKE = (0, (4, 3))
NAME_WIDTH, MOST_NAME_LINES = 24, 3  # characters and lines of a name in the legend
LEGEND_ROWS, LINE_INCHES = 20, 0.2  # of one column; of a line of the legend with what is between two


def draw_chart(result: Attended) -> Any:
    """A matplotlib figure: frames above with the regions drawn in, below a line per region; people dashed, cuts
    dotted, the threshold grey.

    The legend stands beside the lines, the region with the largest mean share first.
    Raises :class:`diffsal.errors.InputError` where matplotlib is not installed.
    """
    words = {name: _label(name) for name in result.shares}
    columns_needed = -(-len(words) // LEGEND_ROWS)
    num_lines = sum(label.count("\n") + 1 for label in words.values()) / columns_needed + 3 + 2 * bool(result.people)
    figure = figure_class()(figsize=(11, max(5.0, 0.5 + LINE_INCHES * num_lines)), layout="constrained")
    figure.suptitle(shortened(Path(result.source).name, 90), fontsize=11)
    columns = max(1, len(result.strip))
    grid = figure.add_gridspec(2, columns, height_ratios=[1, 3])
    looks = {name: look(k) for k, name in enumerate(result.shares)}
    colours = {name: colour for name, (colour, _) in looks.items()}
    for k, (seconds, image) in enumerate(result.strip):
        axes = figure.add_subplot(grid[0, k])
        axes.imshow(image)
        draw_boxes(axes, result, result.seconds.index(seconds), image.shape[1], colours)
        axes.set_title(f"{seconds:.1f} s", fontsize=9)
        axes.set_axis_off()
    axes = figure.add_subplot(grid[1, :])
    ranks = {m.name: m.rank for m in result.measures()}
    lines: dict[str, Any] = {}
    for name, shares in result.shares.items():
        colour, stroke = looks[name]
        (line,) = axes.plot(result.seconds, 100 * np.array(shares), color=colour, linestyle=stroke, linewidth=1.8)
        lines[name] = line
        if name in result.people:
            people = 100 * np.array(result.people[name])
            axes.plot(result.seconds, people, color=colour, linestyle=PEOPLE_STROKE, alpha=0.6, linewidth=1)
    for cut in result.cuts:
        axes.axvline(result.seconds[cut], color="0.6", linestyle=":", linewidth=1)
    threshold = axes.axhline(100 * result.threshold, color="0.6", linewidth=0.8)
    axes.set(xlabel="seconds", ylabel="share of attention (%)", xlim=(result.seconds[0], max(result.seconds[-1], 1e-3)))
    axes.set_ylim(bottom=0)
    order = sorted(lines, key=lambda name: ranks[name])
    handles, labels = [lines[name] for name in order], [words[name] for name in order]
    if result.people:
        handles.append(axes.plot([], [], color="0.4", linestyle=PEOPLE_STROKE, linewidth=1)[0])
        labels.append("people, in the same\ncolours")
    handles, labels = [*handles, threshold], [*labels, f"threshold, {100 * result.threshold:g}%"]
    figure.legend(handles, labels, loc="outside right center", fontsize=9, frameon=False, ncols=columns_needed)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def look(k: int) -> tuple[str, Any]:
    """The colour and the stroke of the ``k``-th region."""
    return COLOURS[k % len(COLOURS)], STROKES[k // len(COLOURS) % len(STROKES)]


def draw_boxes(axes: Any, cut: Attended, position: int, width: int, colours: Mapping[str, str]) -> None:
    """The outlines of the regions in ``colours``, on a picture of this ``width`` of the frame at ``position``."""
    from matplotlib.patches import Rectangle

    scale = width / cut.width
    for name, colour in colours.items():
        box = cut.boxes[name][position]
        if box is not None:
            left, top, right, bottom = (scale * edge - 0.5 for edge in box)
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, linewidth=1.2))


def _label(name: str) -> str:
    lines = textwrap.wrap(name, NAME_WIDTH) or [name]
    if len(lines) > MOST_NAME_LINES:
        lines = [*lines[: MOST_NAME_LINES - 1], lines[MOST_NAME_LINES - 1][: NAME_WIDTH - 1] + "…"]
    return legend_name("\n".join(lines))


def chart_bytes(result: Attended, kind: str) -> bytes:
    """The chart as ``png``, ``pdf`` or ``svg``."""
    data = io.BytesIO()
    draw_chart(result).savefig(data, format=kind, dpi=110)
    return data.getvalue()


def chart_html(result: Attended) -> str:
    """A ``<figure>`` with the chart and a table of the measures, to stand in any HTML page; nothing is fetched."""
    agreement, people = result.agreement(), {m.name: m for m in result.measures(people=True)}
    head = ["region", "rank", "mean", "highest", "first at", "attended", "longest gap", "over chance"]
    head += ["people", "r with people"] * bool(people)
    rows = [
        [
            m.name,
            str(m.rank),
            f"{m.mean:.1%}",
            f"{m.highest:.1%}",
            "never" if m.first_seconds is None else f"{m.first_seconds:.2f} s",
            f"{m.attended_seconds:.2f} s",
            f"{m.longest_gap_seconds:.2f} s",
            "–" if m.lift is None else f"{m.lift:.1f}×",
            *([f"{people[m.name].mean:.1%}", _two_digits(agreement[m.name][1])] if people else []),
        ]
        for m in result.measures()
    ]
    caption = f"{Path(result.source).name}: share of attention of each region, threshold {result.threshold:.0%}"
    return picture_html(chart_bytes(result, "png"), caption, head, rows)


def _two_digits(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def picture_html(png: bytes, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A ``<figure>`` with a picture, its caption and a table below."""
    cells = "".join(f"<th>{html.escape(c)}</th>" for c in head)
    table = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    words, data = html.escape(caption), base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{words}" style="max-width:100%" src="data:image/png;base64,{data}">'
        f"<figcaption>{words}</figcaption><table><tr>{cells}</tr>{table}</table></figure>"
    )


def html_page(title: str, body: str) -> str:
    """A page that opens from disk and fetches nothing; ``body`` is HTML, ``title`` words."""
    words = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{words}</title>'
        "<style>body{font:16px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}figure{margin:0}"
        "table{border-collapse:collapse;margin-top:1em}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid "
        f"#ddd}}</style><h1>{words}</h1>{body}</html>\n"
    )


def write_chart(result: Attended, place: Path) -> None:
    """By the ending of ``place``: ``.png``, ``.pdf``, ``.svg``, or ``.html``, a page that opens from disk."""
    if place.suffix.lower() == ".html":
        write_text(place, html_page(Path(result.source).name, chart_html(result)))
        return
    write_whole(place, chart_bytes(result, place.suffix.lower()[1:]))
