"""The command that trains."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="compact, dhf1k, hollywood2, ucf_sports or audio_visual.")
    ],
    settings: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings to change.")] = None,
    *,
    data: Annotated[Path, typer.Option(help="Root of the data.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    init: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Weights to start from, an encoder's or a whole network's; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
) -> None:
    """Train a network; the weights are OUT/RECIPE.safetensors."""
    from diffsal.training import recipes

    path = recipes.train(recipe, data, out, init or [], resume, settings)
    if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        print(path if path is not None else f"{out}: stopped and saved; go on with --resume")
