"""The six audio-visual sets in the package of STAViS (Tsiami et al., CVPR 2020).

``video_frames/SET/VIDEO/img_00001.jpg``, ``video_audio/SET/VIDEO/VIDEO.wav``,
``annotations/SET/VIDEO/maps/eyeMap_00001.jpg``, ``annotations/SET/VIDEO/fixMap_00001.mat`` (``eyeMap``), and
``fold_lists/SET_list_{train,test}_{1,2,3}_fps.txt`` (DIEM: one list without the number), lines ``NAME FRAMES FPS``.
Without a folder of frames, ``videos/SET/VIDEO.mp4`` is read, or any other kind of video file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diffsal.data.clip import Clip
from diffsal.data.databases.record import Database, Extracted
from diffsal.data.map_files import MapFiles
from diffsal.errors import InputError
from diffsal.folders import find_file
from diffsal.media.source import VIDEO_SUFFIXES

MOST_BYTES = 16 << 20  # of a list


@dataclass(frozen=True)
class Facts:
    """A set's folder, its number of videos, and how many of them each split tests."""

    folder: str
    num_videos: int
    num_test: tuple[int, ...]


SETS = {
    "avad": Facts("AVAD", 45, (15, 15, 15)),
    "coutrot1": Facts("Coutrot_db1", 60, (20, 20, 20)),
    "coutrot2": Facts("Coutrot_db2", 15, (5, 5, 5)),
    "diem": Facts("DIEM", 81, (17,)),
    "etmd": Facts("ETMD_av", 12, (4, 4, 4)),
    "summe": Facts("SumMe", 25, (8, 7, 8)),
}


def read(dataset: str, root: Path, split: str = "all", fold: int | None = None) -> list[Clip]:
    """The clips of ``train``, ``test`` or ``all`` in ``fold`` 1, 2 or 3, by name.

    Without a fold, those of all three, each once: a clip's ``fold`` and ``split`` are then those in which it is tested,
    if it is, or else the first in which it trains. DIEM has one list, which stands for every fold.
    """
    if split not in ("train", "test", "all"):
        raise InputError(f"split {split!r} of {dataset}: expected one of train, test, all")
    if fold not in (None, 1, 2, 3):
        raise InputError(f"fold {fold!r} of {dataset}: expected 1, 2 or 3")
    facts = SETS[dataset]
    found: dict[str, Clip] = {}
    folds: list[int | None] = [None] if len(facts.num_test) == 1 else [fold] if fold else [1, 2, 3]
    for kind in ("test", "train") if split == "all" else (split,):
        for number in folds:
            for name, frames, rate in read_list(list_path(root, dataset, kind, number)):
                found.setdefault(name, _clip(root, dataset, name, kind, number, frames, rate))
    return [found[name] for name in sorted(found)]


def list_path(root: Path, dataset: str, kind: str, fold: int | None) -> Path:
    """Where the list of ``kind`` (train, test) stands."""
    number = "" if fold is None else f"_{fold}"
    return root / "fold_lists" / f"{SETS[dataset].folder}_list_{kind}{number}_fps.txt"


def read_list(path: Path) -> list[tuple[str, int, float]]:
    """Name, number of frames and frames per second of each line. :class:`InputError` names a line that is not so."""
    if not path.exists():
        raise InputError(f"{path}: no such list; it comes with STAViS's package (fold_lists), see docs/databases.md")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: is larger than any list of videos; fetch it again")
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    rows = []
    for number, line in enumerate(lines, 1):
        words = line.rsplit(maxsplit=2)
        if not words:
            continue
        try:
            name, frames, rate = words[0], int(words[1]), float(words[2])
            if Path(name).name != name:
                raise ValueError
        except (IndexError, ValueError):
            raise InputError(f"{path}: line {number} is {line!r}, expected NAME FRAMES FPS; fetch it again") from None
        if frames < 1 or not 0 < rate < 1000:
            raise InputError(f"{path}: line {number} has {frames} frames at {rate} per second; fetch it again")
        rows.append((name, frames, rate))
    return rows


def _clip(root: Path, dataset: str, name: str, split: str, fold: int | None, frames: int, rate: float) -> Clip:
    place = Path(SETS[dataset].folder) / name
    folder, truth = root / "video_frames" / place, root / "annotations" / place
    sound = root / "video_audio" / place / f"{name}.wav"
    file = find_file(root / "videos" / place.parent, name, VIDEO_SUFFIXES)
    video = folder if file is None or folder.is_dir() else file
    if file is not None and not sound.exists():
        sound = file
    return Clip(name, dataset, split, video, MapFiles(truth / "maps", (truth,)), rate, sound, fold, frames)


def recognise(dataset: str, root: Path) -> bool:
    """Whether annotations of ``dataset`` lie under ``root``."""
    return (root / "fold_lists").is_dir() and (root / "annotations" / SETS[dataset].folder).is_dir()


def extracted(root: Path, clip: Clip) -> Extracted:
    """Where the package keeps frames and sound."""
    place = Path(SETS[clip.dataset].folder) / clip.name
    return Extracted(root / "video_frames" / place, "img_{:05d}", root / "video_audio" / place / f"{clip.name}.wav")


DATABASES = {name: Database(
    name, partial(read, name), protocol="stavis", splits=dict.fromkeys(("train", "test")),
    num_videos=facts.num_videos, num_test=facts.num_test, recognise=partial(recognise, name), has_sound=True,
    extracted=extracted) for name, facts in SETS.items()}
