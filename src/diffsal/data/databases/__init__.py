"""Ten data sets, one :class:`diffsal.data.clip.Clip` type: ``DATASETS[name](root, split, fold=None) -> list[Clip]``.

``split`` is ``train``, ``val`` (DHF1K only), ``test`` or ``all``; in the gaze layout it is the name of a set.
``fold`` is 1, 2 or 3 in the audio-visual sets; without it, the clips of all three lists, each once.
"""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

from diffsal.data.clip import Clip
from diffsal.data.databases import dhf1k, gaze, hollywood2, stavis, ucf_sports
from diffsal.errors import InputError

DATASETS: dict[str, Callable[..., list[Clip]]] = {
    "dhf1k": dhf1k.read,
    "hollywood2": hollywood2.read,
    "ucf_sports": ucf_sports.read,
    "avad": partial(stavis.read, "avad"),
    "coutrot1": partial(stavis.read, "coutrot1"),
    "coutrot2": partial(stavis.read, "coutrot2"),
    "diem": partial(stavis.read, "diem"),
    "etmd": partial(stavis.read, "etmd"),
    "summe": partial(stavis.read, "summe"),
    "gaze": gaze.read,
}


def find(name: str) -> Callable[..., list[Clip]]:
    """``DATASETS[name]``; :class:`InputError` with the nearest name for one that is not there."""
    if name not in DATASETS:
        near = get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DATASETS)}"
        raise InputError(f"data set {name!r}: no such name; {hint}")
    return DATASETS[name]
