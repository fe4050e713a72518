"""The scores as a table for a terminal: per set the models, the baselines on the same frames, and published rows."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

WIDTH = 118  # where the output is not a terminal


def show(document: dict, console: Console | None = None) -> None:
    """Print a document of :mod:`.results`: one table per set, then the protocol, the counts and the NaNs."""
    console = console or Console(markup=False)
    if not console.is_terminal:
        console.width = WIDTH
    for found in document["sets"]:
        console.print(_table(found, document))
        console.print(_counts(found), style="dim", highlight=False)
    protocol = document["protocol"]
    console.print(Group(
        Text(f"Protocol {protocol['name']}. {protocol['words']}"),
        Text("Below each mean its 95 % interval, clips drawn again 2,000 times. KLD: lower is better.", style="dim"),
    ))
    if document["published"]:
        for source in dict.fromkeys(row["source"] for row in document["published"]):
            console.print(Text(f"Published: {source}.", style="dim"))


def _table(found: dict, document: dict) -> Table:
    metrics = document["protocol"]["metrics"]
    clips = found["videos"]
    table = Table(title=f"{found['name']}: {clips} clip{'s' * (clips != 1)}, {found['frames']['scored']} frames",
                  title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1),
                  collapse_padding=True, pad_edge=False)
    table.add_column("")
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True, min_width=9)
    for number, model in enumerate(found["models"]):
        last = number + 1 == len(found["models"])
        baseline = model["kind"] == "baseline"
        cells = [_cell(model["mean"][m], model["interval"][m]) for m in metrics]
        table.add_row(Text(model["name"], style="dim" if baseline else "bold"), *cells, end_section=last)
    for row in document["published"]:
        if row["dataset"] == found["name"]:
            table.add_row(f"{row['method']} ({row['venue'] or 'as reported'})",
                          *(_number(row["mean"].get(m)) for m in metrics), style="dim")
    return table


def _cell(mean: float | None, interval: list[float] | None) -> Text:
    text = Text(_number(mean))
    if interval is not None:
        text.append(f"\n{_short(interval[0])} {_short(interval[1])}", style="dim")
    return text


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def _counts(found: dict) -> str:
    skipped = ", ".join(f"{count} {reason}" for reason, count in found["frames"]["skipped"].items())
    parts = [f"Left out: {skipped}." if skipped else "No frame left out."]
    for model in found["models"]:
        nan = ", ".join(f"{m} {count}" for m, count in model["nan"].items() if count)
        if nan:
            parts.append(f"Not defined, {model['name']}: {nan}.")
    return " ".join(parts)
