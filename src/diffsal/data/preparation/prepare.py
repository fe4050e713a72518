"""What the readers need and a download does not hold: archives opened, frames and sound extracted, maps drawn.

What is there stays as it is (``force`` draws maps and fixations anew), and each file or folder appears whole: a run
that was stopped goes on.
"""

from __future__ import annotations

import csv
import io
import threading
import wave
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from diffsal.data import tables
from diffsal.data.clip import Clip
from diffsal.data.databases import find, gaze, record_of
from diffsal.data.map_files import MapFiles, read_fixations
from diffsal.data.preparation.archives import extract, find_archives, move_aside
from diffsal.data.preparation.samples import Found, Recording, fixations
from diffsal.data.truth import Sigma, blur_to_bytes
from diffsal.data.workers import in_parallel
from diffsal.errors import InputError
from diffsal.files import line_of, whole_folder, write_whole
from diffsal.folders import find_file, list_files, list_folders, stem_of
from diffsal.media.pictures import PICTURE_SUFFIXES, write_picture
from diffsal.media.source import VIDEO_SUFFIXES, open_source

ONSET_SECONDS = 0.02  # a fixation that begins no later than this was there when the picture appeared


@dataclass(frozen=True)
class Preparation:
    """What to make. ``sigma`` None: the blur that was published, elsewhere 0.025 of the width.

    ``frames``: extract every video file to pictures (``picture_format`` jpg or png), which training reads faster, and
    its sound to wav where the layout has a place for it. ``recording`` says what samples of an eye tracker mean.
    """

    frames: bool = False
    picture_format: str = "jpg"
    sigma: Sigma | None = None
    recording: Recording = field(default_factory=Recording)
    force: bool = False

    def __post_init__(self) -> None:
        if self.picture_format not in ("jpg", "png"):
            raise InputError(f"format {self.picture_format!r}: expected jpg or png")


class Stopped(Exception):
    """Someone has stopped the run while this piece was being made."""


@dataclass(eq=False)
class Prepared:
    """How many of what were made, one line for each thing that could not be, and one for what was left out."""

    made: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def go_on(self) -> None:
        """Raises :class:`Stopped` once the run is stopped; what is half done is then thrown away."""
        if self.stop.is_set():
            raise Stopped

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in self.made.items()) or "nothing had to be made"


Job = Callable[[Prepared], None]  # adds what it made and what went wrong


def prepare(
    dataset: str,
    root: Path,
    settings: Preparation | None = None,
    *,
    workers: int | None = None,
    on_job: Callable[[int, int], None] = lambda done, total: None,
) -> Prepared:
    """Make what is missing of ``dataset`` under ``root``.

    In this order, each several at a time: archives; samples to fixations (gaze layout); then, clip by clip, frames,
    sound and maps. ``on_job(done, total)`` is called after each piece. One that fails is told in ``problems`` and the
    others go on. Raises :class:`InputError` for an unknown data set, or where nothing of it is there.
    """
    find(dataset)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; put the download there, see docs/databases.md")
    settings, result, done = settings or Preparation(), Prepared(), 0
    archives, foreign = find_archives(root)
    for step in (lambda: [partial(_extract, archive) for archive in archives],
                 lambda: _sample_jobs(root, settings) if find(dataset) is gaze.DATABASE else [],
                 lambda: [partial(_prepare_clip, clip, root, settings) for clip in _clips(dataset, root, result)]):
        try:
            jobs = step()
        except InputError as error:
            hint = f"; extract {foreign[0].name} there first, with `unar` or `7z x`" if foreign else ""
            raise InputError(result.problems[0] if result.problems else f"{error}{hint}") from None
        total, stop = done + len(jobs), threading.Event()
        for one in in_parallel(partial(_run, stop), jobs, workers, stop):
            done += 1
            result.made += one.made
            result.problems += one.problems
            result.notes += one.notes
            on_job(done, total)
    return result


def _run(stop: threading.Event, job: Job) -> Prepared:
    result = Prepared(stop=stop)
    try:
        job(result)
    except Stopped:
        return Prepared()
    except (InputError, OSError) as error:
        result.problems.append(line_of(error))
    return result


def _clips(dataset: str, root: Path, result: Prepared) -> list[Clip]:
    """Every clip; of the gaze layout those of each set that can be read."""
    if find(dataset) is not gaze.DATABASE:
        return find(dataset)(root, "all")
    clips, names = [], gaze.set_names(root)
    if not names:
        raise InputError(f"{root}: no sets: expected folders videos/SET or images/SET; see docs/databases.md")
    for name in names:
        try:
            clips += gaze.read(root, name)
        except InputError as error:
            result.problems.append(str(error))
    return clips


def _extract(archive: Path, result: Prepared) -> None:
    result.made["files out of archives"] += extract(archive, result.go_on, result.notes.append)


# --- one clip -----------------------------------------------------------------------------------------------------


def _prepare_clip(clip: Clip, root: Path, settings: Preparation, result: Prepared) -> None:
    clip = clip.fresh()
    if settings.frames and clip.video.suffix.lower() in VIDEO_SUFFIXES and clip.video.is_file():
        _extract_frames(clip, root, settings, result)
    sigma = settings.sigma or record_of(clip.dataset).sigma
    if isinstance(clip.truth, MapFiles):
        _draw_missing_maps(clip.truth, sigma, settings, result)
    elif isinstance(clip.truth, gaze.GazeTruth):
        _draw_gaze(clip, root, sigma, settings, result)


def _extract_frames(clip: Clip, root: Path, settings: Preparation, result: Prepared) -> None:
    """Pictures where the reader looks for them first; and the sound, in STAViS's package."""
    places = record_of(clip.dataset).extracted
    if places is None:
        return  # the times of the video file count
    to = places(root, clip)
    sound = None if to.sound is None or to.sound.exists() else clip.sound(None)
    if sound is not None and to.sound is not None:
        start = round((clip.seconds(0) - sound.start_seconds) * sound.rate)
        write_wav(to.sound, sound.excerpt(start, len(sound.waveform)), sound.rate)
        result.made["sounds"] += 1
    source = clip.source()
    with whole_folder(to.frames) as growing:
        for frame in source.frames():
            result.go_on()
            write_picture(growing / f"{to.name.format(frame.index + 1)}.{settings.picture_format}", frame.image)
            result.made["frames"] += 1
    result.problems += source.problems


def write_wav(path: Path, waveform: np.ndarray, rate: int) -> None:
    """float32 (n,) in [-1, 1] → 16-bit mono."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.clip(np.rint(waveform * 32_768), -32_768, 32_767).astype("<i2").tobytes())
    write_whole(path, data.getvalue())


def _draw_missing_maps(truth: MapFiles, sigma: Sigma, settings: Preparation, result: Prepared) -> None:
    """A map for every file of fixations that has none; where nobody fixates, none."""
    for number, name in truth.fixation_names.items():
        if number in truth.map_names and not settings.force:
            continue
        result.go_on()
        path = truth.fixation_folder / name
        try:
            fixated = read_fixations(path)
        except InputError as error:
            result.problems.append(str(error))
            continue
        if not fixated.any():
            result.problems.append(f"{path}: nobody fixates, so there is no map; leave the frame out")
            continue
        width = fixated.shape[1]
        target = truth.maps / truth.map_names.get(number, f"{path.stem.replace('fixMap', 'eyeMap')}.png")
        pixels = width * sigma.fraction(width, _degrees_wide(settings.recording, width))
        if target.exists():  # the database's own, perhaps: moved aside, and never twice
            move_aside(target, truth.maps.with_name(f"{truth.maps.name}.old") / target.name)
        write_picture(target, blur_to_bytes(fixated, pixels))
        result.made["maps"] += 1


def _draw_gaze(clip: Clip, root: Path, sigma: Sigma, settings: Preparation, result: Prepared) -> None:
    """``maps/SET/CLIP/000000.png`` and ``fixations/SET/CLIP/000000.png``; of a picture, ``SET/PICTURE.png``."""
    ending = ".png" if clip.is_picture else ""
    maps, points = (root / kind / clip.split / f"{clip.name}{ending}" for kind in ("maps", "fixations"))
    assert isinstance(clip.truth, gaze.GazeTruth)
    edited = maps.exists() and clip.truth.table.stat().st_mtime_ns > maps.stat().st_mtime_ns
    if maps.exists() and points.exists() and not settings.force and not edited:
        return
    scale = sigma.fraction(clip.width, _degrees_wide(settings.recording, clip.width))
    truth = gaze.GazeTruth(clip.truth.table, scale, clip.truth.gaze)
    if truth.outside:
        result.problems.append(f"{truth.table}: {truth.outside} fixations outside the picture of {clip.name} left out")
    if clip.is_picture:
        write_picture(points, truth.fixations(clip, 0).astype(np.uint8) * 255)
        write_picture(maps, np.rint(truth.saliency_map(clip, 0) * 255).astype(np.uint8))
        result.made["maps"] += 1
        return
    with whole_folder(points) as growing:
        for index in range(clip.num_frames):
            result.go_on()
            write_picture(growing / f"{index:06d}.png", truth.fixations(clip, index).astype(np.uint8) * 255)
    with whole_folder(maps) as growing:
        for index in range(clip.num_frames):
            result.go_on()
            saliency = truth.saliency_map(clip, index)
            write_picture(growing / f"{index:06d}.png", np.rint(saliency * 255).astype(np.uint8))
    result.made["maps"] += clip.num_frames


def _degrees_wide(recording: Recording, width: int) -> float | None:
    degree = recording.pixels_per_degree
    return None if degree is None else recording.place(width, 1)[2] / degree


# --- samples of an eye tracker --------------------------------------------------------------------------------------


def _sample_jobs(root: Path, settings: Preparation) -> list[Job]:
    """One job for each clip's table of samples, ``samples/SET/CLIP.csv``, and one for each set of pictures."""
    jobs: list[Job] = []
    for folder in list_folders(root / "samples"):
        paths = list_files(folder, tables.SUFFIXES)
        if (root / "images" / folder.name).is_dir():
            target = gaze.picture_table(root, folder.name)
            if settings.force or not target.exists():
                jobs.append(partial(_fixate_pictures, paths, root / "images" / folder.name, target, settings))
            continue
        by_clip: dict[str, Path] = {}
        for path in paths:
            by_clip.setdefault(stem_of(path, tables.SUFFIXES), path)
        for clip, path in by_clip.items():
            target = gaze.video_table(root, folder.name, clip)
            if settings.force or not target.exists():
                jobs.append(partial(_fixate_clip, path, root / "videos" / folder.name, target, settings))
    return jobs


def _fixate_clip(path: Path, videos: Path, target: Path, settings: Preparation, result: Prepared) -> None:
    shown = _beside(videos, stem_of(path, tables.SUFFIXES), VIDEO_SUFFIXES)
    lines = [(o, f"{s:.4f}", f"{d:.4f}", f"{x:.6f}", f"{y:.6f}")
             for o, s, d, x, y in _fixations(path, shown, settings, result)]
    _write_table(target, gaze.VIDEO_COLUMNS, lines, result)
    result.made["tables of fixations"] += 1


def _fixate_pictures(paths: list[Path], folder: Path, target: Path, settings: Preparation, result: Prepared) -> None:
    """All pictures of a set in one table; ``index`` 0 is the fixation that was there when the picture appeared."""
    lines: list[tuple] = []
    for path in paths:
        picture = stem_of(path, tables.SUFFIXES)
        try:
            rows = _fixations(path, _beside(folder, picture, PICTURE_SUFFIXES), settings, result)
        except InputError as error:
            result.problems.append(f"{error}; left out of {target}, add it with --force")
            continue
        for observer in sorted({row[0] for row in rows}):
            own = sorted(row for row in rows if row[0] == observer)
            first = 0 if own[0][1] <= ONSET_SECONDS else 1
            lines += [(picture, observer, index, f"{x:.6f}", f"{y:.6f}", f"{duration:.4f}")
                      for index, (_, _, duration, x, y) in enumerate(own, first)]
    if not lines:
        return
    _write_table(target, (*gaze.PICTURE_COLUMNS, "duration_s"), lines, result)
    result.made["tables of fixations"] += 1


def _fixations(path: Path, shown: Path, settings: Preparation, result: Prepared) -> list[tuple]:
    source = open_source(shown)
    found: Found = fixations(path, settings.recording, source.width, source.height)
    for word, count in found.lost.items():
        result.notes.append(f"{path}: {count:,} samples at {word} are lost samples and left out")
    if found.repeated:
        result.notes.append(f"{path}: {found.repeated:,} samples have the time of one before them and are left out; "
                            "if they are another trial or the other eye, give them a table or an observer of their own")
    if not found.rows:
        raise InputError(f"{path}: no fixation in its samples lies on the picture ({found.outside} lie outside); check "
                         "the units, the pixels per degree and where the picture was shown")
    if found.outside:
        result.made["fixations outside the picture left out"] += found.outside
    return found.rows


def _beside(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path:
    found = folder / stem if (folder / stem).is_dir() else find_file(folder, stem, suffixes)
    if found is None:
        raise InputError(f"{folder / stem}: no such video or picture, but there are samples for it; put it there")
    return found


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple], result: Prepared) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    data = text.getvalue().encode(errors="surrogateescape")
    if path.suffix == ".gz":
        path = path.with_name(path.name[: -len(".gz")])
    if path.exists() and path.read_bytes() != data:  # somebody has edited it, perhaps
        kept = move_aside(path, path.with_name(f"{path.name}.old"))
        result.notes.append(f"{path}: made anew; the one that was there is now {kept.name}")
    write_whole(path, data)
