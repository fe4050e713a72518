"""The path of a crop through one shot: constant, or a pan of bounded speed and acceleration, by dynamic programming.

Positions are fractions of the picture's side along which the crop moves (its width for a narrower format): 0 is the
crop at the left or top, ``1 - size`` at the right or bottom. A path minimises, over the whole shot,

    ∫ (attention outside the crop + faces not whole in it) dt  +  m · distance travelled  +  a · changes of speed,

the second term being the path's total variation: a path stands still, or moves where that gains enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from diffsal.errors import InputError

KNOT_SECONDS = 0.2  # between two control points of a path
STEPS = 384  # positions in the side of the picture, about
TRAVEL_COST = 0.5  # seconds of all attention lost that one whole side of travel is worth, at follow 0.5
TURN_COST = 0.1  # the same for a change of speed of one side per second
FACE_COST = 0.5  # of a face that is cut or left out, as a part of the attention on it
LEAST_FACE_SHARE = 0.02  # a face with less attention may be cut
CUT_DEPTH = 0.15  # of a face's size: cut this deep, it counts as cut
MOST_KNOTS = 1500  # solved at once: five minutes, 16 MB


@dataclass(frozen=True)
class PathSettings:
    """``follow``: 0 stands still in every shot, 1 moves for any gain. ``max_speed``: sides of the picture per second.
    ``max_acceleration``: sides per second squared. Raises :class:`InputError` for what cannot be."""

    follow: float = 0.5
    max_speed: float = 0.25
    max_acceleration: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.follow <= 1:
            raise InputError(f"follow is {self.follow}, expected 0 (stands still in every shot) to 1")
        if not 0 < self.max_speed < np.inf:
            raise InputError(f"max_speed is {self.max_speed}, expected more than 0 (picture widths per second)")
        if not 0 < self.max_acceleration < np.inf:
            raise InputError(f"max_acceleration is {self.max_acceleration}, expected more than 0 (widths per s²)")

    @property
    def travel_cost(self) -> float:
        return TRAVEL_COST * (1 - self.follow) / max(self.follow, 1e-6)


@dataclass(frozen=True)
class Face:
    """A face along the side on which the crop moves: its two ends, fractions, and the share of attention on it."""

    start: float
    end: float
    share: float


def steps_of(pixels: int) -> float:
    """How many steps a side of so many pixels has: about ``STEPS``, each of whole pixels."""
    return pixels / max(1, round(pixels / STEPS))


def positions(size: float, steps: float = STEPS) -> Float[np.ndarray, " p"]:
    """Where a crop of ``size`` (a fraction of the side, which has ``steps``) can stand."""
    return np.arange(int(np.floor((1 - size) * steps + 1e-9)) + 1) / steps


def shot_path(
    seconds: Float[np.ndarray, " n"],
    profiles: Float[np.ndarray, "n bins"],
    faces: list[list[Face]],
    size: float,
    settings: PathSettings = PathSettings(),
    steps: float = STEPS,
) -> Float[np.ndarray, " n"]:
    """Where the crop of ``size`` stands on each frame of one shot.

    ``seconds``: times of the frames, ascending. ``profiles``: attention along the side, each row sums to 1. ``faces``:
    of each frame. ``steps``: of the side, see :func:`steps_of`.
    Between control points, ``KNOT_SECONDS`` apart, the path is a quadratic B-spline, whose speed and
    acceleration are bounded by those of its control points.
    """
    num_knots = int(np.ceil((seconds[-1] - seconds[0]) / KNOT_SECONDS - 1e-9)) + 1
    nearest = np.minimum(np.rint((seconds - seconds[0]) / KNOT_SECONDS).astype(int), num_knots - 1)
    costs = knot_costs(profiles, faces, size, nearest, num_knots, steps)
    if settings.follow == 0 or num_knots == 1:
        best = int(np.argmin(costs.sum(0)))
        return np.full(len(seconds), best / steps)
    controls, state = [], None
    for first in range(0, num_knots, MOST_KNOTS):
        walked, state = _solve(costs[first : first + MOST_KNOTS], settings, steps, state)
        controls.append(walked)
    return spline(np.concatenate(controls) / steps, (seconds - seconds[0]) / KNOT_SECONDS)


def knot_costs(
    profiles: Float[np.ndarray, "n bins"],
    faces: list[list[Face]],
    size: float,
    nearest: Int[np.ndarray, " n"],
    num_knots: int,
    steps: float = STEPS,
) -> Float[np.ndarray, "{num_knots} p"]:
    """Attention outside the crop and faces not whole in it, at every position, around each knot, times seconds."""
    costs = 1 - shares(profiles, size, steps)
    for cost, found in zip(costs, faces, strict=True):
        for face in found:
            cost += face_cost(face, size, steps)
    sums, counts = np.zeros((num_knots, costs.shape[1])), np.zeros(num_knots)
    np.add.at(sums, nearest, costs)
    np.add.at(counts, nearest, 1)
    known = np.flatnonzero(counts)
    sums[known] /= counts[known, None]
    filled = known[np.searchsorted(known, np.arange(num_knots), side="right") - 1]  # a long frame holds its knots
    return sums[filled] * KNOT_SECONDS


def shares(profiles: Float[np.ndarray, "n bins"], size: float, steps: float = STEPS) -> Float[np.ndarray, "n p"]:
    """The share of attention in a crop at each of :func:`positions`."""
    bins, lefts = profiles.shape[1], positions(size, steps)
    cumulative = np.concatenate([np.zeros((len(profiles), 1)), np.cumsum(profiles, 1)], 1)

    def below(where: np.ndarray) -> np.ndarray:
        at = np.clip(where, 0, 1) * bins
        low = np.minimum(at.astype(int), bins - 1)
        return cumulative[:, low] + (cumulative[:, low + 1] - cumulative[:, low]) * (at - low)

    return below(lefts + size) - below(lefts)


def face_cost(face: Face, size: float, steps: float = STEPS) -> Float[np.ndarray, " p"]:
    """What it costs at each of :func:`positions` that this face is not whole; none where it is larger than the crop.

    A face that is left out costs as much as one that is cut: else a crop would flee from faces that it cannot hold, and
    from what people look at beside them.
    """
    lefts, extent = positions(size, steps), face.end - face.start
    if extent <= 0 or extent >= size or face.share < LEAST_FACE_SHARE:
        return np.zeros(len(lefts))
    depth = np.maximum(lefts - face.start, face.end - lefts - size) / (CUT_DEPTH * extent)
    return FACE_COST * face.share * np.clip(depth, 0, 1)


def _solve(
    costs: Float[np.ndarray, "k p"], settings: PathSettings, steps: float, state: tuple[int, int] | None
) -> tuple[Int[np.ndarray, " k"], tuple[int, int]]:
    """The cheapest steps through ``costs``; ``state`` is the (position, speed) that it goes on from, or None.

    States are (position, speed), both in steps; speed changes by at most ``turn`` between two knots.
    """
    num_knots, num_positions = costs.shape
    fastest = max(1, int(settings.max_speed * KNOT_SECONDS * steps))
    turn = max(1, int(settings.max_acceleration * KNOT_SECONDS**2 * steps))
    speeds = np.arange(-fastest, fastest + 1)
    moving = settings.travel_cost / steps * np.abs(speeds)
    turning = TURN_COST / steps / KNOT_SECONDS
    came_from = np.zeros((num_knots, num_positions, len(speeds)), np.int8 if fastest < 64 else np.int16)
    if state is None:
        best = costs[0][:, None] + moving[None]
    else:
        best = np.full((num_positions, len(speeds)), np.inf)
        best[state[0], state[1]] = 0.0
    for k in range(0 if state is not None else 1, num_knots):
        cheapest = np.full_like(best, np.inf)  # by the new speed, still at the old position
        change = came_from[k]
        arrived = np.zeros_like(best, dtype=change.dtype)
        for by in sorted(range(-turn, turn + 1), key=abs):
            to = slice(max(by, 0), len(speeds) + min(by, 0))
            of = slice(max(-by, 0), len(speeds) + min(-by, 0))
            candidate = best[:, of] + turning * abs(by)
            better = candidate < cheapest[:, to]
            cheapest[:, to] = np.where(better, candidate, cheapest[:, to])
            arrived[:, to] = np.where(better, by, arrived[:, to])
        best = np.full_like(best, np.inf)
        for i, speed in enumerate(range(-fastest, fastest + 1)):
            to = slice(max(speed, 0), num_positions + min(speed, 0))
            of = slice(max(-speed, 0), num_positions + min(-speed, 0))
            if abs(speed) < num_positions:
                best[to, i] = cheapest[of, i] + moving[i]
                change[to, i] = arrived[of, i]
        best += costs[k][:, None]
    position, at = divmod(int(np.argmin(best)), len(speeds))
    end, walked = (position, at), np.zeros(num_knots, int)
    for k in range(num_knots - 1, -1, -1):
        walked[k] = position
        if k:
            position, at = position - int(speeds[at]), at - int(came_from[k, position, at])
    return walked, end


def spline(controls: Float[np.ndarray, " k"], at: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The uniform quadratic B-spline of ``controls`` at places ``at``: 0 is the first control point, k - 1 the last."""
    if len(controls) == 1:
        return np.full(len(at), controls[0])
    padded = np.concatenate([[2 * controls[0] - controls[1]], controls, [2 * controls[-1] - controls[-2]]])
    middle = np.clip(np.rint(at).astype(int), 0, len(controls) - 1)
    t = at - middle  # -0.5 to 0.5
    before, here, after = padded[middle], padded[middle + 1], padded[middle + 2]
    return before * (0.5 - t) ** 2 / 2 + here * (0.75 - t**2) + after * (0.5 + t) ** 2 / 2
