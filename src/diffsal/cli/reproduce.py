"""The command `reproduce`: the paper's tables and figures, each from the databases to what the paper shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from diffsal.cli.options import Device, Protocol, complain


def reproduce(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="table7, figure6, figure7, table8 or figures8-9.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings of every training, as precision=bf16.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for runs, scores and what is drawn.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the databases.")] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="[NETWORK=]FILE", help="Take these weights instead of training; repeatable."),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(metavar="ENCODER=FILE", help="Pretrained weights (ENCODER=none: from nothing); repeatable."),
    ] = None,
    maps: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="Another model's maps for figures8-9; repeatable.")
    ] = None,
    protocol: Annotated[Protocol | None, typer.Option(help="Default: released, the paper's own code's.")] = None,
    device: Annotated[Device, typer.Option(help="Where networks are scored; training takes a GPU.")] = Device.cpu,
    workers: Annotated[int, typer.Option(min=1, help="Processes that score side by side.")] = 1,
    narrow: Annotated[
        bool, typer.Option("--narrow", help="Try it on synthetic data with tiny networks, in OUT/narrow.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every command with hours and disk, as a shell script.")
    ] = False,
    speed: Annotated[
        float | None, typer.Option(min=1e-6, help="With --dry-run: 10^12 multiply-accumulates a second.")
    ] = None,
) -> None:
    """A table or figure of the paper: train, score on all folds, average, draw. Run again it does what is missing."""
    from diffsal.reproduce import run

    given = {"weights": _pairs(weights, unnamed=True), "init": _pairs(init), "maps": _pairs(maps)}
    starts = {name: None if value.lower() == "none" else value for name, value in given["init"].items()}
    about = (target, data, out, given["weights"], starts, given["maps"], settings or [],
             protocol.value if protocol else None, device.value, workers, narrow)
    if dry_run:
        goal = run.plan(*about)
        again = ["diffsal", "reproduce", target, *(settings or []), "--out", str(out), "--device", device.value,
                 "--workers", str(workers)]
        again += ["--data", str(data)] if data else []
        again += [word for option, texts in (("--weights", weights), ("--init", init), ("--maps", maps))
                  for text in texts or [] for word in (option, text)]
        again += ["--protocol", protocol.value] if protocol else []
        again += ["--narrow"] if narrow else []
        print("\n".join(run.shell_script(target, goal, again, device.value, speed)))
        return
    found = run.reproduce(
        target, data, out, weights=given["weights"], init=starts, maps=given["maps"], settings=settings or [],
        protocol=protocol.value if protocol else None, device=device.value, workers=workers, narrow=narrow,
        on_step=lambda number, count, name: print(f"{target}: {number} of {count}: {name}", file=sys.stderr))
    for problem in found.problems:
        complain(problem)
    for path in found.results:
        if path.suffix == ".md":
            print(path.read_text())
    if target == "figures8-9" and not given["maps"]:
        print("figures8-9: shown are people's maps and ours; --maps CASP-Net=DIR --maps STAViS=DIR shows others' too",
              file=sys.stderr)
    print(f"{target} → {', '.join(map(str, found.results))}")
    raise typer.Exit(int(bool(found.problems)))


def _pairs(texts: list[str] | None, unnamed: bool = False) -> dict[str, str]:
    """``NAME=VALUE`` by name; with ``unnamed`` a value alone has the name ""."""
    found: dict[str, str] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if unnamed and (not equals or Path(text).exists()):
            name, value = "", text
        if not value or (not name and not unnamed):
            raise typer.BadParameter(f"{text}: expected NAME=FILE")
        if name in found:
            raise typer.BadParameter(f"{text}: {name or 'weights without a name'} came before already")
        found[name] = value
    return found
