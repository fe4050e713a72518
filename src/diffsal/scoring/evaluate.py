"""``diffsal.evaluate`` and ``diffsal.score``: a data set and weights, or a folder of maps → scores on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from diffsal.config import Spacing
from diffsal.data.clip import Clip
from diffsal.data.databases import DATASETS, PLAIN, find, recognise
from diffsal.data.databases.record import Database
from diffsal.errors import InputError
from diffsal.scoring.inputs import check_not_inputs
from diffsal.scoring.jobs import Pool, score_clips
from diffsal.scoring.literature import published_rows
from diffsal.scoring.map_sources import MapFolder, Network, Sounds, folder_of
from diffsal.scoring.protocols import PROTOCOLS, Protocol
from diffsal.scoring.results import document_head
from diffsal.weights.catalogue import find as find_weights

Progress = Callable[[int, int], None]
Weights = str | Path | Network


def evaluate(
    dataset: str,
    data: str | Path,
    weights: Weights | Sequence[Weights] = "compact",
    out: str | Path = "scores",
    *,
    protocol: str | None = None,
    split: str | None = None,
    fold: int | None = None,
    clips: Sequence[str] = (),
    steps: int = 1,
    seed: int = 0,
    spacing: Spacing | None = None,
    sound: Sounds | Sequence[Sounds] = "own",
    quality: bool = False,
    device: str = "cpu",
    maps: str | Path | None = None,
    baselines: bool = True,
    published: bool = False,
    workers: int = 1,
    pool: Pool | None = None,
    force: bool = False,
    on_done: Progress = lambda done, total: None,
) -> dict:
    """Predict and score ``dataset`` (a name of ``DATASETS``) under ``data`` with each of ``weights``.

    ``weights``: a name, a ``.safetensors`` or ``.onnx`` file, or several; each is run with each of ``sound`` (``own``,
    ``muted``, ``other``: another moment's). Writes ``scores.json``, ``per_video.csv`` and ``per_frame.csv`` into
    ``out`` and returns the first as a dictionary; ``maps`` is a folder that keeps every map. ``protocol`` is a name of
    ``PROTOCOLS``, by default the data set's own; ``split`` and ``fold`` are the reader's; ``clips`` are names, by
    default all. ``spacing`` of the timesteps: by default the weights' own. ``quality``: every frame goes through the
    network. ``workers`` processes share the clips (with more than one, a script needs ``if __name__ == "__main__":``),
    or ``pool`` does, such as :func:`diffsal.cluster.evaluate.pool_on_ray`. ``on_done(done, total)`` counts clips. A run
    that was killed goes on where it stood.

    Raises :class:`InputError` for what concerns all clips; what concerns one is in ``document["problems"]``.
    """
    database, out = find(dataset), Path(out)
    chosen = _protocol(protocol or database.protocol)
    _check_out(out, force)
    sounds = [sound] if isinstance(sound, str) else list(sound)
    given = [weights] if isinstance(weights, (str, Path, Network)) else list(weights)
    networks = [n for w in given for n in ([w] if isinstance(w, Network) else [
        Network(str(w), steps, seed, s, device, every=1 if quality else None, spacing=spacing) for s in sounds])]
    for network in networks:
        find_weights(network.weights)
        if network.device != "cpu":
            from diffsal.runtime.torch import check_device

            check_device(network.device)
    split = split or database.scored_split
    all_clips = database(Path(data), split, fold)
    if maps is not None:
        several = len(networks) > 1
        networks = [replace(n, maps_out=Path(maps) / n.name if several else Path(maps)) for n in networks]
        places = [folder_of(n.maps_out, clip) for n in networks if n.maps_out for clip in all_clips]
        check_not_inputs([Path(maps), *places], all_clips, "--maps")
    settings = {"split": split, "fold": fold, "networks": [
        {"weights": n.weights, "steps": n.steps, "seed": n.seed, "sound": n.sound, "every": n.every,
         "spacing": n.spacing} for n in networks]}
    return score_clips(
        _named(all_clips, clips), networks, chosen.name, out, all_clips=all_clips, baselines=baselines, workers=workers,
        pool=pool, head=document_head("evaluate", dataset, Path(data), chosen, settings), on_done=on_done,
        published=published_rows([dataset]) if published else ())


def score(
    maps: str | Path,
    ground_truth: str | Path,
    out: str | Path = "scores",
    *,
    protocol: str,
    dataset: str | None = None,
    split: str | None = None,
    fold: int | None = None,
    clips: Sequence[str] = (),
    name: str | None = None,
    network_size: tuple[int, int] | None = None,
    baselines: bool = True,
    published: bool = False,
    workers: int = 1,
    force: bool = False,
    on_done: Progress = lambda done, total: None,
) -> dict:
    """Score the folder ``maps`` of any model (:class:`diffsal.scoring.map_sources.MapFolder`) against a ground truth.

    ``ground_truth`` is a data set, found out by its layout where ``dataset`` is None, or holds ``VIDEO/maps`` and
    ``VIDEO/fixation``. ``network_size``: height and width of the model's own maps, where its files are larger (protocol
    ``stavis`` blurs by two of those pixels). The rest is as in :func:`evaluate`.
    """
    maps, root, out = Path(maps), Path(ground_truth), Path(out)
    chosen = _protocol(protocol)
    _check_out(out, force)
    if not maps.is_dir():
        raise InputError(f"{maps}: no such folder; give the one that holds the model's maps")
    database = _database(dataset, root)
    split = split or database.scored_split
    all_clips = database(root, split, fold)
    model = MapFolder(name or maps.resolve().name, maps, network_size)
    settings = {"split": split, "fold": fold, "maps": str(maps), "network_size": network_size}
    return score_clips(
        _named(all_clips, clips), [model], chosen.name, out, all_clips=all_clips, baselines=baselines,
        workers=workers, on_done=on_done,
        head=document_head("score", database.name, root, chosen, settings),
        published=published_rows([database.name]) if published else ())


def _database(name: str | None, root: Path) -> Database:
    if name is None:
        return recognise(root)
    if name not in (PLAIN.name, *DATASETS):
        find(name)  # says which is nearest
    return PLAIN if name == PLAIN.name else DATASETS[name]


def _named(clips: Sequence[Clip], names: Sequence[str]) -> list[Clip]:
    known = {clip.name for clip in clips}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"{unknown[0]}: no clip of that name; there are {', '.join(sorted(known)[:12])}"
                         f"{' …' if len(known) > 12 else ''}")
    return [clip for clip in clips if not names or clip.name in names]


def _protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise InputError(f"{name}: no such protocol; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, but scores need a folder; give another name with --out")
    if (out / "scores.json").exists() and not force:
        raise InputError(f"{out}: holds scores already; give another folder with --out or overwrite with --force")
