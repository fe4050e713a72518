"""The commands about weights: what they are, and from others' to ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffsal.cli.options import Force, say


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pth, .pt or .safetensors of others.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store half precision: half the size.")] = False,
    force: Force = False,
) -> None:
    """Others' checkpoints to ours: a released DiffSal, or encoders pretrained on Kinetics, ImageNet or AudioSet.

    Known layouts: the released DiffSal, torchvision's mvit_v2_s, s3d and mobilenet_v2, mmaction2's mvit-small, Hara's
    resnet-50-kinetics, DeepMind's I3D, efficientnet-lite0, torchvggish and YAMNet. Nothing in a checkpoint is run.
    """
    from diffsal.weights.convert import convert as convert_file

    conversion = convert_file(checkpoint, out, half, force)
    say(f"{checkpoint}: {conversion.title}; {conversion.parameters:,} parameters → {out}")
    for unused in conversion.unused:
        say(f"not taken over: {unused.name}, {unused.parameters:,} parameters: {unused.why}")


def export(
    weights: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Weights by name, or a .safetensors file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    force: Force = False,
) -> None:
    """Weights to ONNX graphs, which `diffsal predict` runs without torch; checked against torch before they are kept.

    The graphs carry the configuration, the finish and where the weights come from. It takes two to four minutes.
    """
    from diffsal.runtime.export import export_file

    export_file(weights, out, force, lambda name: say(f"{out}: graph {name}"))
    say(f"{weights} → {out}, {out.stat().st_size:,} bytes; equal to torch to 1e-5")


def info(
    weights: Annotated[
        str, typer.Argument(metavar="[NAME|FILE]", help="Weights by name, a file, or hf://OWNER/NAME.")
    ] = "compact",
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What weights hold: parts, parameters, multiply-accumulates, preprocessing, where from, scores."""
    from diffsal.weights.describe import describe, tables

    information = describe(weights)
    if json:
        from json import dumps

        print(dumps(information.to_dict(), indent=1))
        return
    from rich.console import Console

    Console(markup=False).print(tables(information))


def push(
    weights: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Weights by name, a .safetensors or an .onnx.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where to; it is made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make it for its owner only.")] = False,
) -> None:
    """Weights to a hub, with a card made of what they say about themselves: one commit, which replaces the card there.

    Of a name both files go, of a file that one. Needs a token that may write: `hf auth login`. HF_ENDPOINT names
    another hub.
    """
    from diffsal.runtime.hub_upload import push as push_files

    pushed = push_files(weights, repository, private)
    say(f"{weights} → {pushed.url} ({', '.join(pushed.files)}); load it by {pushed.address}")
