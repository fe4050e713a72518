"""Long videos in spans, whatever dies: each is joined once, from all of its spans, and its results are the unsplit
run's to the byte."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from diffsal.cluster import work
from diffsal.cluster.ledger import Ledger, Record
from diffsal.cluster.manifest import Item, Span
from diffsal.cluster.predict import predict_many
from diffsal.cluster.run import run
from diffsal.cluster.spans import remove_drawn
from diffsal.cluster.work import Job, do
from diffsal.media.source import open_source
from diffsal.outputs.render import Outputs, render
from diffsal.runtime.loading import load_engine
from tests.movies import tone, write_movie
from tests.standin import StandIn

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("ray"), pytest.mark.filterwarnings("ignore")]
SETTINGS = {"steps": 1, "seed": 0, "samples": 1, "every": None, "mute": False, "start": None, "end": None,
            "colormap": "inferno", "opacity": 0.7}  # those of the command without options
SPANS = (Span(0, 10), Span(10, 20), Span(20, None))


def splitting(folder: str):
    """A processor that splits every item; it dies once at each second span, always at one, and fails another."""

    def process(tasks):
        for number, item in tasks:
            yield "begun", number
            place = Path(folder) / f"{item.name}.{item.part.start if isinstance(item.part, Span) else 'whole'}"
            if item.part is None:
                yield "split", SPANS
            elif isinstance(item.part, Span):
                if item.part.start == 10 and ("poison" in item.name or not place.with_suffix(".died").exists()):
                    place.with_suffix(".died").touch()
                    os._exit(3)
                if item.part.start == 20 and "broken" in item.name:
                    yield "record", Record(number, "failed", "broken at its end")
                    continue
                place.touch()
                yield "drawn", (10, 0.5)
            else:
                assert item.part == SPANS
                drawn = all((Path(folder) / f"{item.name}.{span.start}").exists() for span in SPANS)
                yield "record", Record(number, "done", seconds=1.0, frames=30, sha256=f"{item.name} {drawn}")

    return process


def test_spans_outlive_workers_and_fail_together(cluster, tmp_path):
    names = ["a", "b", "poison", "broken"]
    joined, seen = [], []
    with Ledger(str(tmp_path)) as ledger:
        ledger.add(Item(name, f"/v/{name}.mp4", 9 << 20, "1") for name in names)
        run(ledger, splitting(str(tmp_path)), on_joined=lambda item: joined.append(item.name), on_progress=seen.append)
        rows = {row["name"]: row for state in ("done", "failed") for row in ledger.rows(state)}
        assert {name: row["state"] for name, row in rows.items()} == {
            "a": "done", "b": "done", "poison": "failed", "broken": "failed"}
        assert [rows[name]["sha256"] for name in ("a", "b")] == ["a True", "b True"]
        assert rows["a"]["seconds"] == 2.5 and rows["a"]["frames"] == 30  # the spans' seconds are its own
        assert "twice" in rows["poison"]["line"] and rows["broken"]["line"] == "broken at its end"
        assert Counter(joined) == Counter(names) and ledger.spans() == {}
        assert seen[-1].done == 2 and seen[-1].failed == 2


def test_a_run_that_ended_goes_on_with_the_spans_that_are_missing(cluster, tmp_path):
    item = Item("a", "/v/a.mp4", 9 << 20, "1")
    with Ledger(str(tmp_path)) as ledger:
        ledger.add([item, Item("b", "/v/b.mp4", 9 << 20, "1")])
        for number in (1, 2):
            ledger.split(number, SPANS)
        for span in SPANS:
            ledger.span_drawn(1, span, 2.0)
            (tmp_path / f"a.{span.start}").touch()
        ledger.span_drawn(2, SPANS[1], 2.0)
        (tmp_path / "b.10").touch()
    with Ledger(str(tmp_path)) as ledger:
        assert ledger.spans()[1] == (item, dict.fromkeys(SPANS, True))
        run(ledger, splitting(str(tmp_path)))
        assert [row["sha256"] for row in ledger.rows("done")] == ["a True", "b True"]
        assert not list(tmp_path.glob("*.died"))  # the second span of neither was drawn again


def test_another_file_of_the_same_name_is_split_anew(tmp_path):
    with Ledger(str(tmp_path)) as ledger:
        ledger.add([Item("a", "/v/a.mp4", 5, "1")])
        ledger.split(1, SPANS)
        ledger.add([Item("a", "/v/a.mp4", 5, "2")])
        assert ledger.spans() == {}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A folder with a video of 100 frames, and what a run in one piece makes of it."""
    folder = tmp_path_factory.mktemp("film")
    (folder / "in").mkdir()
    path = write_movie(folder / "in" / "film.mp4", num_frames=100, size=(48, 64), grain=9, sound=tone(4.2, 16_000))
    outputs = Outputs(folder / "film.saliency.mp4", folder / "film", json=folder / "film.json")
    render(load_engine("compact", "onnx"), open_source(path), outputs, **SETTINGS)
    return path, files_below(folder, "in")


def files_below(folder, *but):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.relative_to(folder).parts[0] not in but}


def test_the_leading_process_is_killed_and_nothing_is_drawn_twice(cluster, film, tmp_path):
    path, whole = film
    command = [sys.executable, "-m", "diffsal.cli", "predict", str(path.parent), "--out", str(tmp_path / "out"),
               f"--cluster={cluster.address}", "--span", "1.3",
               *(f"--write={kind}" for kind in ("overlay", "maps", "json"))]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ledger = tmp_path / "out" / "ledger.sqlite"
        while first.poll() is None and not drawn_in(ledger):
            time.sleep(0.1)
        assert first.poll() is None, "the run ended before a span was drawn"
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    kept = drawn_in(ledger)
    counts = predict_many([str(path.parent)], str(tmp_path / "out"), write=("overlay", "maps", "json"),
                          settings=SETTINGS, span_seconds=0)
    assert kept >= 1 and counts == {"waiting": 0, "done": 1, "failed": 0}
    made = files_below(tmp_path / "out", "ledger.sqlite", ".ledger.sqlite.lock", "report.html", "report.json")
    assert made == whole


def drawn_in(ledger):
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:  # `with` alone leaves it open
            return db.execute("SELECT COUNT(*) FROM spans WHERE is_drawn").fetchone()[0]
    except sqlite3.OperationalError:  # not there yet
        return 0


def test_where_what_was_drawn_is_gone_or_of_other_frames_the_whole_is_predicted(tmp_path, monkeypatch):
    engine = StandIn()
    engine.batch_size = 1
    monkeypatch.setattr(work, "model_of", lambda job: engine)
    path, other = (write_movie(tmp_path / f"{grain}.mp4", num_frames=132, grain=grain) for grain in (0, 9))
    job = Job(str(tmp_path), write=("json",), settings=SETTINGS, span_seconds=2.0)
    render(engine, open_source(path), Outputs(json=tmp_path / "whole.json"), **SETTINGS)
    whole = (tmp_path / "whole.json").read_bytes()
    item = Item("a", str(path), 1, "1")
    kind, spans = do(job, 1, item)
    assert kind == "split" and [span.start for span in spans] == [0, 64, 128] and spans[-1].stop is None

    def joined():
        (tmp_path / "a.json").unlink(missing_ok=True)
        engine.calls.clear()
        kind, record = do(job, 1, replace(item, part=spans))
        assert (kind, record.state, record.frames) == ("record", "done", 132)
        assert (tmp_path / "a.json").read_bytes() == whole
        return len(engine.calls)

    assert joined() == 66  # nothing is drawn
    for span in spans:  # of another video, as if a damaged file gave other frames each time
        assert do(job, 1, replace(item, address=str(other), part=span))[0] == "drawn"
    (tmp_path / ".spans" / names_of(tmp_path)[0]).rename(tmp_path / ".spans" / "other")
    for span in spans:
        assert do(job, 1, replace(item, part=span))[0] == "drawn"
    assert joined() == 0
    right = next(name for name in names_of(tmp_path) if name != "other")
    for file in (tmp_path / ".spans" / "other").iterdir():
        file.replace(tmp_path / ".spans" / right / file.name)
    assert joined() == 66


def names_of(folder):
    return [p.name for p in (folder / ".spans").iterdir()]


def test_an_output_that_is_an_address_holds_what_was_drawn(tmp_path, monkeypatch):
    engine = StandIn()
    engine.batch_size = 1
    monkeypatch.setattr(work, "model_of", lambda job: engine)
    path, out = write_movie(tmp_path / "a.mp4", num_frames=110), f"file://{tmp_path}/out"
    job = Job(out, write=("json",), settings=SETTINGS, span_seconds=2.0)
    item = Item("a", f"file://{path}", 1, "1")
    kind, spans = do(job, 1, item)
    assert kind == "split" and [do(job, 1, replace(item, part=span))[1][0] for span in spans] == [64, 46]
    engine.calls.clear()
    kind, record = do(job, 1, replace(item, part=spans))
    assert record.frames == 110 and engine.calls == []
    assert names_of(tmp_path / "out")
    remove_drawn(out, item)
    assert not names_of(tmp_path / "out")
    kind, whole = do(replace(job, span_seconds=0.0), 1, item)
    assert kind == "record" and whole.sha256 == record.sha256
