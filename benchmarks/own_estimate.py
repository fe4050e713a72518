r"""Why several steps score lower than one: what the network makes of the people's map in S_t, and of its own.

    python benchmarks/own_estimate.py GAZE WEIGHTS [--stride 20]

Frames of the held-out clips, without finish, at the network's own size. At each timestep of four steps, CC of the
network's S_0 where S_t is Algorithm 2's own, and where it is Algorithm 1's, made of the people's map.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ablations import SHARD
from gaze_clips import HELD_OUT

from diffsal.diffusion.samplers import ddim_step
from diffsal.diffusion.schedule import timestep_grid
from diffsal.networks.diffsal import DiffSal
from diffsal.training.examples import Batch
from diffsal.training.objective import correlation
from diffsal.training.phase import Denoiser
from diffsal.training.phases import gaze_phases
from diffsal.training.recipes import configure
from diffsal.weights.files import load

STEPS = 4


@torch.no_grad()
def scores(model: DiffSal, data: Path, stride: int) -> dict[str, np.ndarray]:
    """By clip (2, 4): mean CC at each call, with S_t of Algorithm 2 and with S_t of the people's map."""
    config = configure("compact", ["num_workers=0", f"validation_stride={stride}", "picture_sets="]).train
    found: dict[str, list[list[list[float]]]] = defaultdict(list)
    with TemporaryDirectory() as folder:
        windows = gaze_phases(model, config, data, Path(folder), SHARD)[1]
        windows.prepare(model)
        denoiser, grid = Denoiser(model.eval()), timestep_grid(STEPS)
        for number, view in enumerate(windows.scored.views):
            batch = Batch.of([windows.scored[number]])
            features = denoiser.features(*windows.inputs(batch))
            own, rows = batch.noise, []
            for now, after in pairwise(grid):
                t = torch.tensor([now])
                x_0, told = (model.denoise(x_t, t, features) for x_t in (
                    own, model.schedule.add_noise(batch.target, batch.noise, t)))
                rows.append([correlation(x, batch.target).item() for x in (x_0, told)])
                own = ddim_step(model.schedule, own, x_0, now, after) if after >= 0 else own
            found[windows.reader.clips[view.clip].name].append(rows)
    return {name: np.mean(rows, axis=0).T for name, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--stride", type=int, default=20)
    options = parser.parse_args()
    clips = scores(load(options.weights), options.data, options.stride)
    print(f"| | S_t of | {' | '.join(f't = {t}' for t in timestep_grid(STEPS)[:-1])} |\n|---|---|{'---|' * STEPS}")
    hevc = np.mean([clips[name] for name in HELD_OUT[1:]], axis=0)
    for name, rows in (*clips.items(), ("HEVC, mean of the five", hevc)):
        for source, row in zip(("Algorithm 2", "the people's map"), rows, strict=True):
            print(f"| {name} | {source} | {' | '.join(f'{value:.3f}' for value in row)} |", flush=True)


if __name__ == "__main__":
    main()
