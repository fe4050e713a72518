"""One thin function per command: parse, call one public function, exit code.

Exit codes: 0 everything done; 1 an input or an output was at fault (one line on stderr says which and what to do;
what was finished stays); 2 the command line itself was wrong. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from diffsal.cli import data as cli_data
from diffsal.cli import decisions as cli_decisions
from diffsal.cli import pictures as cli_pictures
from diffsal.cli import reproduce as cli_reproduce
from diffsal.cli import shots as cli_shots
from diffsal.cli import train as cli_train
from diffsal.cli import web as cli_web
from diffsal.cli import weights as cli_weights
from diffsal.cli.cluster import with_address
from diffsal.cli.options import (
    TRACEBACKS,
    Colormap,
    Device,
    EngineChoice,
    Force,
    Mute,
    Seed,
    Spacing,
    Steps,
    Weights,
    WhichDevice,
    complain,
    refuse_inputs,
    show_any_character,
    unforeseen,
)
from diffsal.errors import InputError
from diffsal.files import remove_unfinished, words_of


def main(arguments: list[str] | None = None) -> None:
    """The ``diffsal`` command: run ``arguments`` (default: those of the process) and exit.

    The process then ends at once, whatever its threads are in the middle of: the network, a slow address.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch loads: threads that wait do not spin
    show_any_character()
    if arguments is not None:
        _run(with_address(arguments))
    code: int | str | None = 1
    try:
        _run(with_address(sys.argv[1:]))
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        remove_unfinished()
        os._exit(code if isinstance(code, int) else int(code is not None))
    sys.exit(code)


def _run(arguments: list[str]) -> NoReturn:
    try:
        sys.exit(application(arguments)(args=arguments))
    except InputError as error:
        sys.exit(complain(str(error)))
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "diffsal"):
            raise
        sys.exit(complain(f'this command needs {missing}, which is not installed: pip install "diffsal[torch]"'))
    except OSError as error:  # a folder that cannot be read, a full disk: the system's own words
        sys.exit(complain(words_of(error)))
    except Exception as error:  # whatever a library raises
        if os.environ.get(TRACEBACKS) or arguments[:1] == ["train"]:  # nobody runs hours again to see where
            raise
        sys.exit(complain(unforeseen(error, " ".join(arguments[:2]))))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("diffsal"))
        raise typer.Exit()


def diffsal(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Where will people look in this video?"""


def predict(
    inputs: Annotated[list[str], typer.Argument(metavar="VIDEO", help="Videos, pictures, folders, URLs, a camera.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Overlay file; with several inputs or a folder, a folder.")
    ] = None,
    maps: Annotated[Path | None, typer.Option(help="Folder for 16-bit grey PNG maps, NNNNNN.png.")] = None,
    npz: Annotated[Path | None, typer.Option(help="File for saliency, seconds and index as arrays.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG contact sheet: frames above, overlays below.")] = None,
    moments: Annotated[Path | None, typer.Option(help="PNG of the moments where attention moves most.")] = None,
    json: Annotated[Path | None, typer.Option(help="File for peaks, entropy, shares, as in docs/json.md.")] = None,
    qp_map: Annotated[Path | None, typer.Option(help="CSV of QP offsets per block, as in docs/qp-map.md.")] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=BOX|MASK", help="Region for --json: left,top,right,bottom or a mask; repeatable."),
    ] = None,
    only_maps: Annotated[bool, typer.Option("--only-maps", help="No overlay.")] = False,
    weights: Weights = "compact",
    steps: Steps = 1,
    seed: Seed = 0,
    spacing: Annotated[Spacing | None, typer.Option(help="Of the timesteps; default: the weights' own.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=100, help="Maps drawn per frame: their mean, and spread.")] = 1,
    quality: Annotated[bool, typer.Option("--quality", help="Every frame through the network.")] = False,
    device: WhichDevice = Device.cpu,
    engine: Annotated[
        EngineChoice, typer.Option(help="What runs it; auto: ONNX graphs where there are any.")
    ] = EngineChoice.auto,
    mute: Mute = False,
    start: Annotated[float | None, typer.Option(min=0, help="Seconds; frames before are left out.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Seconds; frames from here on are left out.")] = None,
    colormap: Annotated[Colormap, typer.Option(help="Colours of the heat.")] = Colormap.inferno,
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Of the heat where it is strongest.")] = 0.7,
    force: Force = False,
    out: Annotated[
        str | None, typer.Option(metavar="URL", help="With --cluster: folder or address for results and their ledger.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="[ADDRESS]", help="Run on Ray, here or at HOST:PORT, auto: docs/scale.md.")
    ] = None,
    write: Annotated[
        list[str] | None,
        typer.Option(metavar="overlay|maps|npz|json", help="With --cluster; repeatable; default: overlay."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="With --cluster: failed items again.")] = False,
    time_limit: Annotated[
        float, typer.Option(min=1, help="With --cluster: seconds for one item, or one span of it.")
    ] = 3600.0,
    span: Annotated[
        float, typer.Option(min=0, help="With --cluster: seconds; videos longer than two spans are split; 0: none.")
    ] = 300.0,
) -> None:
    """Where will people look? An overlay video with the original sound, maps, or arrays."""
    if cluster is not None:
        if out is None:
            raise typer.BadParameter("--cluster needs --out FOLDER or --out URL")
        from diffsal.cli.cluster import predict_on_cluster

        settings = {"steps": steps, "seed": seed, "samples": samples, "every": 1 if quality else None, "mute": mute,
                    "start": start, "end": end, "colormap": colormap.value, "opacity": opacity}
        settings |= {"spacing": spacing.value} if spacing else {}
        raise typer.Exit(predict_on_cluster(
            inputs, out, cluster, weights, write or ["overlay"], retry_failed, time_limit, span, settings))
    if out is not None or write or retry_failed:
        raise typer.BadParameter("--out, --write and --retry-failed go with --cluster; without it: -o, --maps, --npz")
    if only_maps and not (maps or npz or json or qp_map):
        raise typer.BadParameter("--only-maps needs --maps DIR, --npz FILE, --json FILE or --qp-map FILE")
    if roi and not json:
        raise typer.BadParameter("--roi needs --json FILE")
    if start is not None and end is not None and end <= start:
        raise typer.BadParameter(f"--end {end} is not after --start {start}")
    from diffsal.cli.progress import run_all
    from diffsal.outputs.attention import read_region
    from diffsal.outputs.render import Outputs
    from diffsal.runtime.loading import load_engine

    wanted = Outputs(output, maps, npz, sheet, json, moments, qp_map)
    for place in wanted.files:
        refuse_inputs(place, weights, *roi or [])
    asked: dict[str, Any] = {
        "steps": steps, "seed": seed, "samples": samples, "every": 1 if quality else None,
        "spacing": spacing and spacing.value, "device": device.value, "mute": mute, "start": start, "end": end,
        "colormap": colormap.value, "opacity": opacity, "regions": [read_region(text) for text in roi or []],
    }
    ready = load_engine(weights, engine.value, device.value)
    raise typer.Exit(run_all(ready, inputs, wanted, only_maps, force, asked))


COMMANDS: dict[str, Callable[..., None]] = {
    "predict": predict, "train": cli_train.train, "evaluate": cli_data.evaluate, "score": cli_data.score,
    "validate": cli_data.validate, "prepare": cli_data.prepare, "explain": cli_pictures.explain,
    "compare": cli_pictures.compare, "report": cli_pictures.report, "reframe": cli_decisions.reframe,
    "regions": cli_decisions.regions, "thumbnail": cli_shots.thumbnail, "shots": cli_shots.shots,
    "qp-map": cli_shots.qp_map, "convert": cli_weights.convert, "export": cli_weights.export, "info": cli_weights.info,
    "push": cli_weights.push, "reproduce": cli_reproduce.reproduce, "web": cli_web.web,
}
WITHOUT_ARGUMENTS = ("info", "web")  # these do something by themselves; the others show their help


def application(arguments: list[str] | None = None) -> typer.Typer:
    """The command line, for ``arguments``: the options of commands that these do not name are left out.

    To read the options of twenty commands takes as long as to import all that ``--help`` needs.
    """
    app = typer.Typer(
        name="diffsal",
        help="Where will people look in this video?",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: the rich one takes as long again to import
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(diffsal)
    for name, command in COMMANDS.items():
        is_wanted = arguments is None or name in arguments
        app.command(name, no_args_is_help=name not in WITHOUT_ARGUMENTS, help=command.__doc__)(
            command if is_wanted else _nothing)
    return app


def _nothing() -> None:
    pass
