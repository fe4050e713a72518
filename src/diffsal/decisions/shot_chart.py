"""Shots over time, drawn under a strip of frames: where attention is, where it rests, and its entropy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsal.files import write_whole
from diffsal.plots import figure_class, shortened

if TYPE_CHECKING:
    from diffsal.decisions.shots import Shots

MOST_PICTURES = 8
ACROSS, DOWN, ENTROPY, CUT = "#0072B2", "#009E73", "#D55E00", "0.6"


def draw_chart(result: Shots) -> Any:
    """A matplotlib figure: a frame of each shot (at most eight), below them the centroid across and down the
    picture, thick where it rests, a dot where the eye arrives; and the entropy. Cuts are dotted.

    Raises :class:`diffsal.errors.InputError` where matplotlib is not installed.
    """
    figure = figure_class()(figsize=(11, 6.2), layout="constrained")
    figure.suptitle(shortened(Path(result.source).name, 90), fontsize=11)
    count = len(result.strip)
    shown = sorted({round(k) for k in np.linspace(0, count - 1, min(count, MOST_PICTURES))})
    grid = figure.add_gridspec(3, len(shown), height_ratios=[1.1, 2, 1.3])
    for column, k in enumerate(shown):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(result.strip[k][1])
        axes.set_title(f"shot {k}, {result.strip[k][0]:.1f} s", fontsize=9)
        axes.set_axis_off()
    above = figure.add_subplot(grid[1, :])
    seconds, places = np.array(result.seconds), np.array(result.centroids)
    arrived = [s for s in result.shots if s.arrival_seconds is not None]
    times = [s.start_seconds + float(s.arrival_seconds or 0) for s in arrived]
    for k, (name, colour) in enumerate((("across, 0 is left", ACROSS), ("down, 0 is the top", DOWN))):
        above.plot(seconds, places[:, k], color=colour, linewidth=1)
        for first, end in result.resting:
            above.plot(seconds[first:end], places[first:end, k], color=colour, linewidth=3, solid_capstyle="butt")
        above.plot(times, np.interp(times, seconds, places[:, k]), "o", color=colour, label=name)
    above.set_ylabel("middle of attention")
    above.set_ylim(0, 1)
    above.legend(loc="upper right", fontsize=9, frameon=False, title="a dot: the eye arrives; thick: it rests",
                 title_fontsize=9, ncols=2)
    below = figure.add_subplot(grid[2, :], sharex=above)
    below.plot(result.seconds, result.entropy, color=ENTROPY, linewidth=1.2)
    below.set(xlabel="seconds", ylabel="entropy (bits)")
    for axes in (above, below):
        for shot in result.shots[1:]:
            axes.axvline(shot.start_seconds, color=CUT, linestyle=":", linewidth=1)
        axes.spines[["top", "right"]].set_visible(False)
    above.set_xlim(result.seconds[0], max(result.shots[-1].end_seconds, result.seconds[0] + 1e-3))
    return figure


def write_chart(result: Shots, place: Path) -> None:
    """By the ending of ``place``: ``.png``, ``.pdf`` or ``.svg``."""
    data = io.BytesIO()
    draw_chart(result).savefig(data, format=place.suffix.lower()[1:], dpi=110)
    write_whole(place, data.getvalue())
