r"""Choices for the compact network that rest on every clip of the pack: cross-validation, scenes kept together.

    python benchmarks/cross_validation.py train GAZE OUT NAME [SETTING=VALUE …] [--folds 0 2] \
        --init mobilenet_v2_imagenet.safetensors --init yamnet_audioset.safetensors
    python benchmarks/cross_validation.py report OUT

``train`` runs `diffsal train compact` at a small size and budget, once per fold, with the fold's scenes held out, and
appends each held-out clip's scores to ``OUT/results.jsonl``: as the recipe finishes the network, without each of the
priors, and with other gains (``FINISHES``). Each fold's weights stay as ``OUT/NAME-FOLD.safetensors``. Folds that are
there already are left alone; two commands with other ``--folds`` can run beside each other. ``report`` prints the means
over clips, and the difference from the first row clip by clip with its standard error.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ablations import SHARD, mean_of_clips, read

from diffsal.config import Finish
from diffsal.data.databases.gaze import read_set
from diffsal.training.examples import Batch
from diffsal.training.phase import Denoiser
from diffsal.training.phases import gaze_phases, mean_map
from diffsal.training.reader import Reader
from diffsal.training.recipes import configure, train
from diffsal.training.run_folder import git_revision
from diffsal.training.validation import score
from diffsal.weights.files import load

BUDGET = ("height=128", "width=224", "still_steps=300", "window_steps=0", "validation_steps=100000",
          "checkpoint_steps=100000", "num_workers=0")
UNFINISHED = {"exponent": 1.0, "motion_gain": 0.0, "sound_gain": 0.0, "centre_gain": 0.0}
MOVED = "another moment's sound"
FINISHES = {  # what differs from the recipe
    "as the recipe says": {},
    "no priors, exponent 1": UNFINISHED,
    "no motion prior": {"motion_gain": 0.0, "sound_gain": 0.0},
    "no sound prior": {"sound_gain": 0.0},
    MOVED: {},
    "no added centre": {"centre_gain": 0.0},
    **{f"{name} {value}": {name: value} for name, values in {
        "exponent": (1.0, 1.2, 1.3), "motion_gain": (0.75, 1.0, 1.5), "sound_gain": (1.0, 2.0, 4.0),
        "centre_gain": (0.15, 0.3, 0.7),
    }.items() for value in values},
}
NUM_FOLDS = 4
FRAME_STEP = 20  # every 20th frame of a held-out clip is scored
SETS = ("find", "hevc")


def folds_of(data: Path) -> list[list[str]]:
    """Scenes in name order, dealt out set by set."""
    folds: list[list[str]] = [[] for _ in range(NUM_FOLDS)]
    for name in SETS:
        for i, scene in enumerate(sorted({clip.scene for clip in read_set(data, name)})):
            folds[i % NUM_FOLDS].append(scene)
    return folds


def run(options: argparse.Namespace, fold: int, scenes: list[str]) -> None:
    began, folder = time.perf_counter(), options.out / f"{options.name}-{fold}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    frames = options.out / "frames"
    frames.mkdir(exist_ok=True)
    (folder / "frames").symlink_to(frames.resolve())
    settings = [*BUDGET, f"validation_scenes={','.join(scenes)}", f"validation_stride={FRAME_STEP}", *options.settings]
    weights = train("compact", options.data, folder, options.init, settings=settings)
    if weights is None:
        raise SystemExit("stopped: what is done is kept")
    trained = time.perf_counter()
    line = {"name": options.name, "fold": fold, "settings": options.settings, "git": git_revision(),
            "clips": scores(options.data, folder, weights, settings),
            "training_seconds": round(trained - began), "seconds": round(time.perf_counter() - began)}
    with (options.out / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    shutil.move(weights, options.out / f"{options.name}-{fold}.safetensors")
    shutil.rmtree(folder)


class MovedSound(Reader):
    """A clip's sound is that of half its length later."""

    def loudness(self, number: int, index: int) -> float:
        count = self.num_frames(number)
        return super().loudness(number, (index + count // 2) % count)


@torch.no_grad()
def scores(data: Path, folder: Path, weights: Path, settings: list[str]) -> dict[str, dict[str, list[float]]]:
    """One fold's network on its held-out clips: CC, SIM and NSS, means over frames: {finish: {clip: three means}}."""
    model, recipe = load(weights), configure("compact", settings)
    model.finish = recipe.finish
    stills, windows = gaze_phases(model, recipe.train, data, folder, SHARD)
    centre = tuple(tuple(row) for row in mean_map(stills.examples).tolist())
    finishes = {name: replace(Finish(**{**vars(model.finish), "centre": centre}), **changes)
                for name, changes in FINISHES.items()}
    windows.prepare(model)
    denoiser, moved = Denoiser(model.eval()), copy.copy(windows.reader)
    moved.__class__ = MovedSound
    moved.__setstate__(moved.__getstate__())
    scored, rows = windows.scored, defaultdict(lambda: defaultdict(list))
    scored.priors = True
    for number, view in enumerate(scored.views):
        example = scored[number]
        batch = Batch.of([example])
        raw = model.sample(denoiser.features(*windows.inputs(batch)), batch.noise, enlarged=False)[0, 0]
        elsewhere = replace(example, sound=moved.priors(view, scored.views)[1])
        clip = scored.reader.clips[view.clip]
        for name, finish in finishes.items():
            found = score(raw, elsewhere if name == MOVED else example, finish)
            rows[name][f"{clip.split}/{clip.name}"].append(found)
    return {name: mean_of_clips(clips) for name, clips in rows.items()}


def report(out: Path) -> None:
    rows = read(out / "results.jsonl")
    table: dict[str, dict[str, list[float]]] = {}
    for finish in FINISHES:
        for row in rows:
            whole = row["name"] if finish == "as the recipe says" else f"{row['name']}: {finish}"
            if finish == "as the recipe says" or row["name"] == rows[0]["name"]:
                table.setdefault(whole, {}).update(row["clips"][finish])
    first = next(iter(table.values()))
    print("| | clips | FIND: CC / SIM / NSS | HEVC | CC against the first row: FIND | HEVC |")
    print("|---|---|---|---|---|---|")
    for name, clips in table.items():
        cells = [str(len(clips))]
        for s in SETS:
            means = np.mean([v for k, v in clips.items() if k.startswith(s)], 0)
            cells.append(f"{means[0]:.3f} / {means[1]:.3f} / {means[2]:.2f}")
        for s in SETS:
            gains = [v[0] - first[k][0] for k, v in clips.items() if k.startswith(s) and k in first]
            error = np.std(gains) / max(len(gains) - 1, 1) ** 0.5
            cells.append(f"{np.mean(gains):+.3f} ± {error:.3f}" if clips is not first else "–")
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("data", type=Path)
    training.add_argument("out", type=Path)
    training.add_argument("name")
    training.add_argument("settings", nargs="*", default=[])
    training.add_argument("--init", type=Path, action="append", default=[])
    training.add_argument("--folds", type=int, nargs="+", default=list(range(NUM_FOLDS)))
    commands.add_parser("report").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "report":
        return report(options.out)
    done = read(options.out / "results.jsonl")
    for fold, scenes in enumerate(folds_of(options.data)):
        if fold in options.folds and not any((row["name"], row["fold"]) == (options.name, fold) for row in done):
            run(options, fold, scenes)


if __name__ == "__main__":
    main()
