"""A recipe on the machines of a Ray cluster: Ray Train starts the processes, and starts them again where one dies.

    pip install "diffsal[torch]" "ray[train]"
    python examples/ray_train.py dhf1k --data DHF1K --out RUN --workers 8 --gpu [--address auto] [--init FILE] [K=V …]

It is ``diffsal train RECIPE --resume`` in each process, so the run goes on from its last checkpoint, also when this
command is given again. DATA and OUT are folders that all machines have at the same place.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, action="append", default=[])
    parser.add_argument("--workers", type=int, default=2, help="processes, one on each GPU")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--address", help="of a running Ray cluster; default: this machine")
    parser.add_argument("--failures", type=int, default=3, help="how often the processes are started again")
    options = parser.parse_intermixed_args()

    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(address=options.address or "local")
    out = options.out.absolute()
    TorchTrainer(
        train_one,
        train_loop_config={
            "recipe": options.recipe, "data": options.data.absolute(), "out": out, "resume": True,
            "init": [path.absolute() for path in options.init], "settings": options.settings,
        },
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=options.gpu),
        run_config=RunConfig(name="ray", storage_path=str(out), failure_config=FailureConfig(options.failures)),
    ).fit()
    print(out / f"{options.recipe}.safetensors")


def train_one(arguments: dict[str, Any]) -> None:
    """One process of the run: Ray Train has told it which it is, of how many, and where the others are."""
    from diffsal.training.recipes import train

    train(**arguments)


if __name__ == "__main__":
    main()
