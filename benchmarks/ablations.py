r"""What each part of the compact network is worth: parts left out or exchanged, equal budget, two seeds.

    python benchmarks/ablations.py train GAZE OUT --init mobilenet_v2_imagenet.safetensors \
        --init yamnet_audioset.safetensors
    python benchmarks/ablations.py report OUT

``train`` runs what ``OUT/results.jsonl`` does not hold yet, one line per finished run, so that it can be stopped and
started again. The backbone is ImageNet's and rests, so one set of its features serves every run; all else learns from
scratch. ``report`` prints the tables of docs/ablations.md and draws docs/ablations.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffsal.config import ModelConfig
from diffsal.data.truth import draw_map
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal, Features
from diffsal.networks.encoders import VIDEO_ENCODERS
from diffsal.networks.encoders.mobilenet import MobileNetV2
from diffsal.plots import COLOURS, MARKS
from diffsal.scoring.metrics import cc
from diffsal.training.engine import Engine, accelerator_of, shard_of
from diffsal.training.examples import Batch
from diffsal.training.initialisation import initialise
from diffsal.training.phase import Denoiser, Phase
from diffsal.training.phases import gaze_phases
from diffsal.training.recipes import configure
from diffsal.training.run_folder import RunFolder, environment, git_revision
from diffsal.training.shard import Shard

# What all runs share. Stills, where the backbone learns, are left out: one epoch of them costs more than all of this.
BUDGET = ("height=128", "width=224", "still_steps=0", "window_learning_rate=1e-3", "warm_up_steps=20",
          "validation_steps=100000", "checkpoint_steps=100000", "num_workers=0", "exponent=1", "motion_gain=0",
          "sound_gain=0", "centre_gain=0")
SHARD = Shard(0, 1, torch.device("cpu"), 1, 1)
SQUARED_ERROR = ("kl_weight=0", "cc_weight=0", "sim_weight=0")
PAPER = (*SQUARED_ERROR, "last_timestep_share=0")  # Algorithm 1: squared error, timesteps drawn uniformly
GRID = (1, 2, 4, 8)
SAMPLES, SPREAD_FRAME_STEP = 4, 30
PICTURE = Path(__file__).parents[1] / "docs" / "ablations.png"


@dataclass(frozen=True)
class Variant:
    """A training with ``settings`` as `diffsal train compact` takes them, scored at each of ``sampling_steps``."""

    name: str
    settings: tuple[str, ...] = ()
    sampling_steps: tuple[int, ...] = (1,)
    eight_slots: bool = False
    spread: bool = False  # among samples, against the people


VARIANTS = (
    Variant("baseline", sampling_steps=GRID, spread=True),
    Variant("without sound", ("audio_encoder=none",)),
    Variant("3 stages", ("modulation_stages=3",)),
    Variant("2 stages", ("modulation_stages=2",)),
    Variant("1 stage", ("modulation_stages=1",)),
    Variant("the map directly", ("predicts=map",)),
    Variant("noise's slot not fused", ("fused_slots=1",)),
    Variant("squared error alone", SQUARED_ERROR),
    Variant("Algorithm 1, x0", PAPER, GRID, spread=True),
    Variant("Algorithm 1, noise", (*PAPER, "predicts=noise"), GRID),
    Variant("cross-entropy", (*SQUARED_ERROR, "mse_weight=0", "ce_weight=0.001")),
    Variant("linear schedule", ("noise_schedule=linear",)),
    Variant("without picture", ("blind_share=1",)),
    Variant("eight + noise: nine fused", eight_slots=True),
    Variant("eight + noise: five fused", ("fused_slots=5",), eight_slots=True),
)


class EightSlots(MobileNetV2):
    """The backbone's every second frame as a slot of its own, unmixed: as many as the paper's encoders give."""

    slots = (8, 8, 8)

    def mix(self, frames: list[Tensor]) -> list[Tensor]:
        """Each scale's frames projected to its width."""
        projected = []
        for mix, x in zip(self.mixes, frames[1:], strict=True):
            x = x if x.shape[2] == self.slots_in else x[:, :, :: self.frame_step]
            y = mix.project(x.transpose(1, 2).flatten(0, 1))
            projected.append(y.unflatten(0, (len(x), -1)).transpose(1, 2))
        return projected


def network_of(config: ModelConfig, init: list[Path]) -> DiffSal:
    model = DiffSal(config)
    for path in init:
        try:
            initialise(model, path)
        except InputError:
            if config.audio_encoder is not None:  # else the audio encoder's weights, for which there is no place
                raise
    return model


class Runs:
    """What the runs of one folder share: clips, frames, features (on disk), and the lines of those that are done."""

    def __init__(self, data: Path, out: Path, init: list[Path], steps: int) -> None:
        self.data, self.out, self.init, self.steps = data, out, init, steps
        out.mkdir(parents=True, exist_ok=True)
        self.results = out / "results.jsonl"

    def is_done(self, variant: Variant, seed: int) -> bool:
        wanted = (variant.name, seed, self.steps)
        return any((row["name"], row["seed"], row["steps"]) == wanted for row in read(self.results))

    def run(self, variant: Variant, seed: int) -> None:
        began = time.process_time(), time.perf_counter()
        settings = [*BUDGET, f"window_steps={self.steps}", f"seed={seed}", *variant.settings]
        recipe = configure("compact", settings)
        config, accelerator = recipe.train, accelerator_of(recipe.train)
        shard = shard_of(config, accelerator)
        torch.manual_seed(seed)
        model = network_of(recipe.model, self.init).to(shard.device)
        _, phase = gaze_phases(model, config, self.data, self.out, shard)
        folder = RunFolder(self.out / "run")
        folder.open({"recipe": "compact", **recipe.to_dict()}, environment(str(shard.device), 1), resume=False)
        average = Engine(config, model, folder, accelerator).fit([phase])
        if average is None:
            raise SystemExit("stopped: what is done is kept")
        trained = time.process_time()
        scores = {steps: self.validate(phase, average, steps) for steps in variant.sampling_steps}
        line = {
            "name": variant.name, "seed": seed, "steps": self.steps, "settings": settings[len(BUDGET):],
            "parameters": sum(p.numel() for n, p in model.named_parameters() if ".features." not in n
                              and not n.startswith("audio_encoder.")),
            "loss": last_loss(self.out / "run"), "scores": scores,
            "spread": [spread(phase, average, steps) for steps in (1, 4)] if variant.spread else [],
            "training_seconds": round(trained - began[0], 1), "seconds": round(time.process_time() - began[0], 1),
            "clock_seconds": round(time.perf_counter() - began[1], 1), "git": git_revision(),
        }
        with self.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        shutil.rmtree(self.out / "run")
        print(f"{variant.name}, seed {seed}: {scores}, {line['seconds']} s", flush=True)

    @staticmethod
    def validate(phase: Phase, model: DiffSal, steps: int) -> dict:
        phase.config = replace(phase.config, sampling_steps=steps)
        return phase.validate(model, lambda done, total: None)


def last_loss(folder: Path) -> float:
    lines = [row for row in read(folder / "log.jsonl") if "loss" in row]
    return round(float(np.mean([row["loss"] for row in lines[-5:]])), 4)


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def mean_of_clips(clips: dict[str, list[list[float]]]) -> dict[str, list[float]]:
    return {name: np.mean(rows, 0).round(4).tolist() for name, rows in clips.items()}


# --- samples against people ---------------------------------------------------------------------------------------


@torch.no_grad()
def spread(phase: Phase, model: DiffSal, steps: int) -> dict[str, float]:
    """How much samples of one frame differ, and how much the people do, over every third frame that validation scores.

    Standard deviations are means over pixels, over the mean map's; "halves" are two halves of the observers, "again" is
    the same observers drawn again with replacement.
    """
    denoiser, generator, rng = Denoiser(model), torch.Generator().manual_seed(0), np.random.default_rng(0)
    size = (phase.reader.model.height, phase.reader.model.width)
    rows: list[dict[str, float]] = []
    for number, view in enumerate(phase.scored.views):
        if view.index % SPREAD_FRAME_STEP:
            continue
        clip, batch = phase.reader.clips[view.clip], Batch.of([phase.scored[number]])
        features = denoiser.features(*phase.inputs(batch))
        video = [x.repeat(SAMPLES, 1, 1, 1, 1) for x in features.video]
        audio = features.audio.repeat(SAMPLES, 1, 1, 1, 1) if features.audio is not None else None
        noise = torch.randn(SAMPLES, 1, *size, generator=generator)
        maps = model.sample(Features(video, audio), noise, steps)
        target = batch.target.expand_as(maps)
        people = clip.truth.gaze.on_frame(clip.seconds(view.index))
        halves, again = people_maps(people, size, clip.width / clip.height, rng)
        rows.append({
            "std": variation(maps), "cc": pairs_cc(maps),
            "cc_one": cc(maps, target).mean().item(), "cc_mean": cc(maps.mean(0), target[0]).item(),
            "people_std": variation(again), "people_cc": pairs_cc(again), "halves_cc": pairs_cc(halves),
        })
    means = {name: round(float(np.nanmean([row[name] for row in rows])), 4) for name in rows[0]}
    return {"sampling_steps": steps, "frames": len(rows), **means}


def variation(maps: Tensor) -> float:
    return (maps.std(0).mean() / maps.mean()).item()


def pairs_cc(maps: Tensor) -> float:
    pairs = list(itertools.combinations(range(len(maps)), 2))
    return float(np.mean([cc(maps[i], maps[j]).item() for i, j in pairs]))


def people_maps(rows: np.ndarray, size: tuple[int, int], aspect: float, rng: np.random.Generator):
    """Maps of two random halves of the observers, and of ``SAMPLES`` draws of all of them with replacement."""
    observers = rng.permutation(np.unique(rows[:, 0]))
    draw: Callable = lambda chosen: torch.from_numpy(draw_map(  # noqa: E731
        np.concatenate([rows[rows[:, 0] == o] for o in chosen])[:, 3:5], *size, aspect))[None]
    half = len(observers) // 2
    halves = torch.stack([draw(observers[:half]), draw(observers[half:])])
    return halves, torch.stack([draw(rng.choice(observers, len(observers))) for _ in range(SAMPLES)])


# --- tables and picture -------------------------------------------------------------------------------------------

SETS = ("find", "hevc")


def by_variant(rows: list[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["seed"]):
        found[row["name"]].append(row)
    return {v.name: found[v.name] for v in VARIANTS if v.name in found}


def score(row: dict, set_name: str | None, metric: str = "CC", steps: int = 1) -> float:
    """Of one set, or the sets' mean."""
    scores = row["scores"][str(steps)]
    return float(np.mean([scores[s][metric] for s in ((set_name,) if set_name else SETS)]))


def both(values: list[float], places: int = 3) -> str:
    """The mean and, where there are several, each seed's value."""
    one = [f"{v:.{places}f}".replace("0.", ".", 1) for v in (float(np.mean(values)), *values)]
    return f"{one[0]} ({', '.join(one[1:])})" if len(values) > 1 else one[0]


def print_tables(found: dict[str, list[dict]]) -> None:
    print("| | learned, k | FIND 021: CC | SIM | NSS | HEVC (5): CC | SIM | NSS | CC against the baseline's |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, rows in found.items():
        cells = [both([score(r, s, m) for r in rows], 2 if m == "NSS" else 3) for s in SETS
                 for m in ("CC", "SIM", "NSS")]
        gains = [score(a, None) - score(b, None) for a, b in zip(rows, found["baseline"], strict=False)]
        gain = ", ".join(f"{g:+.3f}" for g in gains) if name != "baseline" else "–"
        print(f"| {name} | {rows[0]['parameters'] / 1000:.0f} | {' | '.join(cells)} | {gain} |")
    print(f"\n| DDIM steps: CC, FIND 021 and HEVC | {' | '.join(map(str, GRID))} |")
    print("|---|" + "---|" * len(GRID))
    for name, rows in found.items():
        if len(rows[0]["scores"]) > 1:
            for s in SETS:
                cells = [both([score(r, s, "CC", steps) for r in rows]) for steps in GRID]
                print(f"| {name}, {s.upper()} | {' | '.join(cells)} |")
    print("\n| | steps | std / mean: samples | people | CC among: samples | people drawn again | halves of the people "
          "| CC with people: one sample | mean of four |")
    print("|---" * 9 + "|")
    for name, rows in found.items():
        for together in zip(*(r["spread"] for r in rows), strict=True):
            cells = [both([s[k] for s in together]) for k in
                     ("std", "people_std", "cc", "people_cc", "halves_cc", "cc_one", "cc_mean")]
            print(f"| {name} | {together[0]['sampling_steps']} | {' | '.join(cells)} |")
    spent = [r for rows in found.values() for r in rows]
    cpu, clock = (sum(r[k] for r in spent) for k in ("seconds", "clock_seconds"))
    frames = next((s["frames"] for r in spent for s in r["spread"]), 0)
    print(f"\n{len(spent)} runs of {spent[0]['steps']} steps, {cpu:.0f} s of processor time, {clock:.0f} by the clock; "
          f"the last table: {frames} frames")


def draw(found: dict[str, list[dict]], path: Path) -> None:
    """CC of every run by set; beside it CC over the sampling steps."""
    figure = Figure(figsize=(13, 1.6 + 0.3 * len(found)), layout="constrained")
    parts, steps = figure.subplots(1, 2, width_ratios=(3, 2))
    for s, words, colour, mark in zip(SETS, ("FIND 021", "HEVC, mean of five"), COLOURS, MARKS, strict=False):
        found_here = [(score(r, s), row) for row, rows in enumerate(found.values()) for r in rows]
        parts.plot(*zip(*found_here, strict=True), mark, color=colour, label=words)
        parts.axvline(np.mean([score(r, s) for r in found["baseline"]]), color=colour, linewidth=1)
    parts.set(title="CC by part, one sampling step; a mark is a run, the lines are the baseline",
              yticks=range(len(found)), yticklabels=list(found))
    parts.invert_yaxis()
    several = {name: rows for name, rows in found.items() if len(rows[0]["scores"]) > 1}
    for (name, rows), colour, mark in zip(several.items(), COLOURS, MARKS, strict=False):
        scores = np.array([[score(r, None, "CC", n) for n in GRID] for r in rows])
        steps.plot(range(len(GRID)), scores.mean(axis=0), mark + "-", color=colour, label=name)
        for one in scores:
            steps.plot(range(len(GRID)), one, mark, color=colour, alpha=0.5)
    steps.set(title="CC, mean of the sets, by sampling steps",
              xticks=range(len(GRID)), xticklabels=list(map(str, GRID)))
    for axes in (parts, steps):
        axes.title.set_fontsize(11)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    train.add_argument("data", type=Path)
    train.add_argument("out", type=Path)
    train.add_argument("--init", type=Path, action="append", default=[])
    train.add_argument("--steps", type=int, default=80)
    train.add_argument("--seeds", type=int, default=2)
    train.add_argument("--threads", type=int, default=1)
    train.add_argument("--only", nargs="+", help="names of variants")
    commands.add_parser("report").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "report":
        found = by_variant(read(options.out / "results.jsonl"))
        print_tables(found)
        return draw(found, PICTURE)
    torch.set_num_threads(options.threads)
    runs = Runs(options.data, options.out, options.init, options.steps)
    pairs = itertools.product(range(options.seeds), VARIANTS)
    for seed, variant in sorted(pairs, key=lambda pair: pair[1].eight_slots):  # the dearest come last
        if (not options.only or variant.name in options.only) and not runs.is_done(variant, seed):
            with patch.dict(VIDEO_ENCODERS, {"mobilenet_v2": EightSlots} if variant.eight_slots else {}):
                runs.run(variant, seed)


if __name__ == "__main__":
    main()
