"""Ten data sets, one record each: ``DATASETS[name](root, split, fold=None)`` are its clips.

``split`` is ``train``, ``val`` (DHF1K only), ``test`` or ``all``; in the gaze layout it is the name of a set.
``fold`` is 1, 2 or 3 in the audio-visual sets; without it, the clips of all three lists, each once.
"""

from difflib import get_close_matches
from pathlib import Path

from diffsal.data.databases import dhf1k, folders, gaze, hollywood2, stavis, ucf_sports
from diffsal.data.databases.record import Database
from diffsal.errors import InputError

DATASETS: dict[str, Database] = {
    record.name: record for record in (
        dhf1k.DATABASE, hollywood2.DATABASE, ucf_sports.DATABASE, *stavis.DATABASES.values(), gaze.DATABASE)}
PLAIN = folders.DATABASE  # ground truth as VIDEO/{maps,fixation}, of no known data set


def find(name: str) -> Database:
    """``DATASETS[name]``; :class:`InputError` with the nearest name for one that is not there."""
    if name not in DATASETS:
        near = get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DATASETS)}"
        raise InputError(f"data set {name!r}: no such name; {hint}")
    return DATASETS[name]


def root_of(data: Path, name: str) -> Path:
    """Where a data set lies under ``data``: in a folder of its name, or in ``data`` itself."""
    return data / name if (data / name).is_dir() else data


def record_of(name: str) -> Database:
    """The record of a clip's ``dataset``; for one that is in no register, plain folders'."""
    return DATASETS.get(name, PLAIN)


def recognise(root: Path) -> Database:
    """The database that lies under ``root``, by its layout. :class:`InputError` if that does not tell."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds the ground truth")
    found = [record for record in (gaze.DATABASE, *DATASETS.values()) if record.recognise(root)]
    if found and found[0] is gaze.DATABASE:
        return gaze.DATABASE
    if len(found) == 1 or (found and not found[0].num_test):
        return found[0]
    if found or (root / "fold_lists").is_dir():
        there = ", ".join(record.name for record in found) or "none of the audio-visual sets"
        raise InputError(f"{root}: holds {there}; say which one with --dataset")
    if PLAIN.recognise(root):
        return PLAIN
    raise InputError(f"{root}: no ground truth in a layout that is known; say which with --dataset, or lay it out as "
                     "VIDEO/maps/*.png and VIDEO/fixation/*.png")
