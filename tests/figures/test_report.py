"""The report: ranks as in the paper's Table 8, everything in one file, drawn by a real browser without a network."""

import base64
import csv
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from diffsal.figures.charts import Point, Scatter, draw_scatter, rank_correlation
from diffsal.figures.report import _ranks, write_report
from tests.commands import outcome
from tests.movies import write_movie

METRICS = ["CC", "NSS", "KLD"]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def scores(tmp_path):
    """Two videos of the gaze layout in red, and what an evaluation of two models would have written about them."""
    for name in ("a", "b"):
        (tmp_path / "data/videos/own").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/gaze/own").mkdir(parents=True, exist_ok=True)
        write_movie(tmp_path / f"data/videos/own/{name}.mp4", num_frames=40, flash=None)
        rows = [f"{i},0,3,0.{3 + i},0.5" for i in range(6)]
        (tmp_path / f"data/gaze/own/{name}.csv").write_text("observer,start_s,duration_s,x,y\n" + "\n".join(rows))
    write_scores(tmp_path / "one", tmp_path / "data", {"<first> & best": 0.8, "second": 0.75, "centre": 0.9})
    return tmp_path


def write_scores(folder, data, models):
    folder.mkdir()
    frames = [(video, frame) for video in "ab" for frame in range(0, 40, 5)]
    per_frame = [["own", video, frame, 6, model, cc, cc * 5 + frame / 100, 1 - cc]
                 for model, cc in models.items() for video, frame in frames]
    with (folder / "per_frame.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["set", "video", "frame", "fixations", "model", *METRICS], *per_frame])

    def named(cc):
        return {"CC": cc, "NSS": cc * 5, "KLD": 1 - cc}

    summaries = [{
        "name": model, "kind": "baseline" if model == "centre" else "model", "frames": len(frames), "mean": named(cc),
        "interval": {m: [cc - 0.1, cc + 0.1] for m in METRICS}, "nan": {"CC": 0, "NSS": 3, "KLD": 0},
        "videos": [{"name": v, "path": str(data / f"videos/own/{v}.mp4"), "seconds": 1.6 + i, "frames": 8,
                    "fixations": 6.0 + i, "mean": named(cc)} for i, v in enumerate("ab")],
    } for model, cc in models.items()]
    (folder / "scores.json").write_text(json.dumps({
        "schema": "diffsal.scores", "version": 1, "diffsal": "0.1", "made": "2026-11-24T07:00:00+00:00",
        "command": "score", "dataset": "gaze", "data": str(data),
        "protocol": {"name": "gaze", "words": "Every fifth frame.", "average": "videos", "metrics": METRICS,
                     "lower_is_better": ["KLD"]},
        "settings": {"split": "own", "fold": None, "maps": str(data / "maps")}, "per_frame": "per_frame.csv",
        "sets": [{"name": "own", "videos": 2, "frames": {"scored": 16, "skipped": {"nobody fixates": 2}},
                  "models": summaries}],
        "published": [], "problems": ["maps/a/000001.png: not a picture"],
    }))


def cells(page, name):
    """The ranks and values of a model's row."""
    row = re.search(rf"<tr[^>]*><td>{re.escape(name)}.*?</tr>", page, re.S)[0]
    return re.findall(r'<td class="rank(\d)"><span class="value">([^<]*)', row)


def test_page_holds_everything(scores, tmp_path):
    out = tmp_path / "report.html"
    assert write_report([scores / "one"], out, sizes={"second": (3e6, 4e9), "<first> & best": (6e6, 2e9)}) == []
    page = out.read_text()
    assert cells(page, "&lt;first&gt; &amp; best") == [("1", "0.800"), ("1", "4.000"), ("1", "0.200")]
    assert cells(page, "second") == [("2", "0.750"), ("2", "3.750"), ("2", "0.250")]
    assert cells(page, "centre") == [("0", "0.900"), ("0", "4.500"), ("0", "0.100")]
    for words in ("Every fifth frame.", "2 left out (nobody fixates)", "3 of NSS", "0.700 to 0.900",
                  "maps/a/000001.png: not a picture", "CC against parameters", "CC of each video against its seconds"):
        assert words in page
    assert page.count("<svg role=") == 4 and page.count('class="mark"') == 2 + 2 + 6 + 6
    assert not re.search(r"<script|<link|@import|url\((?!#)|(src|href)=\"(?!data:|#)", page)
    named = re.findall(r' id="([^"]+)"', page)
    assert len(named) == len(set(named))
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 2 * 4  # a frame of each video at 0 and 25 or later; no maps are there to show
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(p), np.uint8), cv2.IMREAD_COLOR) for p in pictures]
    assert all(p is not None and p.shape[1] == 300 for p in decoded)


def test_worst_frames_come_in_order_and_apart(scores, tmp_path):
    write_report([scores / "one"], tmp_path / "report.html", num_worst=3)
    headings = re.findall(r"<h3>(\d)\. own (\w), frame (\d+): NSS ([\d.]+)", (tmp_path / "report.html").read_text())
    assert headings == [("1", "a", "0", "4.00"), ("2", "b", "0", "4.00"), ("3", "a", "25", "4.25")]


def test_maps_of_the_worst_frames(scores, tmp_path):
    folder = scores / "data/maps/own/a"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "000000.png"), np.full((48, 64), 65_535, np.uint16))
    write_report([scores / "one"], tmp_path / "report.html", num_worst=1)
    assert (tmp_path / "report.html").read_text().count('src="data:') == 3


def test_several_files_share_a_table(scores, tmp_path):
    write_scores(scores / "two", scores / "data", {"second": 0.85, "centre": 0.9})
    write_report([scores / "one", scores / "two/scores.json"], tmp_path / "report.html", num_worst=0)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<thead>") == 1 and page.count("<td>centre") == 1
    assert cells(page, "second (2)")[0] == ("1", "0.850") and cells(page, "second")[0] == ("0", "0.750")


def test_published_rows_stand_beside(scores, tmp_path):
    text = (scores / "one/scores.json").read_text()
    document = json.loads(text.replace('"dataset": "gaze"', '"dataset": "dhf1k"').replace('"own"', '"dhf1k"'))
    document["settings"]["split"] = "val"
    (scores / "one/scores.json").write_text(json.dumps(document))
    write_report([scores / "one"], tmp_path / "report.html", num_worst=0, sizes={"second": (6e6, 2e9)})
    page = (tmp_path / "report.html").read_text()
    assert cells(page, "TASED-Net") == [("0", "0.440"), ("0", "2.541"), ("0", "–")]
    assert "CVPR 2024, supplement, Table 8" in page and "76 M" not in page and "70,540,000 parameters" in page


def test_what_is_gone_is_told_and_the_rest_is_there(scores, tmp_path, capfd):
    (scores / "data/videos/own/a.mp4").unlink()
    code, _, err = outcome(capfd, "report", str(scores / "one"), "-o", str(tmp_path / "r.html"), "--worst", "2")
    assert code == 1 and err.count("shown without its picture") == 1 and "a is no longer in" in err
    assert (tmp_path / "r.html").read_text().count('src="data:') == 2
    (tmp_path / "other.json").write_text('{"schema": "else"}')
    for given, words in (("other.json", "not a file of scores"), ("nowhere", "nowhere"), ("one", "--force")):
        code, _, err = outcome(capfd, "report", str(tmp_path / given), "-o", str(tmp_path / "r.html"))
        assert code == 1 and (words in err or "--force" in err) and len(err.splitlines()) == 1


@pytest.mark.parametrize("size", ["second", "second=1", "=1,2", "second=0,2"])
def test_wrong_sizes_exit_2(scores, size, capsys):
    assert outcome(capsys, "report", str(scores / "one"), "--size", size)[0] == 2


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_a_browser_draws_it_without_a_network(scores, tmp_path):
    write_report([scores / "one"], tmp_path / "report.html", sizes={"second": (3e6, 4e9), "<first> & best": (6e6, 2e9)})
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
               "--proxy-server=127.0.0.1:9", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,2600",
               f"--screenshot={tmp_path / 'shot.png'}", (tmp_path / "report.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    shot = cv2.imread(str(tmp_path / "shot.png"))[..., ::-1].astype(int)
    assert shot.shape == (2600, 1400, 3)

    def pixels(colour, tolerance):
        return int((np.abs(shot - colour).max(2) <= tolerance).sum())

    assert pixels((0x00, 0x72, 0xB2), 60) > 200 and pixels((0xD5, 0x5E, 0x00), 60) > 200  # marks of the first two
    assert pixels((255, 0, 0), 90) > 200  # the red spot in the pictures


def test_ranks_share_places_and_follow_the_direction():
    values = [(0, 0.9181), (1, 0.918), (2, 0.5), (3, None), (4, 0.7)]
    assert _ranks(values, lower_is_better=False) == {0: 1, 1: 1, 4: 2}
    assert _ranks(values, lower_is_better=True) == {2: 1, 4: 2}
    assert _ranks([(0, 0.5)], lower_is_better=False) == {}


def test_a_chart_puts_every_mark_at_its_place():
    chart = Scatter("", "x", "y", tuple(Point(10.0**i, i, "", name=f"model {i}") for i in range(4)), log_x=True)
    marks = re.findall(r'<g class="mark">.*?<use [^>]*x="([\d.]+)" y="([\d.]+)"', chart.svg, re.S)
    steps = np.diff(np.array(marks, float), axis=0)
    assert len(steps) == 3 and steps == pytest.approx(np.tile(steps[:1], (3, 1)), abs=1e-3)
    assert steps[0, 0] > 0 > steps[0, 1]


def test_a_chart_is_the_same_text_each_time_and_keeps_words_as_they_are():
    points = (Point(1, 2, "<b> & $x$", name="$n$"), Point(2, 3, "", 1), Point(3, 4, "", 2))
    chart = Scatter("$a_b$ <c>", "x", "y", points, ((0, "all"), (1, "$m$ and $n$"), (2, "_v2")))
    assert chart.svg == chart.svg
    kept = ("<title>&lt;b&gt; &amp; $x$</title>", ">$n$</text>", ">all</text>", ">$m$ and $n$</text>", " _v2</text>")
    for words in kept:
        assert words in chart.svg
    assert chart.svg.startswith('<svg role="img" aria-label="$a_b$ &lt;c&gt;" viewBox="0 0 ')


def test_names_in_a_crowd_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    points = tuple(Point(x, y, "", name="TASED-Net") for x, y in rng.uniform(0, 1, (8, 2)))
    axes = draw_scatter(Scatter("", "x", "y", points)).axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    marks = [axes.transData.transform((p.x, p.y)) for p in points]
    assert len(boxes) == 8
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]) and not any(box.contains(*mark) for mark in marks)


def test_rank_correlation():
    assert rank_correlation([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 2.5]) == pytest.approx(-0.8)
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)  # scipy's spearmanr says so too
    assert np.isnan(rank_correlation([1, 2], [1, 2])) and np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
