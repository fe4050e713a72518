r"""Choices for the compact network that rest on every clip of the pack: cross-validation, scenes kept together.

    python benchmarks/cross_validation.py train GAZE OUT NAME --init mobilenet_v2_imagenet.safetensors \
        --init yamnet_audioset.safetensors [SETTING=VALUE …] [--folds 0 2]
    python benchmarks/cross_validation.py report OUT

``train`` runs `diffsal train compact` at a small size and budget, once per fold, with the fold's scenes held out, and
appends each held-out clip's scores to ``OUT/results.jsonl``: as the recipe finishes the network, without each of the
priors, and with other weights of them (``FINISHES``). Folds that are there already are left alone; two commands with
other ``--folds`` can run beside each other. ``report`` prints the means over clips, and the difference from the first
row clip by clip with its standard error.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ablations import read

from diffsal.config import TARGET_FRAME, TrainConfig
from diffsal.data.databases.gaze import GazeClip, read_set
from diffsal.prediction.finish import finished, moving_alone
from diffsal.prediction.hearing import Synchrony
from diffsal.training.engine import Shard
from diffsal.training.gaze_examples import GazeSamples, key
from diffsal.training.gaze_phase import VALIDATION_FRAME_STEP, FrameDenoiser, GazePhase
from diffsal.training.recipes import compact, configure, finish_of, train
from diffsal.training.run_folder import git_revision
from diffsal.weights.files import load

BUDGET = ("height=128", "width=224", "still_steps=300", "window_steps=0", "validation_steps=100000",
          "checkpoint_steps=100000", "num_workers=0")
UNFINISHED = {"sharpness": 1.0, "motion_prior": 0.0, "sound_prior": 0.0, "centre_weight": 0.0}
FINISHES = {  # what differs from the recipe
    "as the recipe says": {},
    "no priors, exponent 1": UNFINISHED,
    "no motion prior": {"motion_prior": 0.0, "sound_prior": 0.0},
    "no sound prior": {"sound_prior": 0.0},
    "another moment's sound": {},
    "no added centre prior": {"centre_weight": 0.0},
    **{f"{name} {value}": {name: value} for name, values in {
        "sharpness": (1.0, 1.2, 1.3), "motion_prior": (0.75, 1.0, 1.5), "sound_prior": (1.0, 2.0, 4.0),
        "centre_weight": (0.15, 0.3, 0.75),
    }.items() for value in values},
}
NUM_FOLDS = 4
FRAME_STEP = 20  # every so many-th frame of a held-out clip is scored
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
    settings = [*BUDGET, f"validation_scenes={','.join(scenes)}", *options.settings]
    unfinished = [f"{name}={value}" for name, value in UNFINISHED.items()]
    weights = train("compact", options.data, folder, options.init, settings=[*settings, *unfinished])
    if weights is None:
        raise SystemExit("stopped: what is done is kept")
    trained = time.perf_counter()
    line = {"name": options.name, "fold": fold, "settings": options.settings, "git": git_revision(),
            "clips": Scoring(options, folder, weights, settings).scores(),
            "training_seconds": round(trained - began), "seconds": round(time.perf_counter() - began)}
    with (options.out / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    shutil.rmtree(folder)


class Scoring:
    """One fold's network on its held-out clips, finished in every way."""

    def __init__(self, options: argparse.Namespace, folder: Path, weights: Path, settings: list[str]) -> None:
        config = configure(*compact(), settings)[1]
        assert isinstance(config, TrainConfig)
        model = load(weights)
        self.samples = GazeSamples(model.config, config, options.data, options.out / "frames")
        shard = Shard(0, 1, torch.device("cpu"), config.batch_size, 1)
        self.phase = GazePhase("windows", 1, self.samples, config, shard, np.random.default_rng(0), folder / "features")
        self.phase.prepare(model)
        self.model = model.eval()
        self.finishes = {
            name: finish_of(model.config, replace(config, **changes), self.samples)
            for name, changes in FINISHES.items()
        }

    @torch.no_grad()
    def scores(self) -> dict[str, dict[str, list[float]]]:
        """CC, SIM and NSS, means over each clip's frames: {finish: {clip: three means}}."""
        found: dict[str, dict[str, list[float]]] = {name: {} for name in FINISHES}
        noise, size = torch.Generator().manual_seed(0), (self.samples.model.height, self.samples.model.width)
        for clip in self.samples.validation:
            rows: dict[str, list[np.ndarray]] = {name: [] for name in FINISHES}
            hearing = self.hearing(clip, 0), self.hearing(clip, 1)
            for sample in self.phase.scored(clip)[:: FRAME_STEP // VALIDATION_FRAME_STEP]:
                frames, mels = self.phase.frames([sample]), self.phase.hear([sample], None)
                x_t = torch.randn(1, 1, *size, generator=noise)
                moving = moving_alone(frames[0][:, 0])
                features = FrameDenoiser(self.model).features(frames, mels)
                raw = self.model.sample(features, x_t, enlarged=False)
                last = sample.index + self.model.config.num_frames - 1 - TARGET_FRAME
                for name, finish in self.finishes.items():
                    heard = hearing[name == "another moment's sound"]
                    synchrony = None if heard is None else heard.at(last)[None]
                    maps = self.model.enlarge(finished(raw, finish, moving, synchrony))
                    rows[name].append(self.phase.scores_of(maps, [sample]))
            for name, scored in rows.items():
                if scored:
                    found[name][key(clip)] = np.concatenate(scored).mean(0).round(4).tolist()
        return found

    def hearing(self, clip: GazeClip, moved: int) -> Synchrony | None:
        """What moves with the clip's sound, or with that of half its length later."""
        track, seconds = self.samples.sound(clip), self.samples.store.seconds[key(clip)]
        if track is None:
            return None
        synchrony = Synchrony(1 / float(np.median(np.diff(seconds))), len(seconds))
        loudness = np.roll([track.loudness(s) for s in seconds], moved * len(seconds) // 2)
        bright = self.phase.frozen.brightness_of(list(self.samples.store.ranges[key(clip)]))
        synchrony.add(bright.transpose(0, 1), loudness.tolist())
        return synchrony


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
