"""What an evaluation found: scores per frame, per clip and in all, with intervals; as JSON and CSV on disk.

``scores.json`` (schema ``diffsal.scoring.results``, version 1, described in docs/metrics.md), ``per_video.csv`` and
``per_frame.csv``. :func:`read` gives ``scores.json`` back as a dictionary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from diffsal.errors import InputError
from diffsal.files import check_plain, write_csv, write_text
from diffsal.scoring.protocols import LOWER_IS_BETTER, Protocol

SCHEMA, VERSION = "diffsal.scores", 1
NUM_RESAMPLES = 2000
MOST_BYTES = 1 << 30  # of a scores.json
CENTRE, HUMANS = "centre", "half of humans"
BASELINES = (CENTRE, HUMANS)


@dataclass
class ClipScores:
    """One clip (or picture), scored: per model one row of metrics for each frame of ``index``; None: not defined.

    ``num_fixations`` are those on each frame, ``skipped`` those left out by reason, ``problems`` what was at fault.
    """

    set_name: str
    name: str
    path: str
    seconds: float = 0.0
    is_picture: bool = False
    index: list[int] = field(default_factory=list)
    num_fixations: list[int] = field(default_factory=list)
    scores: dict[str, list[list[float | None]]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def skip(self, reason: str, count: int = 1) -> None:
        """Count frames that are left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + count

    def rows(self, model: str, num_metrics: int) -> Float[np.ndarray, "n {num_metrics}"]:
        """A model's scores as an array, NaN where they are not defined."""
        return np.array(self.scores.get(model, []), dtype=np.float64).reshape(-1, num_metrics)


def summarise(clips: list[ClipScores], protocol: Protocol, models: Iterable[str]) -> list[dict]:
    """Per set: frames counted and skipped, and per model means, 95 % intervals, NaNs, and each clip's means."""
    return [_summarise_set(name, [c for c in clips if c.set_name == name], protocol, models)
            for name in dict.fromkeys(c.set_name for c in clips)]


def _summarise_set(name: str, clips: list[ClipScores], protocol: Protocol, models: Iterable[str]) -> dict:
    skipped: dict[str, int] = {}
    for clip in clips:
        for reason, count in clip.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    summaries = [_summarise_model(m, clips, protocol) for m in models if any(m in c.scores for c in clips)]
    frames = sum(len(c.index) for c in clips)
    return {"name": name, "videos": sum(bool(c.index) for c in clips), "frames": {"scored": frames, "skipped": skipped},
            "models": summaries}


def _summarise_model(model: str, clips: list[ClipScores], protocol: Protocol) -> dict:
    metrics, num_frames = protocol.metrics, 0
    videos: list[dict] = []
    means, sums, nums = [], [], []
    for clip in clips:
        rows = clip.rows(model, len(metrics))
        scored = ~np.isnan(rows)
        total, count = np.where(scored, rows, 0).sum(0), scored.sum(0)
        num_scored = int(scored.any(1).sum())
        if not num_scored:
            continue
        num_frames += num_scored
        sums.append(total)
        nums.append(count)
        means.append(_ratio(total, count))
        videos.append({
            "name": clip.name, "path": clip.path, "seconds": round(clip.seconds, 3), "frames": num_scored,
            "fixations": float(np.mean(clip.num_fixations)), "mean": _named(metrics, means[-1]),
        })
    by_clip, shape = np.array(means).reshape(-1, len(metrics)), (-1, len(metrics))
    totals, counts = np.array(sums).reshape(shape), np.array(nums).reshape(shape)
    mean, low, high = _mean_and_interval(by_clip, totals, counts, protocol.average)
    rows = np.concatenate([c.rows(model, len(metrics)) for c in clips])
    nan = np.isnan(rows[~np.isnan(rows).all(1)]).sum(0) if len(rows) else np.zeros(len(metrics))
    return {
        "name": model, "kind": "baseline" if model in BASELINES else "model", "frames": num_frames,
        "mean": _named(metrics, mean),
        "interval": {m: None if np.isnan(a) else [float(a), float(b)]
                     for m, a, b in zip(metrics, low, high, strict=True)},
        "nan": dict(zip(metrics, map(int, nan), strict=True)), "videos": videos,
    }


def _mean_and_interval(
    by_clip: Float[np.ndarray, "v m"], totals: Float[np.ndarray, "v m"], counts: np.ndarray, average: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over clips or over frames, and the 2.5 and 97.5 % quantiles of it when clips are drawn again."""
    if average == "videos":
        totals, counts = np.nan_to_num(by_clip), (~np.isnan(by_clip)).astype(int)
    nothing = np.full(by_clip.shape[1], np.nan)
    if not len(by_clip):
        return nothing, nothing, nothing
    mean = _ratio(totals.sum(0), counts.sum(0))
    if len(by_clip) < 2:
        return mean, nothing, nothing
    even = np.full(len(by_clip), 1 / len(by_clip))
    drawn = np.random.default_rng(0).multinomial(len(by_clip), even, NUM_RESAMPLES)
    resampled = np.where(np.isnan(mean), 0, _ratio(drawn @ totals, drawn @ counts))
    low, high = np.where(np.isnan(mean), np.nan, np.nanquantile(resampled, (0.025, 0.975), 0))
    return mean, low, high


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _named(metrics: tuple[str, ...], values: np.ndarray) -> dict[str, float | None]:
    return {m: None if np.isnan(v) else float(v) for m, v in zip(metrics, values, strict=True)}


def write(folder: Path, document: dict, clips: list[ClipScores], protocol: Protocol) -> None:
    """``scores.json``, ``per_video.csv`` and ``per_frame.csv`` in ``folder``, each whole or not at all."""
    document = {"schema": SCHEMA, "version": VERSION, **document}
    write_csv(folder / "per_video.csv", ["set", "video", "model", "frames", *protocol.metrics], (
        [s["name"], v["name"], m["name"], v["frames"], *map(_rounded, v["mean"].values())]
        for s in document["sets"] for m in s["models"] for v in m["videos"]))
    write_csv(folder / "per_frame.csv", ["set", "video", "frame", "fixations", "model", *protocol.metrics], (
        [c.set_name, c.name, i, n, model, *map(_rounded, row)]
        for c in clips for model, rows in c.scores.items()
        for i, n, row in zip(c.index, c.num_fixations, rows, strict=True)))
    write_text(folder / "scores.json", json.dumps(document, indent=1, allow_nan=False) + "\n")


def _rounded(score: float | None) -> str | None:
    return None if score is None else f"{score:.6f}"


def read(path: Path) -> dict:
    """A ``scores.json``. Raises :class:`InputError` for any other file or a version that this program does not know."""
    check_plain(Path(path))
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: is larger than any file of scores; give a scores.json of `diffsal evaluate`")
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give one of `diffsal evaluate`") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not JSON ({error}); give a scores.json of `diffsal evaluate`") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError(f"{path}: not a file of scores; give a scores.json of `diffsal evaluate` or `diffsal score`")
    if document.get("version") != VERSION:
        raise InputError(f"{path}: version {document.get('version')} of the scores, this program reads {VERSION}; "
                         "evaluate again")
    try:
        _check(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {str(error)[:80]}); evaluate again") from None
    return document


def _check(document: dict) -> None:
    """What readers rely on is there and of its type; any error says that it is not."""
    protocol, metrics = document["protocol"], document["protocol"]["metrics"]
    words = [*metrics, *protocol["lower_is_better"], *(protocol[key] for key in ("name", "words", "average")),
             *(document[key] for key in ("diffsal", "made", "command", "dataset", "data", "per_frame"))]
    numbers: list = []
    for found in document["sets"]:
        words += [found["name"], *found["frames"]["skipped"]]
        numbers += [found["videos"], found["frames"]["scored"], *found["frames"]["skipped"].values()]
        for model in found["models"]:
            words += [model["name"], model["kind"]]
            numbers += [model["frames"], *(model["nan"][m] for m in metrics)]
            numbers += [v for m in metrics if model["interval"][m] is not None for v in model["interval"][m]]
            for video in model["videos"]:
                words += [video["name"], video["path"]]
                numbers += [video["seconds"], video["frames"], video["fixations"]]
            numbers += [v for mean in (model["mean"], *(video["mean"] for video in model["videos"]))
                        for v in (mean[m] for m in metrics) if v is not None]
            if not all(model["interval"][m] is None or len(model["interval"][m]) == 2 for m in metrics):
                raise TypeError("an interval has no two ends")
    for row in document["published"]:
        words += [row["method"], row["dataset"], row["source"], row["venue"] or ""]
        numbers += [v for v in (*row["mean"].values(), row["parameters"], row["flops"]) if v is not None]
    words += document["problems"]
    if not isinstance(document["settings"], dict) or not all(isinstance(word, str) for word in words):
        raise TypeError("a name is no text")
    if not all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e300 for n in numbers):
        raise TypeError("a number is none")


def document_head(command: str, dataset: str, root: Path, protocol: Protocol, settings: dict) -> dict:
    """The part of ``scores.json`` that says what was done."""
    from datetime import datetime, timezone
    from importlib.metadata import version

    return {
        "diffsal": version("diffsal"), "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command, "dataset": dataset, "data": str(root),
        "protocol": {"name": protocol.name, "words": protocol.words, "average": protocol.average,
                     "metrics": list(protocol.metrics), "lower_is_better": list(LOWER_IS_BETTER)},
        "settings": settings, "per_frame": "per_frame.csv",
    }


def to_json(clip: ClipScores) -> dict:
    return asdict(clip)


def from_json(values: dict) -> ClipScores:
    return ClipScores(**values)
