"""Is a download whole? Counts against the published ones, and what is missing, unreadable or does not fit together."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from diffsal.data.clip import Clip
from diffsal.data.databases import find, gaze, record_of
from diffsal.data.databases.record import Database
from diffsal.data.map_files import MapFiles
from diffsal.data.workers import in_parallel
from diffsal.errors import InputError
from diffsal.media.soundtrack import sound_end

SAMPLED_FRAMES = 3  # of each clip are decoded: the first, the middle, the last
SOUND_TOLERANCE_SECONDS = 0.5
RATE_TOLERANCE = 0.01
WAV_HEADER_BYTES = 44
NAMED_FILES = 3  # of many that have the same fault


@dataclass(eq=False)
class Row:
    """What one split holds. ``published`` is None where no number was published."""

    split: str
    videos: int
    published: int | None = None
    frames: int = 0
    maps: int = 0
    fixations: int = 0
    sounds: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Report:
    """One row for each split, and one line for each thing that is wrong."""

    dataset: str
    rows: list[Row]

    @property
    def problems(self) -> list[str]:
        return [problem for row in self.rows for problem in row.problems]

    def table(self) -> Table:
        columns = ("split", "videos", "published", "frames", "maps", "fixations", "sound", "problems")
        table = Table(title=self.dataset, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left")
        for r in self.rows:
            published = "–" if r.published is None else f"{r.published:,}"
            counts = (r.frames, r.maps, r.fixations, r.sounds)
            shown = (f"{n:,}" if n else "–" for n in counts)
            table.add_row(r.split, f"{r.videos:,}", published, *shown, f"{len(r.problems):,}")
        return table


def validate(
    dataset: str,
    root: Path,
    split: str = "all",
    *,
    partial: bool = False,
    full: bool = False,
    workers: int | None = None,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Check ``split`` of ``dataset`` under ``root``.

    Every folder is listed and every file's size seen; of each clip :data:`SAMPLED_FRAMES` frames are decoded with
    their ground truth, with ``full`` all of them. ``partial`` leaves out the comparison with the published numbers.
    ``on_clip(done, total)`` is called after each clip. Raises :class:`InputError` for an unknown data set or split, or
    where nothing of the data set is there.
    """
    groups = _splits(find(dataset), root, split)
    if not any(clips for _, clips in groups):
        raise InputError(groups[0][0].problems[0] if groups else f"{root}: no {dataset} there; see docs/databases.md")
    total, done = sum(len(clips) for _, clips in groups), 0
    for row, clips in groups:
        if not partial and row.published not in (None, row.videos):
            row.problems.insert(0, f"{root}: {row.split}: {row.videos} videos, published were {row.published}; fetch "
                                   "the rest (--partial: a part is meant)")
        for found in in_parallel(lambda clip: check_clip(clip, full), clips, workers):
            for name in ("frames", "maps", "fixations", "sounds"):
                setattr(row, name, getattr(row, name) + getattr(found, name))
            row.problems += found.problems
            done += 1
            on_clip(done, total)
    return Report(dataset, [row for row, _ in groups])


def _splits(database: Database, root: Path, split: str) -> list[tuple[Row, list[Clip]]]:
    """The rows of the table, each with the clips that are checked for it."""
    if database.num_test:
        return _folds(database, root, split)
    published = database.splits_of(root)
    if split != "all" and split not in published:
        database(root, split)  # says which there are
    groups = []
    for name in published if split == "all" else [split]:
        row = Row(name, 0, published[name])
        clips: list[Clip] = []
        try:
            clips = database(root, name)
        except InputError as error:
            row.problems.append(str(error))
        if clips and database.name == "gaze":
            row.problems += gaze.left_out(root, name)
        row.videos = len({database.video_of(c) for c in clips})
        groups.append((row, clips))
    return groups


def _folds(database: Database, root: Path, split: str) -> list[tuple[Row, list[Clip]]]:
    """All clips once, then what the list of each fold names."""
    clips, groups = database(root, split), []
    groups.append((Row(split, len(clips), database.num_videos if split == "all" else None), clips))
    for number, published in enumerate(database.num_test, 1):
        name = f"test, fold {number}" if len(database.num_test) > 1 else "test"
        if split != "train":
            groups.append((Row(name, len(database(root, "test", number)), published), []))
    return groups


def check_clip(clip: Clip, full: bool = False) -> Row:
    """Counts and problems of one clip."""
    clip, row = clip.fresh(), Row(clip.split, 1)
    try:
        row.frames = clip.num_frames
    except InputError as error:
        row.problems.append(str(error))
        return row
    for check in (_check_frames, _check_truth, _check_sound):
        try:
            check(clip, row, full)
        except (InputError, OSError) as error:
            row.problems.append(str(error))
    return row


def _check_frames(clip: Clip, row: Row, full: bool) -> None:
    source = clip.source()
    if clip.listed_frames is not None and clip.num_frames < clip.listed_frames:
        row.problems.append(f"{clip.video}: {clip.num_frames} frames of {clip.listed_frames} in the list; "
                            "fetch or extract the rest")
    known = clip.folder_frame_rate if clip.listed_frames else record_of(clip.dataset).frame_rate
    if source.path and known and abs(source.frame_rate / known - 1) > RATE_TOLERANCE:
        row.problems.append(f"{clip.video}: {source.frame_rate:.3f} frames per second, the database's are {known:.3f}: "
                            "its frames are not those of the ground truth; fetch it again")
    if source.pictures:
        row.problems += _empty(source.pictures[0].parent, [p.name for p in source.pictures], "empty frames")
    if full and not source.pictures:
        count = sum(1 for _ in source.frames())
        row.problems += source.problems
        if count != clip.num_frames:
            row.problems.append(f"{clip.video}: {count} frames can be decoded, {clip.num_frames} were expected")
        return
    for index in _sampled(clip, full) if source.pictures else [0]:
        try:
            clip.frames([index])
        except InputError as error:
            row.problems.append(str(error))
    if source.path and source.duration_seconds and clip.num_frames > 1:
        end = clip.seconds(clip.num_frames - 1) + 1 / clip.frame_rate
        least = source.duration_seconds - SOUND_TOLERANCE_SECONDS
        if end < least and not (source.has_sound and sound_end(source.path, source.origin_seconds) >= least):
            row.problems.append(f"{clip.video}: ends at {end:.2f} s of {source.duration_seconds:.2f} s, cut short; "
                                "fetch it again")


def _check_truth(clip: Clip, row: Row, full: bool) -> None:
    truth = clip.truth
    if isinstance(truth, MapFiles):
        numbers = {clip.number(i) for i in range(clip.num_frames)}
        maps, fixations = truth.map_names, truth.fixation_names
        row.maps, row.fixations = len(maps), len(fixations)
        row.problems += _missing(truth.maps, sorted(numbers - set(maps)), "frames without a map")
        row.problems += _missing(truth.maps, sorted(set(maps) - numbers), "maps without a frame")
        if fixations:
            without = sorted(set(maps) - set(fixations))
            row.problems += _missing(truth.fixation_folder, without, "maps without fixations")
        elif maps:
            row.problems.append(f"{truth.fixation_folder}: no fixations for {len(maps)} maps; fetch them")
        row.problems += _empty(truth.maps, maps.values(), "empty maps")
        row.problems += _empty(truth.fixation_folder, fixations.values(), "empty fixation files")
        for index in _sampled(clip, full):
            if clip.number(index) in maps and truth.map_path(clip, index).stat().st_size:
                _check_map(clip, index, row)
    elif isinstance(truth, gaze.GazeTruth):
        rows = truth.gaze.fixations
        row.fixations = len(rows)
        if not len(rows):
            row.problems.append(f"{truth.table}: holds no fixation; record or export them again")
        if truth.outside:
            row.problems.append(f"{truth.table}: {truth.outside} of {len(rows)} fixations lie outside the picture of "
                                f"{clip.name}; x and y are fractions of width and height")
        late = 0 if clip.is_picture else int((rows[:, 1] > clip.seconds(clip.num_frames - 1) + 1).sum())
        if late:
            row.problems.append(f"{truth.table}: {late} of {len(rows)} fixations begin after the end of {clip.video}; "
                                "start_s is in seconds on the clip's clock")


def _check_map(clip: Clip, index: int, row: Row) -> None:
    """One map and its fixations: readable, of one size, not empty."""
    path = clip.map_path(index)
    try:
        saliency = clip.saliency_map(index)
        assert path is not None and saliency is not None and isinstance(clip.truth, MapFiles)
        if not saliency.any():
            row.problems.append(f"{path}: the map is zero everywhere; fetch it again, or leave the frame out")
        if clip.number(index) not in clip.truth.fixation_names:
            return
        fixations = clip.fixations(index)
        assert fixations is not None
    except InputError as error:
        row.problems.append(str(error))
        return
    own = clip.truth.fixation_folder / clip.truth.fixation_names[clip.number(index)]
    if saliency.shape != fixations.shape:
        sizes = [f"{a.shape[1]}x{a.shape[0]}" for a in (saliency, fixations)]
        row.problems.append(f"{path}: the map is {sizes[0]}, its fixations {sizes[1]} ({own}); fetch both again")
    elif saliency.any() and not fixations.any():
        row.problems.append(f"{own}: nobody fixates, but the map {path} is not zero; fetch it again")


def _check_sound(clip: Clip, row: Row, full: bool) -> None:
    if not clip.has_sound:
        if record_of(clip.dataset).num_test:
            row.problems.append(f"{clip.video}: has no sound; fetch the video again or put a wav beside it")
        return
    seconds = _sound_seconds(clip, full)
    row.sounds = int(seconds > 0)
    expected = clip.seconds(clip.num_frames - 1) + 1 / clip.frame_rate
    if record_of(clip.dataset).num_test and seconds < expected - SOUND_TOLERANCE_SECONDS:
        row.problems.append(f"{clip.sound_path or clip.video}: {seconds:.2f} s of sound for {expected:.2f} s of video; "
                            "fetch or extract it again")


def _sound_seconds(clip: Clip, full: bool) -> float:
    """When the sound ends: by a wav's size or a file's last packet, with ``full`` by decoding."""
    path = clip.sound_path or clip.video
    if not path.exists():
        raise InputError(f"{path}: no such sound; fetch it, or extract it from the video with `diffsal prepare`")
    if full:
        sound = clip.sound(None)
        return 0.0 if sound is None else sound.start_seconds + sound.duration_seconds
    if path.suffix.lower() == ".wav":
        try:
            with wave.open(str(path)) as file:
                sample_bytes = file.getnchannels() * file.getsampwidth()
                size = min(file.getnframes() * sample_bytes, path.stat().st_size - WAV_HEADER_BYTES)
                return size / sample_bytes / file.getframerate()
        except (wave.Error, EOFError):
            pass  # another kind of wav than plain PCM
    return sound_end(str(path), clip.source().origin_seconds)


def _sampled(clip: Clip, full: bool) -> Iterable[int]:
    if full:
        return range(clip.num_frames)
    return sorted(set(np.linspace(0, clip.num_frames - 1, SAMPLED_FRAMES).round().astype(int).tolist()))


def _missing(folder: Path, numbers: list[int], what: str) -> list[str]:
    if not numbers:
        return []
    return [f"{folder}: {what}: {len(numbers)} (number {_named(numbers)}); fetch them again"]


def _empty(folder: Path, names: Iterable[str], what: str) -> list[str]:
    wanted = set(names)
    if not wanted:
        return []
    with os.scandir(folder) as entries:  # by name, from a listing that leaves clutter out
        empty = sorted(e.name for e in entries if e.name in wanted and not e.stat().st_size)
    return [f"{folder}: {what}: {len(empty)} ({_named(empty)}); fetch them again"] if empty else []


def _named(items: list) -> str:
    return ", ".join(map(str, items[:NAMED_FILES])) + ", …" * (len(items) > NAMED_FILES)
