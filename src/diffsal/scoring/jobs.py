"""Clips and models' maps → scores per frame, in parallel, beside baselines on the same frames.

Clips are divided among processes; what is done is kept in ``OUT/.parts`` until all is, so that a run that was killed
goes on where it stood. What is at fault with one frame or clip is named and counted, and the others go on.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Interface

import numpy as np

from diffsal.data.clip import Clip
from diffsal.data.workers import end_with_parent
from diffsal.errors import InputError
from diffsal.files import write_whole
from diffsal.scoring import results as scores
from diffsal.scoring.ground_truth import GroundTruth, halves_of_pack
from diffsal.scoring.map_folders import is_single_file
from diffsal.scoring.protocols import (
    PROTOCOLS,
    FrameTruth,
    centre_prior,
    count_fixations,
    drawn_map,
    score_frame,
    seed_of,
)
from diffsal.scoring.results import CENTRE, HUMANS, ClipScores

PICTURES_AT_ONCE = 25
LINES_PER_CLIP = 5  # problems of one clip that are told one by one


_job: Job | None = None  # a worker's own


class Maps(Interface):
    """Where a model's maps come from: its weights (:class:`diffsal.scoring.predicted_maps.Network`) or a folder."""

    name: str

    def maps(
        self, clip: Clip, wanted: list[int], problems: list[str]
    ) -> Iterator[tuple[int, np.ndarray | InputError]]: ...

    def fingerprint(self, clips: list[Clip]) -> list: ...


@dataclass(frozen=True, eq=False)
class Job:
    """What every process has to know. ``halves`` are the orders in which the gaze pack's script divides observers."""

    protocol: str
    models: tuple[Maps, ...]
    clips: tuple[Clip, ...]
    baselines: bool = True
    halves: dict[tuple[str, str], dict[int, np.ndarray]] = field(default_factory=dict)


def score_clips(
    clips: Sequence[Clip],
    models: Sequence[Maps],
    protocol: str,
    out: Path,
    *,
    head: dict,
    everybody: Sequence[Clip] | None = None,
    baselines: bool = True,
    workers: int = 1,
    published: Sequence[dict] = (),
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Score ``models`` on ``clips``; the document that ``out/scores.json`` holds.

    ``everybody`` are all clips of the sets (default: ``clips``), from which negatives and the gaze pack's halves are
    drawn. ``head`` says what was done (:func:`document_head`), ``on_done(done, total)`` counts clips.
    Raises :class:`InputError` where a worker dies or where no clip is given; all else is in ``document["problems"]``.
    """
    if not clips:
        raise InputError("no clip is left to evaluate; check --split and --clips")
    everybody = tuple(clips if everybody is None else everybody)
    halves = halves_of_pack(everybody, PROTOCOLS[protocol]) if baselines else {}
    job = Job(protocol, tuple(models), everybody, baselines, halves)
    parts = out / ".parts"
    parts.mkdir(parents=True, exist_ok=True)
    done, found = 0, {}
    for unit, scored in _all_scored(job, _units(clips), parts, workers):
        found[unit] = scored
        done += len(scored)
        on_done(done, len(clips))
    every = [clip for unit in sorted(found) for clip in found[unit]]
    names = [m.name for m in models] + [n for n in (CENTRE, HUMANS) if baselines]
    document = {
        **head, "sets": scores.summarise(every, PROTOCOLS[protocol], names), "published": list(published),
        "problems": [line for clip in every for line in clip.problems],
    }
    scores.write(out, document, every, PROTOCOLS[protocol])
    shutil.rmtree(parts)
    return document


def _units(clips: Sequence[Clip]) -> list[tuple[Clip, ...]]:
    """What one process does at a time: a video, or several pictures."""
    units: list[tuple[Clip, ...]] = []
    for clip in clips:
        last = units[-1] if units else ()
        room = 0 < len(last) < PICTURES_AT_ONCE and last[-1].split == clip.split
        if room and is_single_file(clip) and is_single_file(last[-1]):
            units[-1] += (clip,)
        else:
            units.append((clip,))
    return units


def _all_scored(
    job: Job, units: list[tuple[Clip, ...]], parts: Path, workers: int
) -> Iterator[tuple[int, list[ClipScores]]]:
    """Every unit's scores as they come: those of an interrupted run first, then the others."""
    paths, missing = [], []
    for number, unit in enumerate(units):
        key = json.dumps([job.protocol, job.baselines, [m.fingerprint(list(unit)) for m in job.models],
                          [(c.split, c.name) for c in unit]])
        paths.append(parts / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json")
        if paths[number].exists():
            yield number, [scores.from_json(values) for values in json.loads(paths[number].read_text())]
        else:
            missing.append(number)
    for number, scored in _scored(job, units, missing, workers):
        write_whole(paths[number], json.dumps([scores.to_json(c) for c in scored]).encode())
        yield number, scored


def _scored(job: Job, units: list, missing: list[int], workers: int) -> Iterator[tuple[int, list[ClipScores]]]:
    if workers == 1 or len(missing) < 2:
        yield from ((number, [score_clip(job, clip) for clip in units[number]]) for number in missing)
        return
    workers = min(workers, len(missing))
    context = multiprocessing.get_context("spawn")  # a process that has used torch must not be forked
    pool = ProcessPoolExecutor(workers, context, _begin, (job, max(1, (os.cpu_count() or 1) // workers)))
    try:
        waiting = {pool.submit(_score_unit, units[number]): number for number in missing}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool:
        raise InputError("a process of the evaluation died, for want of memory perhaps; run the same command again, "
                         "with fewer --workers: what is done is kept") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()


def _begin(job: Job, threads: int) -> None:
    import signal

    import torch

    global _job
    _job = job
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    torch.set_num_threads(threads)


def _score_unit(unit: tuple[Clip, ...]) -> list[ClipScores]:
    assert _job is not None
    return [score_clip(_job, clip) for clip in unit]


def score_clip(job: Job, clip: Clip) -> ClipScores:
    """One clip's frames under the job's protocol; never raises for what is wrong with the clip itself."""
    found = ClipScores(clip.split if clip.dataset == "gaze" else clip.dataset, clip.name, str(clip.video))
    try:
        _score_into(found, job, clip)
    except (InputError, OSError) as error:
        found.problems.append(str(error))
        found.skip("the clip cannot be read")
    found.problems = _shortened(found.problems, clip)
    return found


def _score_into(found: ClipScores, job: Job, clip: Clip) -> None:
    protocol = PROTOCOLS[job.protocol]
    found.is_picture, found.seconds = clip.is_picture, clip.num_frames / clip.frame_rate
    truth = GroundTruth(clip, protocol, job.clips)
    wanted = truth.frames(found)
    streams = {m.name: m.maps(clip, wanted, found.problems) for m in job.models}
    humans = job.baselines and clip.truth is not None and bool(wanted) and clip.observers(wanted[0]) is not None
    names = [*streams, *([CENTRE] if job.baselines else []), *([HUMANS] if humans else [])]
    found.scores = {name: [] for name in names}
    for index in wanted:
        maps = {name: next(stream)[1] for name, stream in streams.items()}
        try:
            frame = truth.frame(index)
        except InputError as error:
            found.problems.append(str(error))
            found.skip("ground truth cannot be used")
            continue
        if frame is None:
            found.skip("nobody fixates")
            continue
        seed = seed_of(found.set_name, clip.name, index)
        rows = {name: _score(found, protocol, saliency, frame, seed) for name, saliency in maps.items()}
        if job.baselines:
            rows[CENTRE] = list(score_frame(protocol, centre_prior(*frame.saliency_map.shape), frame, seed).values())
        if humans:
            order = job.halves.get((clip.split, clip.name), {}).get(index)
            rows[HUMANS] = _humans(truth.halves(index, order), protocol, frame, seed)
        found.index.append(index)
        found.num_fixations.append(int(frame.fixations.sum()))
        for name in names:
            found.scores[name].append([None if np.isnan(v) else v for v in rows[name]])
    for stream in streams.values():  # to the end, so that the maps of all frames are written
        assert next(stream, None) is None
    found.problems += truth.problems


def _score(found: ClipScores, protocol, saliency: np.ndarray | InputError, frame: FrameTruth, seed: int) -> list:
    if isinstance(saliency, InputError):
        found.problems.append(str(saliency))
        found.skip("no usable map")
        return [np.nan] * len(protocol.metrics)
    return list(score_frame(protocol, saliency, frame, seed).values())


def _humans(halves: tuple[np.ndarray, np.ndarray], protocol, frame: FrameTruth, seed: int) -> list[float]:
    """The first half's fixations, blurred, as the prediction of the second half's."""
    size = frame.saliency_map.shape
    predicting, predicted = (count_fixations(points, *size) for points in halves)
    if not predicted.any():
        return [np.nan] * len(protocol.metrics)
    truth = FrameTruth(drawn_map(predicted), predicted, frame.negatives)
    return list(score_frame(protocol, drawn_map(predicting), truth, seed).values())


def _shortened(problems: list[str], clip: Clip) -> list[str]:
    if len(problems) <= LINES_PER_CLIP:
        return problems
    rest = f"{clip.video}: and {len(problems) - LINES_PER_CLIP} more problems of {clip.name}"
    return [*problems[:LINES_PER_CLIP], rest]
