"""Hypothesis on what has a shape: tables in any dialect, JSON of any kind, settings of any type, places anywhere."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffsal.config import ModelConfig, Preprocessing, SamplingConfig
from diffsal.data.preparation.samples import read_samples
from diffsal.data.truth import count_fixations, draw_map, inside, to_pixels
from diffsal.errors import InputError
from diffsal.scoring import results
from diffsal.settings import Settings
from tests.fuzz import SECONDS

CASES = max(100, int(2 * SECONDS))
many = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=SECONDS <= 60)
finite = st.floats(-1e4, 1e4, allow_nan=False).map(lambda v: round(v, 4))
words = st.text(max_size=9)
jsons = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | words,
                     lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4))
CHECKED = [kind for kind in (ModelConfig, Preprocessing, SamplingConfig) if issubclass(kind, Settings)]


@many
@given(rows=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 10_000), finite, finite), min_size=1, max_size=20),
       separator=st.sampled_from(",;\t|"), comma=st.booleans(), encoding=st.sampled_from(
           ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1")), newline=st.sampled_from(("\n", "\r\n", "\r")),
       padding=st.sampled_from(("", " ")), quote=st.booleans(), upper=st.booleans())
def test_any_dialect_of_a_table_gives_the_same_numbers(
        tmp_path_factory, rows, separator, comma, encoding, newline, padding, quote, upper):
    quote = quote or (comma and separator == ",")

    def cell(value) -> str:
        text = repr(value) if isinstance(value, float) else str(value)
        text = text.replace(".", ",") if comma and isinstance(value, float) else text
        return f'"{text}"' if quote else text

    lines = [["Observer", "T_MS", "X", "Y"] if upper else ["observer", "t_ms", "x", "y"],
             *([cell(v) for v in row] for row in rows)]
    path = tmp_path_factory.mktemp("t") / "a.csv"
    path.write_bytes("".join((separator + padding).join(line) + newline for line in lines).encode(encoding))
    found = read_samples(path)
    for name in {row[0] for row in rows}:
        first: dict[int, tuple] = {}
        for _, t, x, y in (row for row in rows if row[0] == name):
            first.setdefault(t, (t / 1000, x, y))
        np.testing.assert_allclose(found[name], [first[t] for t in sorted(first)], atol=1e-9)


@many
@given(document=jsons)
def test_no_json_is_taken_for_scores(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("j") / "scores.json"
    for value in (document, {"schema": results.SCHEMA, "version": results.VERSION, "sets": document},
                  {"schema": results.SCHEMA, "version": document}):
        path.write_text(json.dumps(value))
        with pytest.raises(InputError, match=r"scores\.json: "):
            results.read(path)


@pytest.mark.skipif(not CHECKED, reason="the network's settings are not Settings yet")
@many
@given(data=st.data(), kind=st.sampled_from(CHECKED or [None]))
def test_settings_of_any_type_are_checked(data, kind):
    names = st.sampled_from([f.name for f in fields(kind)]) | st.text(max_size=12)
    values = data.draw(st.dictionaries(names, jsons, min_size=1, max_size=3))
    try:
        made = kind.from_dict(values)
    except ValueError as error:  # InputError is one
        assert len(str(error).splitlines()) <= 1
        return
    for name in values:
        for number in np.atleast_1d(np.array(getattr(made, name, 0), dtype=object)):
            assert not isinstance(number, float) or np.isfinite(number), (name, number)


@many
@given(places=st.lists(st.tuples(st.floats(), st.floats()), max_size=12), height=st.integers(1, 40),
       width=st.integers(1, 40))
def test_no_place_is_drawn_outside_or_at_another_one(places, height, width):
    array = np.array(places, dtype=float).reshape(-1, 2)
    kept = [(x, y) for x, y in places if 0 <= x <= 1 and 0 <= y <= 1]
    pixels = to_pixels(array, height, width)
    assert inside(array).sum() == len(pixels) == len(kept)
    for (x, y), (column, row) in zip(kept, pixels, strict=True):
        assert column == min(int(x * width), width - 1) and row == min(int(y * height), height - 1)
    counts = count_fixations(pixels, height, width)
    assert counts.sum() == len(kept)
    drawn = draw_map(array, height, width)
    assert drawn.shape == (height, width) and np.isfinite(drawn).all() and drawn.min() >= 0 and drawn.max() <= 1
    assert bool(drawn.any()) == bool(kept)
