"""Scores → one HTML page that opens from disk: tables beside the literature, charts, the worst frames, the protocol.

Reads what ``diffsal evaluate`` and ``diffsal score`` write (:mod:`diffsal.scoring.results`). Everything is in
the one file: charts as SVG, pictures as JPEG; it asks no network and runs no script.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

from diffsal.errors import InputError
from diffsal.figures.charts import Point, Scatter, rank_correlation
from diffsal.files import write_text
from diffsal.scoring import results as scores
from diffsal.scoring.literature import published_rows

NUM_WORST = 10
WORST_APART = 25  # frames of one video, at least, between two of the worst
PICTURE_WIDTH = 300
MEASURES = ("NSS", "CC")  # by which frames are called worst: the first that the protocol has
Sizes = dict[str, tuple[float, float]]  # model → parameters, multiply-accumulates


@dataclass(frozen=True)
class Cell:
    """A number of a table: its words, its 95 % interval, and 1 or 2 where it is the best or second best."""

    words: str
    interval: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Row:
    """One model. ``kind`` is model, baseline or published; ``origin`` the venue and source of the last."""

    name: str
    kind: str
    cells: tuple[Cell, ...]
    origin: str = ""


@dataclass(frozen=True, eq=False)
class WorstFrame:
    """One of the frames with the lowest score; ``pictures`` are (name, data URI), empty where the clip is gone."""

    set_name: str
    video: str
    path: str
    frame: int
    score: float
    fixations: int
    pictures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Section:
    """One set under one protocol: what the page says of it."""

    name: str
    protocol: dict
    counted: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    charts: tuple[Scatter, ...]
    sources: tuple[str, ...]


def write_report(
    paths: Sequence[Path],
    out: Path,
    *,
    sizes: Sizes | None = None,
    num_worst: int = NUM_WORST,
    on_step: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The page ``out`` from ``paths`` (``scores.json`` files or their folders); what could not be shown, a line each.

    ``sizes`` adds the parameters and multiply-accumulates of models whose weights are not at hand. The worst frames
    are those of the first model; their maps are read again or predicted again. Raises :class:`InputError` for a file
    that holds no scores.
    """
    documents = [(path.parent, scores.read(path)) for path in map(_file, paths)]
    problems: list[str] = []
    sizes = {**_sizes([d for _, d in documents]), **(sizes or {})}
    worst = _worst(documents[0][0], documents[0][1], num_worst)
    for i, frame in enumerate(worst):
        on_step(i)
        try:
            frame.pictures.extend(_pictures(documents[0][1], frame))
        except (InputError, OSError) as error:
            problems.append(f"{error} (shown without its picture)")
    measure = _measure(documents[0][1])
    page = _template().render(
        documents=[d for _, d in documents], sections=_sections([d for _, d in documents], sizes), worst=worst,
        measure=measure, apart=WORST_APART, files=[str(_file(p)) for p in paths], wide=PICTURE_WIDTH,
        lower=set(documents[0][1]["protocol"]["lower_is_better"]), worst_model=_first_model(documents[0][1]),
    )
    write_text(out, page)
    return problems


def _file(path: Path) -> Path:
    return path / "scores.json" if path.is_dir() else path


def _template():
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files("diffsal") / "figures" / "report.html").read_text(encoding="utf-8"))


# --- tables -------------------------------------------------------------------------------------------------------


def _sections(documents: list[dict], sizes: Sizes) -> list[Section]:
    """Sets of one name, data set and protocol, from however many files, stand in one table."""
    groups: dict[tuple[str, str, str], list[tuple[dict, dict]]] = {}
    for document in documents:
        for one in document["sets"]:
            key = (document["dataset"], one["name"], document["protocol"]["name"])
            groups.setdefault(key, []).append((document, one))
    return [_section(key, members, sizes) for key, members in groups.items()]


def _section(key: tuple[str, str, str], members: list[tuple[dict, dict]], sizes: Sizes) -> Section:
    dataset, name, _ = key
    document, first = members[0]
    protocol, metrics = document["protocol"], tuple(document["protocol"]["metrics"])
    models = _merged([one for _, one in members])
    published = published_rows([dataset])
    entries = [(m["name"], m["kind"], m["mean"], m.get("interval", {}), "") for m in models]
    entries += [(r["method"], "published", r["mean"], {}, " · ".join(filter(None, (r["venue"], r["source"]))))
                for r in published]
    ranks = {m: _ranks([(i, e[2].get(m)) for i, e in enumerate(entries) if e[1] != "baseline"],
                       m in protocol["lower_is_better"]) for m in metrics}
    rows = tuple(
        Row(entry[0], entry[1], tuple(
            Cell(_number(entry[2].get(m)), _interval(entry[3].get(m)), ranks[m].get(i, 0)) for m in metrics), entry[4])
        for i, entry in enumerate(entries)
    )
    charts = [*_size_charts(entries, published, sizes, metrics[0]), *_video_charts(models, metrics)]
    skipped = "; ".join(f"{n:,} left out: {why}" for why, n in first["frames"]["skipped"].items())
    counted = f"{first['videos']:,} videos, {first['frames']['scored']:,} frames scored"
    counted += f"; {skipped}" * bool(skipped)
    title = name if name == dataset else f"{name} ({dataset})"
    return Section(title, protocol, counted, metrics, rows, tuple(charts),
                   tuple(dict.fromkeys(r["source"] for r in published)))


def _merged(sets: list[dict]) -> list[dict]:
    """The models of several files: a baseline once, a second model of one name with a number behind it."""
    found: dict[str, dict] = {}
    for one in sets:
        for model in one["models"]:
            name, number = model["name"], 2
            if name in found and model["kind"] == "baseline":
                continue
            while name in found:
                name, number = f"{model['name']} ({number})", number + 1
            found[name] = {**model, "name": name}
    return sorted(found.values(), key=lambda m: m["kind"] == "baseline")


def _ranks(values: list[tuple[int, float | None]], lower_is_better: bool) -> dict[int, int]:
    """Which entries are best (1) and second best (2) as printed; equal ones share their place."""
    known = {i: round(v, 3) for i, v in values if v is not None}
    if len(known) < 2:
        return {}
    places = sorted(set(known.values()), reverse=not lower_is_better)[:2]
    return {i: places.index(v) + 1 for i, v in known.items() if v in places}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(values: list[float] | None) -> str:
    return "" if values is None else f"{values[0]:.3f} to {values[1]:.3f}"


# --- charts -------------------------------------------------------------------------------------------------------


def _sizes(documents: list[dict]) -> Sizes:
    """Parameters and multiply-accumulates of the models whose weights these scores name and this machine has."""
    from diffsal.scoring.map_sources import Network
    from diffsal.weights.describe import describe

    found: Sizes = {}
    for document in documents:
        for network in document["settings"].get("networks", []):
            try:
                total = describe(network["weights"]).total
            except (InputError, OSError):
                continue
            found[Network(**network).name] = (total.parameters, total.paper_multiply_accumulates)
    return found


def _size_charts(entries: list[tuple], published: list[dict], sizes: Sizes, metric: str) -> list[Scatter]:
    known = {**sizes, **{r["method"]: (r["parameters"], r["flops"]) for r in published}}
    kinds = ("parameters", "multiply-accumulates of one map")
    charts = []
    for axis, kind in enumerate(kinds):
        points = [
            Point(known[name][axis], mean[metric], f"{name}: {known[name][axis]:,.0f} {kind}, {metric} "
                  f"{mean[metric]:.3f}", 0 if origin == "model" else 1, name)
            for name, origin, mean, *_ in entries
            if origin != "baseline" and mean.get(metric) is not None and known.get(name, (None, None))[axis]
        ]
        if len(points) > 1:
            note = "" if axis == 0 else "Counted as the DiffSal paper does: convolutions and linear layers."
            charts.append(Scatter(f"{metric} against {kind}", kind, metric, tuple(points),
                                  ((0, "scored here"), (1, "as published")), log_x=True, note=note))
    return charts


def _video_charts(models: list[dict], metrics: tuple[str, ...]) -> list[Scatter]:
    metric = metrics[0]
    charts = []
    axes = (("seconds", "length of the video in seconds"), ("fixations", "fixations on a frame, on average"))
    for key, words in axes:
        points, legend, first = [], [], None
        for series, model in enumerate(models):
            videos = [v for v in model["videos"] if v["mean"].get(metric) is not None]
            points += [Point(v[key], v["mean"][metric], f"{v['name']}, {model['name']}: {metric} "
                             f"{v['mean'][metric]:.3f}, {v[key]:.4g} {key}", series) for v in videos]
            legend.append((series, model["name"]))
            first = first or (model["name"], [v[key] for v in videos], [v["mean"][metric] for v in videos])
        if len({round(p.x, 6) for p in points}) > 1 and first is not None:
            rho = rank_correlation(first[1], first[2])
            note = "" if np.isnan(rho) else f"Spearman’s ρ of {first[0]}: {rho:+.2f} over {len(first[1])} videos."
            charts.append(Scatter(f"{metric} of each video against its {key}", words, metric, tuple(points),
                                  tuple(legend), note=note))
    return charts


# --- the worst frames ---------------------------------------------------------------------------------------------


def _measure(document: dict) -> str:
    metrics = document["protocol"]["metrics"]
    return next((m for m in MEASURES if m in metrics), metrics[0])


def _first_model(document: dict) -> str:
    names = [m["name"] for s in document["sets"] for m in s["models"] if m["kind"] == "model"]
    return names[0] if names else ""


def _worst(folder: Path, document: dict, count: int) -> list[WorstFrame]:
    """The ``count`` frames that the first model does worst on, no two of a video within ``WORST_APART`` frames."""
    path = folder / document["per_frame"]
    measure, model = _measure(document), _first_model(document)
    if not path.exists():
        raise InputError(f"{path}: no such file: it belongs beside scores.json; evaluate again")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == model and row[measure] not in ("", "nan")]
    places = {(s["name"], v["name"]): v["path"] for s in document["sets"] for m in s["models"] for v in m["videos"]}
    sign = -1 if measure in document["protocol"]["lower_is_better"] else 1
    found: list[WorstFrame] = []
    for row in sorted(rows, key=lambda r: sign * float(r[measure])):
        frame, video = int(row["frame"]), (row["set"], row["video"])
        if len(found) == count:
            break
        if all((f.set_name, f.video) != video or abs(f.frame - frame) >= WORST_APART for f in found):
            found.append(WorstFrame(*video, places.get(video, ""), frame, float(row[measure]), int(row["fixations"])))
    return found


def _pictures(document: dict, worst: WorstFrame) -> list[tuple[str, str]]:
    """The frame, where people looked, and the model's map, which is read or predicted again."""
    from diffsal.outputs.panels import heat

    clip = _clip(document, worst)
    image = clip.frames([worst.frame])[0]
    pictures = [("picture", image), ("humans", heat(clip.saliency_map(worst.frame)))]
    saliency = _map(document, clip, worst.frame)
    if saliency is not None:
        pictures.append((_first_model(document), heat(saliency)))
    return [(name, _data_uri(picture)) for name, picture in pictures]


def _clip(document: dict, worst: WorstFrame):
    from diffsal.data.databases import record_of

    root, settings, record = Path(document["data"]), document["settings"], record_of(document["dataset"])
    for clip in record(root, settings["split"], settings["fold"]):
        if clip.name == worst.video and record.set_of(clip) == worst.set_name:
            return clip
    raise InputError(f"{worst.path}: {worst.video} is no longer in {root}; make the report where the data are")


def _map(document: dict, clip, index: int) -> np.ndarray | None:
    """The first model's map of one frame, from its folder or from its weights."""
    from diffsal.prediction.pipeline import predict
    from diffsal.runtime.loading import load_engine
    from diffsal.scoring.map_sources import MapFolder

    settings = document["settings"]
    if settings.get("maps"):
        _, found = next(iter(MapFolder("", Path(settings["maps"])).maps(clip, [index], [])))
        return None if isinstance(found, InputError) else found
    if not settings.get("networks"):
        return None
    network, seconds = settings["networks"][0], clip.seconds(index)
    if network["sound"] == "other":
        return None
    half = 0.25 / clip.frame_rate
    predictions = predict(load_engine(network["weights"]), clip.source(), steps=network["steps"], seed=network["seed"],
                          mute=network["sound"] == "muted", start=max(0.0, seconds - half), end=seconds + half,
                          every=network.get("every"))
    return next((p.saliency for p in predictions if p.index == index), None)


def _data_uri(image: np.ndarray) -> str:
    height = max(1, round(PICTURE_WIDTH * image.shape[0] / image.shape[1]))
    small = cv2.resize(image, (PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
