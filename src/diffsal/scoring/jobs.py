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
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Protocol as Interface

import numpy as np

from diffsal.data.clip import Clip
from diffsal.data.databases import record_of
from diffsal.data.truth import count_fixations
from diffsal.data.workers import end_with_parent
from diffsal.errors import InputError
from diffsal.files import line_of, write_whole
from diffsal.scoring import results as scores
from diffsal.scoring.ground_truth import GroundTruth, halves_of_pack
from diffsal.scoring.inputs import state_of_clip
from diffsal.scoring.map_sources import is_single_file
from diffsal.scoring.protocols import PROTOCOLS, FrameTruth, Protocol, centre_prior, drawn_map, score_frame, seed_of
from diffsal.scoring.results import CENTRE, HUMANS, ClipScores

PICTURES_AT_ONCE = 25
LINES_PER_CLIP = 5  # problems of one clip that get a line each


_job: Job | None = None  # a worker's own


class Maps(Interface):
    """Where a model's maps come from: its weights (:class:`diffsal.scoring.map_sources.Network`) or a folder."""

    @property
    def name(self) -> str: ...

    def maps(
        self, clip: Clip, wanted: list[int], problems: list[str]
    ) -> Iterator[tuple[int, np.ndarray | InputError]]: ...

    def size(self) -> tuple[int, int] | None: ...
    def fingerprint(self, clips: list[Clip]) -> list: ...


@dataclass(frozen=True, eq=False)
class Job:
    """What every process has to know. ``halves`` are the orders in which the gaze pack's script divides observers."""

    protocol: str
    models: tuple[Maps, ...]
    clips: tuple[Clip, ...]
    baselines: bool = True
    halves: dict[tuple[str, str], dict[int, np.ndarray]] = field(default_factory=dict)


# Scores units of clips by their numbers, as they come; those that it leaves out have ended their processes
Pool = Callable[[Job, list[tuple[Clip, ...]], list[int]], Iterator[tuple[int, list[ClipScores]]]]


def score_clips(
    clips: Sequence[Clip],
    models: Sequence[Maps],
    protocol: str,
    out: Path,
    *,
    head: dict,
    all_clips: Sequence[Clip] | None = None,
    baselines: bool = True,
    workers: int = 1,
    pool: Pool | None = None,
    published: Sequence[dict] = (),
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Score ``models`` on ``clips``; the document that ``out/scores.json`` holds.

    ``all_clips`` are all clips of the sets (default: ``clips``), from which negatives and the gaze pack's halves are
    drawn. ``head`` says what was done (:func:`document_head`), ``on_done(done, total)`` counts clips. ``pool`` does the
    work instead of ``workers`` processes here.
    A part is kept by what it is computed from: models, protocol, and the state of its clips' files (and of those whose
    fixations are its negatives). Raises :class:`InputError` where no clip is given; all else, a worker that dies
    included, is in ``document["problems"]``.
    """
    if not clips:
        raise InputError("no clip is left to evaluate; check --split and --clips")
    all_clips = tuple(clips if all_clips is None else all_clips)
    halves = halves_of_pack(all_clips, PROTOCOLS[protocol]) if baselines else {}
    job = Job(protocol, tuple(models), all_clips, baselines, halves)
    parts = out / ".parts"
    parts.mkdir(parents=True, exist_ok=True)
    done, found = 0, {}
    for unit, scored in _all_scored(job, _units(clips), parts, workers, pool):
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
    job: Job, units: list[tuple[Clip, ...]], parts: Path, workers: int, pool: Pool | None
) -> Iterator[tuple[int, list[ClipScores]]]:
    """Every unit's scores as they come: those of an interrupted run first, then the others."""
    paths, missing = [], []
    others = [state_of_clip(c) for c in job.clips] if PROTOCOLS[job.protocol].negatives in ("clips", "set") else []
    halves = hashlib.sha256(repr(sorted((k, sorted((i, o.tolist()) for i, o in v.items()))
                                        for k, v in job.halves.items())).encode()).hexdigest()
    for number, unit in enumerate(units):
        key = json.dumps([version("diffsal"), job.protocol, job.baselines, halves, others,
                          [m.fingerprint(list(unit)) for m in job.models],
                          [(c.dataset, c.split, c.name, state_of_clip(c)) for c in unit]])
        paths.append(parts / f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:32]}.json")
        kept = _kept(paths[number], unit)
        if kept is None:
            missing.append(number)
        else:
            yield number, kept
    for number, scored in _scored(job, units, missing, workers, pool):
        write_whole(paths[number], json.dumps([scores.to_json(c) for c in scored]).encode())
        yield number, scored


def _kept(path: Path, unit: tuple[Clip, ...]) -> list[ClipScores] | None:
    """The scores of a part that an interrupted run has left; None where there are none, or the file is damaged."""
    try:
        found = [scores.from_json(values) for values in json.loads(path.read_bytes())]
        return found if [c.name for c in found] == [c.name for c in unit] else None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _scored(
    job: Job, units: list[tuple[Clip, ...]], missing: list[int], workers: int, pool: Pool | None
) -> Iterator[tuple[int, list[ClipScores]]]:
    if pool is not None:
        lost = dict.fromkeys(missing)
        for number, scored in pool(job, units, missing):
            del lost[number]
            yield number, scored
        yield from ((number, [_lost(clip) for clip in units[number]]) for number in lost)
        return
    if workers == 1 or len(missing) < 2:
        yield from ((number, [score_clip(job, clip) for clip in units[number]]) for number in missing)
        return
    left = dict.fromkeys(missing)
    for number, scored in _in_processes(job, units, missing, min(workers, len(missing))):
        del left[number]
        yield number, scored
    for number in left:  # a process has died meanwhile: each of these by itself, to find out of which
        alone = list(_in_processes(job, units, [number], 1))
        yield alone[0] if alone else (number, [_lost(clip) for clip in units[number]])


def _lost(clip: Clip) -> ClipScores:
    found = ClipScores(record_of(clip.dataset).set_of(clip), clip.name, str(clip.video))
    found.problems.append(f"{clip.video}: scoring {clip.name} ended the process, for want of memory or by a damaged "
                          "file; the others are scored")
    found.skip("the clip cannot be read")
    return found


def _in_processes(
    job: Job, units: list[tuple[Clip, ...]], numbers: list[int], workers: int
) -> Iterator[tuple[int, list[ClipScores]]]:
    """Scores as they come; those of a process that dies, and of what waited then, do not."""
    context = multiprocessing.get_context("spawn")  # a process that has used torch must not be forked
    pool = ProcessPoolExecutor(workers, context, _begin, (job, max(1, (os.cpu_count() or 1) // workers)))
    try:
        waiting = {pool.submit(_score_unit, units[number]): number for number in numbers}
        for future in as_completed(waiting):
            with suppress(BrokenProcessPool):
                yield waiting[future], future.result()
        pool.shutdown()  # all is done: its semaphores go with it, or the end of the command would warn of them
    except BrokenProcessPool:  # before all were given out
        return
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
    found = ClipScores(record_of(clip.dataset).set_of(clip), clip.name, str(clip.video))
    try:
        _score_into(found, job, clip)
    except (InputError, OSError) as error:
        found.problems.append(line_of(error))
        found.skip("the clip cannot be read")
    found.problems = _shortened(found.problems, clip)
    return found


def _score_into(found: ClipScores, job: Job, clip: Clip) -> None:
    protocol = PROTOCOLS[job.protocol]
    found.is_picture, found.seconds = clip.is_picture, clip.num_frames / clip.frame_rate
    truth = GroundTruth(clip, protocol, job.clips)
    wanted = truth.frames(found)
    sizes = {m.name: m.size() if protocol.at_network else None for m in job.models}
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
        rows = {name: _score(found, protocol, saliency, frame, seed, sizes[name]) for name, saliency in maps.items()}
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


def _score(
    found: ClipScores, protocol: Protocol, saliency: np.ndarray | InputError, frame: FrameTruth, seed: int,
    size: tuple[int, int] | None,
) -> list[float]:
    if isinstance(saliency, InputError):
        found.problems.append(str(saliency))
        found.skip("no usable map")
        return [np.nan] * len(protocol.metrics)
    return list(score_frame(protocol, saliency, frame, seed, network_size=size).values())


def _humans(halves: tuple[np.ndarray, np.ndarray], protocol: Protocol, frame: FrameTruth, seed: int) -> list[float]:
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
