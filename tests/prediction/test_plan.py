"""Which frames are read, encoded, predicted and get a map: against what windows need, counted frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffsal.prediction.plan import Plan, needed_maps
from diffsal.prediction.window_buffer import WindowBuffer


@dataclass(frozen=True)
class Shown:
    index: int
    seconds: float


def clip(count: int, read: list[int] | None = None, first: int = 0) -> Iterator[Shown]:
    for index in range(first, count):
        if read is not None:
            read.append(index)
        yield Shown(index, index / 25)


def test_without_limits_all_frames_get_a_map_and_each_is_decided_at_once():
    read: list[int] = []
    planned = Plan(16, every=2, encode_every=2).frames(clip(40, read))
    first = next(planned)
    assert read == [0] and (first.is_encoded, first.is_predicted, first.is_asked) == (True, True, True)
    rest = list(planned)
    assert [p.frame.index for p in rest] == list(range(1, 40)) and all(p.is_asked for p in rest)
    assert [p.frame.index for p in rest if p.is_encoded] == list(range(2, 40, 2))
    assert all(p.is_predicted == p.is_encoded for p in rest)


@pytest.mark.parametrize(("limits", "asked", "last_read"), [
    ({"start": 2.0, "end": 2.4}, range(50, 60), 59 + 7),
    ({"start_index": 50, "end_index": 60}, range(50, 60), 59 + 7),
    ({"end": 0.4}, range(10), 9 + 7),
    ({"indices": {3, 70}}, (3, 70), 99),
    ({"start": 9.0}, (), 99),
])
def test_limits(limits, asked, last_read):
    read: list[int] = []
    planned = list(Plan(16, **limits).frames(clip(100, read)))
    assert [p.frame.index for p in planned if p.is_asked] == list(asked)
    assert read[-1] == last_read
    windows = {i for a in asked for i in range(a - 8, a + 8)}
    assert {p.frame.index for p in planned if p.is_encoded} == windows & set(range(100))


def test_a_span_reads_its_windows_its_neighbours_and_its_history():
    plan = Plan(16, every=3, start_index=200, history=125)
    assert (plan.before, plan.after, plan.num_before) == (8, 7, 8 + 2 + 125)


@given(
    count=st.integers(1, 60), every=st.integers(1, 8), frames=st.sampled_from((8, 16)), step=st.sampled_from((1, 2)),
    indices=st.none() | st.sets(st.integers(0, 70)), span=st.tuples(st.integers(0, 60), st.integers(1, 60)),
)
def test_what_is_needed_is_encoded_and_predicted_and_nothing_else(count, every, frames, step, indices, span):
    """By definition: a map is the frame's own or the mean of the two predicted ones around it."""
    encode_every = step if every % step == 0 else 1
    plan = Plan(frames, every, encode_every, start_index=span[0], end_index=sum(span), indices=indices)
    first = max(0, span[0] - plan.num_before)
    decided = list(needed_maps(plan.frames(clip(count, first=first)), every))
    asked = {i for i in range(first, count) if span[0] <= i < sum(span) and (indices is None or i in indices)}
    assert {p.frame.index for p, _ in decided if p.is_asked} == asked
    last = decided[-1][0].frame.index if decided else -1
    maps = set()
    for i in asked:
        below = i // every * every
        above = below if below == i else below + every
        maps |= {m for m in (below, above) if first <= m <= last}
    assert {p.frame.index for p, needed in decided if needed} - {first} == maps - {first}
    needed_frames = {min(max(m + k, first), last) for m in maps for k in range(-(frames // 2), frames // 2)}
    encoded = {p.frame.index for p, _ in decided if p.is_encoded}
    assert {i for i in needed_frames if i % encode_every == 0} <= encoded
    reach = frames // 2 + every - 1
    assert all(any(abs(i - a) <= reach for a in asked) for i in encoded)


@given(
    count=st.integers(1, 60), every=st.integers(1, 4), indices=st.sets(st.integers(0, 70), max_size=3),
    before=st.integers(0, 9), after=st.integers(0, 9),
)
def test_maps_around_those_needed_are_drawn_and_their_windows_encoded(count, every, indices, before, after):
    plan = Plan(8, every, every, indices=indices, maps_before=before, maps_after=after)
    without = Plan(8, every, every, indices=indices)
    needed = {p.frame.index for p, is_needed in without.decided(clip(count)) if is_needed}
    decided = list(plan.decided(clip(count)))
    drawn = {p.frame.index for p, is_drawn in decided if is_drawn}
    assert drawn == {i for i in range(0, count, every) if any(-before <= i - n <= after for n in needed)}
    encoded = {p.frame.index for p, _ in decided if p.is_encoded}
    assert {i for i in range(0, count, every) if any(n - 4 <= i < n + 4 for n in drawn)} <= encoded


def test_a_buffer_repeats_the_ends_and_forgets_what_no_window_needs():
    buffer: WindowBuffer[str] = WindowBuffer(6)
    for item in "abcdefgh":
        buffer.add(item)
    assert buffer.count == 8
    assert buffer.window(4, 4) == list("efgh") and buffer.window(4, 4, 2) == ["e", "g"]
    assert buffer.window(6, 5) == list("ghhhh")
    buffer.replace_last("z")
    assert buffer.window(6, 3) == ["g", "z", "z"]
    with pytest.raises(IndexError, match="begins before 2, the oldest frame that is kept"):
        buffer.window(1, 3)
    short: WindowBuffer[int] = WindowBuffer(6)
    short.add(7)
    assert short.window(-8, 16) == [7] * 16
    with pytest.raises(IndexError):
        WindowBuffer[int](2).window(0, 1)
