"""Two cuts compared, drawn: both strips of frames, each region over time in A and B, and where attention went."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from diffsal.decisions.cuts import REST, Change, CutComparison
from diffsal.decisions.region_chart import draw_boxes, html_page, picture_html
from diffsal.decisions.region_peaks import AVERAGED_SECONDS, smoothed
from diffsal.files import write_text, write_whole
from diffsal.plots import COLOURS, figure_class, shortened

OLD, MOST_ROWS = "0.55", 12  # the colour of A; regions in one picture, with what is elsewhere


def draw_cut_chart(result: CutComparison) -> Any:
    """A matplotlib figure. Rows: frames of A, of B, a chart per region (A grey, B coloured); right: what went where.

    Raises :class:`diffsal.errors.InputError` where matplotlib is not installed.
    """
    names = shown_names(result)
    at_b = {result.b.seconds[b]: (a, b) for a, b in result.pairs}
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names) if name != REST}
    figure = figure_class()(figsize=(13, 2.9 + 1.35 * max(2, len(names))), layout="constrained")
    columns, rows = max(1, len(result.strip)), max(2, len(names))
    outer = figure.add_gridspec(2, 1, height_ratios=[1.9, 1.35 * rows])
    strips = outer[0].subgridspec(2, columns, wspace=0.02, hspace=0.05)
    for k, (seconds, *images) in enumerate(result.strip):
        for row, image in enumerate(images):
            axes = figure.add_subplot(strips[row, k])
            axes.imshow(image)
            draw_boxes(axes, (result.a, result.b)[row], at_b[seconds][row], image.shape[1], colours)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(f"{seconds:.1f} s", fontsize=9)
            if k == 0:
                axes.set_ylabel("AB"[row], rotation=0, labelpad=10, fontsize=12, va="center")
    left, right = outer[1].subgridspec(1, 2, width_ratios=[2, 1])
    grid = left.subgridspec(rows, 1)
    beside = right.subgridspec(2, 1, height_ratios=[1, 1])
    for k, name in enumerate(names):
        colour, is_last = colours.get(name, "0.2"), k + 1 == len(names)
        _draw_region(figure.add_subplot(grid[k]), result, result.change(name), colour, is_last)
    _draw_where(figure.add_subplot(beside[0]), result)
    _draw_differences(figure.add_subplot(beside[1]), result, names)
    title = f"A: {shortened(Path(result.a.source).name, 48)}    B: {shortened(Path(result.b.source).name, 48)}"
    figure.suptitle("\n".join([title, *result.notes(), *left_out(result)]), fontsize=11)
    return figure


def shown_names(result: CutComparison) -> list[str]:
    """The regions that the picture has room for, in the order given: those that change most, and what is elsewhere."""
    names = result.names()
    if len(names) <= MOST_ROWS:
        return names
    regions = sorted((n for n in names if n != REST), key=lambda name: -abs(result.change(name).difference))
    return [name for name in names if name in {*regions[: MOST_ROWS - 1], REST}]


def left_out(result: CutComparison) -> list[str]:
    """A line where the picture shows not every region."""
    count = len(result.names())
    if count <= MOST_ROWS:
        return []
    return [f"{MOST_ROWS - 1} of {count - 1} regions, those that change most; all are in .html, .json and .csv"]


def _draw_region(axes: Any, result: CutComparison, change: Change, colour: str, is_last: bool) -> None:
    at_a, at_b = (list(at) for at in zip(*result.pairs, strict=True))
    seconds = np.array(result.b.seconds)[at_b]
    a, b = (
        100 * smoothed(np.nan_to_num(cut.shares[change.name])[at], AVERAGED_SECONDS / result.frame_seconds[1])
        for cut, at in ((result.a, at_a), (result.b, at_b))
    )
    axes.fill_between(seconds, a, b, color=colour, alpha=0.15, linewidth=0)
    axes.plot(seconds, a, color=OLD, linewidth=1.6)
    axes.plot(seconds, b, color=colour, linewidth=1.8)
    axes.set_title(
        f"{shortened(change.name, 40)}:  A {change.a:.1%} (grey),  B {change.b:.1%} (colour)", fontsize=9, loc="left"
    )
    axes.set_xlim(seconds[0], max(seconds[-1], seconds[0] + 1e-3))
    axes.set_ylim(0, max(5.0, 1.1 * float(max(a.max(), b.max()))))
    axes.set_ylabel("%", rotation=0, labelpad=8)
    axes.spines[["top", "right"]].set_visible(False)
    if is_last:
        axes.set_xlabel("seconds: share of attention at the same moment of both")
    else:
        axes.tick_params(labelbottom=False)


def _draw_where(axes: Any, result: CutComparison) -> None:
    image = result.strip[len(result.strip) // 2][2] if result.strip else np.full((54, 96, 3), 255, np.uint8)
    grey = 255 - (255 - cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) * 0.45
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0), aspect=image.shape[0] / image.shape[1])
    difference = cv2.GaussianBlur(result.mean_b - result.mean_a, (0, 0), 1.5)
    highest = max(float(np.abs(difference).max()), 1e-9)
    colours = np.zeros((*difference.shape, 4))
    colours[..., 0], colours[..., 2] = difference > 0, difference < 0
    colours[..., 3] = np.abs(difference) / highest * 0.85
    axes.imshow(colours, extent=(0, 1, 1, 0), aspect=image.shape[0] / image.shape[1], interpolation="bilinear")
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"from blue to red; {np.mean(result.moved):.0%} is elsewhere", fontsize=9, loc="left")


def _draw_differences(axes: Any, result: CutComparison, names: list[str]) -> None:
    changes = [result.change(name) for name in names]
    for k, change in enumerate(changes):
        colour = "0.2" if change.name == REST else COLOURS[k % len(COLOURS)]
        low, high = change.interval or (change.difference, change.difference)
        axes.plot([100 * low, 100 * high], [k, k], color=colour, linewidth=2)
        axes.plot([100 * change.difference], [k], "o", color=colour, markersize=5)
        people = result.people(change.name)
        if people is not None:
            axes.plot([100 * people.difference], [k], "D", color=colour, markerfacecolor="white", markersize=6)
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_yticks(range(len(names)), [shortened(name, 18) for name in names], fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    from_what = next((c.interval_from for c in changes if c.interval_from), None)
    words = f", 95 % by {from_what}" if from_what else ""
    people_words = "; ◇ people" if any(result.people(name) for name in names) else ""
    axes.set_xlabel(f"B − A, points{words}{people_words}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def write_cut_chart(result: CutComparison, place: Path) -> None:
    """By the ending of ``place``: ``.png``, ``.pdf``, ``.svg``, or ``.html``, a page that opens from disk."""
    kind = place.suffix.lower()[1:]
    data = io.BytesIO()
    draw_cut_chart(result).savefig(data, format="png" if kind == "html" else kind, dpi=110)
    if kind != "html":
        write_whole(place, data.getvalue())
        return
    title = f"{Path(result.a.source).name} and {Path(result.b.source).name}"
    rows = [
        (
            change.name,
            f"{change.a:.1%}",
            f"{change.b:.1%}",
            f"{100 * change.difference:+.1f}",
            "–" if change.interval is None else f"{100 * change.interval[0]:+.1f} to {100 * change.interval[1]:+.1f}",
            f"{change.whole_a:.1%}",
            f"{change.whole_b:.1%}",
        )
        for change in result.changes()
    ]
    head = ("region", "A", "B", "B − A, points", "95 % interval", "all of A", "all of B")
    caption = f"{title}: the first {result.common_seconds:.2f} s by the clock, shares of attention"
    write_text(place, html_page(title, picture_html(data.getvalue(), caption, head, rows)))
