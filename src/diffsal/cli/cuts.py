"""The half of `diffsal compare` that compares two cuts by regions; the command itself is in ``pictures.py``"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from diffsal.cli.options import beside, check_outputs, complain, say
from diffsal.errors import InputError


@dataclass(frozen=True)
class CutOptions:
    """What the command line says about two cuts; as ``diffsal compare --help`` explains."""

    roi: Sequence[str]
    roi_b: Sequence[str]
    track: Sequence[str]
    require: Sequence[str]
    ground_truth: Sequence[Path]
    outputs: Sequence[Path]
    weights: str
    samples: int
    predicting: dict[str, Any]
    force: bool


def compare_two(a: str, b: str, options: CutOptions) -> None:
    """Compare, write, print; exit with 1 for what was damaged, 3 where a requirement on B is not met."""
    from diffsal.bars import watched
    from diffsal.decisions.cut_files import CUT_SUFFIXES, write_cuts
    from diffsal.decisions.cuts import check_sizes, compare_cuts
    from diffsal.decisions.region_sources import lost_tracks, read_regions
    from diffsal.decisions.requirements import read_requirement
    from diffsal.media.source import open_source
    from diffsal.runtime.loading import load

    source_a, source_b = open_source(a), open_source(b)
    outputs = list(options.outputs) or [beside(b, "compared.json")]
    given = (source_a, source_b, *options.ground_truth, *options.roi, *options.roi_b)
    check_outputs(outputs, options.force, CUT_SUFFIXES, *given)
    if len(options.ground_truth) not in (0, 2):
        raise InputError("--ground-truth: two cuts need two, first A's fixations, then B's")
    regions_a = read_regions(options.roi, options.track, source_a)
    regions_b = read_regions(_for_b(options), options.track, source_b)
    own = {text.partition("=")[0] for text in options.roi_b}
    pairs = [(x, y) for x, y in zip(regions_a, regions_b, strict=True) if x.name not in own]
    check_sizes(source_a, source_b, pairs)
    requirements = [read_requirement(text, [r.name for r in regions_b]) for text in options.require]
    with watched(f"{a}, {b}", source_b.num_frames) as show:
        result = compare_cuts(
            load(options.weights),
            source_a,
            source_b,
            regions_a,
            regions_b,
            samples=options.samples,
            fixations=(options.ground_truth[0], options.ground_truth[1]) if options.ground_truth else None,
            on_frame=show,
            **options.predicting,
        )
    for place in outputs:
        write_cuts(result, place, requirements)
    for change in result.changes():
        say(_line(change) + (f"; people {_line(people)}" if (people := result.people(change.name)) else ""))
    (gain_x, gain_y, _), (loss_x, loss_y, _) = result.gained(), result.lost()
    print(
        f"at the same moment {sum(result.moved) / len(result.moved):.1%} of attention is elsewhere in B; most has gone "
        f"from ({loss_x:.2f}, {loss_y:.2f}) and come to ({gain_x:.2f}, {gain_y:.2f})"
    )
    for note in [*result.notes(), *lost_tracks(regions_a, a), *lost_tracks(regions_b, b)]:
        say(note)
    say(
        f"{a}, {b}: {result.common_seconds:.2f} s compared by the clock, {len(result.pairs)} frames → "
        f"{', '.join(map(str, outputs))}"
    )
    whole = {change.name: change.whole_b for change in result.changes()}
    failed = [line for requirement in requirements if (line := requirement.failure(whole))]
    problems = [*source_a.problems, *source_b.problems]
    for line in [*(f"{b}: {line}" for line in failed), *problems]:
        complain(line)
    raise typer.Exit(3 if failed else int(bool(problems)))


def _for_b(options: CutOptions) -> list[str]:
    """The regions of B: those of A, but those named in ``--roi-b`` as given there."""
    own = {text.partition("=")[0]: text for text in options.roi_b}
    names = [text.partition("=")[0] for text in options.roi]
    for name in own:
        if name not in names:
            raise InputError(f"--roi-b {own[name]}: no --roi {name}; give the region in A too")
    return [own.get(name, text) for name, text in zip(names, options.roi, strict=True)]


def _line(change: Any) -> str:
    interval = change.interval
    if interval is None:
        words = ""
    else:
        of = f"blocks of {change.block_seconds:.1f} s" if change.interval_from == "blocks" else "samples"
        words = f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f} by {of})"
    return f"{change.name}: {change.a:.1%} in A, {change.b:.1%} in B, {100 * change.difference:+.1f} points{words}"
