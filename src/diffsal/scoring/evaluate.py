"""``diffsal evaluate`` and ``diffsal score``: a data set and weights, or a folder of maps → scores on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases import DATASETS
from diffsal.data.databases.stavis import SETS
from diffsal.data.truth import MapFiles
from diffsal.errors import InputError
from diffsal.prediction.pipeline import check_device
from diffsal.scoring.jobs import score_clips
from diffsal.scoring.literature import published_rows
from diffsal.scoring.map_folders import MapFolder
from diffsal.scoring.predicted_maps import Network
from diffsal.scoring.protocols import PROTOCOLS
from diffsal.scoring.results import document_head
from diffsal.weights.files import find

Progress = Callable[[int, int], None]
PLAIN = "folders"  # ground truth as VIDEO/{maps,fixation}, of no known data set


def evaluate(
    dataset: str,
    root: Path,
    networks: Sequence[Network],
    out: Path,
    *,
    protocol: str | None = None,
    split: str | None = None,
    fold: int | None = None,
    clips: Sequence[str] = (),
    maps_out: Path | None = None,
    baselines: bool = True,
    published: bool = False,
    workers: int | None = None,
    force: bool = False,
    on_done: Progress = lambda done, total: None,
) -> dict:
    """Predict and score ``dataset`` (a name of ``DATASETS``) under ``root`` with each of ``networks``.

    Writes ``scores.json``, ``per_video.csv`` and ``per_frame.csv`` into ``out`` and returns the first as a dictionary;
    ``maps_out`` also keeps every map. ``protocol`` is a name of ``PROTOCOLS``, by default the data set's own; ``split``
    and ``fold`` are the reader's; ``clips`` are names, by default all. A run that was killed goes on where it stood.
    Raises :class:`InputError` for what concerns all clips; what concerns one is in ``document["problems"]``.
    """
    if dataset not in DATASETS:
        raise InputError(f"{dataset}: no such data set; there are {', '.join(DATASETS)}")
    chosen = _protocol(protocol or own_protocol(dataset))
    _check_out(out, force)
    for network in networks:
        find(network.weights)
        check_device(network.device)
    split = split or own_split(dataset)
    everybody = DATASETS[dataset](root, split, fold)
    if maps_out is not None:
        several = len(networks) > 1
        networks = [replace(n, maps_out=maps_out / n.name if several else maps_out) for n in networks]
    settings = {"split": split, "fold": fold, "networks": [
        {"weights": n.weights, "steps": n.steps, "seed": n.seed, "sound": n.sound, "every": n.every} for n in networks]}
    if workers is None:
        workers = (os.cpu_count() or 1) if all(n.device == "cpu" for n in networks) else 1
    return score_clips(
        _named(everybody, clips), networks, chosen.name, out, everybody=everybody, baselines=baselines, workers=workers,
        head=document_head("evaluate", dataset, root, chosen, settings), on_done=on_done,
        published=published_rows([dataset]) if published else ())


def score(
    maps: Path,
    root: Path,
    out: Path,
    *,
    protocol: str,
    dataset: str | None = None,
    split: str | None = None,
    fold: int | None = None,
    clips: Sequence[str] = (),
    name: str | None = None,
    baselines: bool = True,
    published: bool = False,
    workers: int | None = None,
    force: bool = False,
    on_done: Progress = lambda done, total: None,
) -> dict:
    """Score the folder ``maps`` of any model (:class:`diffsal.scoring.map_folders.MapFolder`) against a ground truth.

    ``root`` is a data set, found out by its layout where ``dataset`` is None, or holds ``VIDEO/maps`` and
    ``VIDEO/fixation``. The rest is as in :func:`evaluate`.
    """
    chosen = _protocol(protocol)
    _check_out(out, force)
    if not maps.is_dir():
        raise InputError(f"{maps}: no such folder; give the one that holds the model's maps")
    dataset = dataset or recognise(root)
    if dataset not in (PLAIN, *DATASETS):
        raise InputError(f"{dataset}: no such data set; there are {', '.join(DATASETS)}")
    split = split or own_split(dataset)
    everybody = plain_folders(root) if dataset == PLAIN else DATASETS[dataset](root, split, fold)
    model = MapFolder(name or maps.resolve().name, maps)
    settings = {"split": split, "fold": fold, "maps": str(maps)}
    return score_clips(
        _named(everybody, clips), [model], chosen.name, out, everybody=everybody, baselines=baselines,
        workers=workers or os.cpu_count() or 1, on_done=on_done,
        head=document_head("score", dataset, root, chosen, settings),
        published=published_rows([dataset]) if published else ())


def own_protocol(dataset: str) -> str:
    """The protocol that papers use on a data set."""
    return "gaze" if dataset == "gaze" else "stavis" if dataset in SETS else "dhf1k"


def own_split(dataset: str) -> str:
    """The part of a data set that is scored: DHF1K keeps the ground truth of its test set to itself."""
    return {"gaze": "all", "dhf1k": "val", PLAIN: "all"}.get(dataset, "test")


def recognise(root: Path) -> str:
    """The data set that lies under ``root``, by its layout. :class:`InputError` if that does not tell."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds the ground truth")
    if (root / "gaze").is_dir():
        return "gaze"
    if (root / "fold_lists").is_dir():
        there = [name for name, facts in SETS.items() if (root / "annotations" / facts.folder).is_dir()]
        if len(there) != 1:
            raise InputError(f"{root}: holds {', '.join(there) or 'none of the audio-visual sets'}; "
                             "say which one with --dataset")
        return there[0]
    if (root / "testing").is_dir() or (root / "training").is_dir():
        return "hollywood2" if next(root.glob("*/actionclip*"), None) else "ucf_sports"
    if (root / "annotation").is_dir() or (root / "maps").is_dir():
        return "dhf1k"
    if next(root.glob("*/maps"), None):
        return PLAIN
    raise InputError(f"{root}: no ground truth in a layout that is known; say which with --dataset, or lay it out as "
                     "VIDEO/maps/*.png and VIDEO/fixation/*.png")


def plain_folders(root: Path) -> list[Clip]:
    """``VIDEO/maps/*`` with ``VIDEO/fixation/*`` (or ``fixation/maps/*.mat``, ``fixations/*``), for any data."""
    return [
        Clip(folder.name, PLAIN, "all", folder / "maps", MapFiles(folder / "maps", (
            folder / "fixation" / "maps", folder / "fixation", folder / "fixations")))
        for folder in sorted(root.iterdir()) if (folder / "maps").is_dir()]


def _named(clips: Sequence[Clip], names: Sequence[str]) -> list[Clip]:
    known = {clip.name for clip in clips}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"{unknown[0]}: no clip of that name; there are {', '.join(sorted(known)[:12])}"
                         f"{' …' if len(known) > 12 else ''}")
    return [clip for clip in clips if not names or clip.name in names]


def _protocol(name: str):
    if name not in PROTOCOLS:
        raise InputError(f"{name}: no such protocol; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, but scores need a folder; give another name with --out")
    if (out / "scores.json").exists() and not force:
        raise InputError(f"{out}: holds scores already; give another folder with --out or overwrite with --force")
