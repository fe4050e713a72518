"""An evaluation's clips on Ray: each is scored once, whatever dies; the data and the weights lie where all can read."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from diffsal.cluster.ledger import MOST_DEATHS
from diffsal.cluster.run import IDLE_SECONDS, TASKS_PER_CPU, is_node_loss, start_ray
from diffsal.data.clip import Clip
from diffsal.scoring.jobs import Job, Pool, score_clip
from diffsal.scoring.map_sources import Network
from diffsal.scoring.results import ClipScores

Unit = tuple[Clip, ...]


def pool_on_ray(address: str | None = None) -> Pool:
    """What :func:`diffsal.scoring.evaluate.evaluate` takes as ``pool``: the machines of the Ray cluster at ``address``.

    None starts one on this machine. A clip that ends two processes is left out; one whose node is lost is not to blame.
    """
    ray = start_ray(address)

    def scored(job: Job, units: list[Unit], numbers: list[int]) -> Iterator[tuple[int, list[ClipScores]]]:
        gpus = any(isinstance(model, Network) and model.device == "cuda" for model in job.models)
        remote = ray.remote(num_cpus=1, num_gpus=int(gpus), max_retries=0)(score_unit)
        shared, here, waiting, deaths = ray.put(job), os.getcwd(), deque(numbers), Counter[int]()
        in_flight: dict[Any, int] = {}
        try:
            while waiting or in_flight:
                room = max(1, TASKS_PER_CPU * int(ray.cluster_resources().get("CPU", 1)))
                while waiting and len(in_flight) < room:
                    number = waiting.popleft()
                    in_flight[remote.remote(shared, units[number], here)] = number
                for task in ray.wait(list(in_flight), num_returns=1, timeout=IDLE_SECONDS)[0]:
                    number = in_flight.pop(task)
                    try:
                        found = ray.get(task)
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause from None
                    except ray.exceptions.RayError as error:
                        deaths[number] += not is_node_loss(error)
                        if deaths[number] < MOST_DEATHS:
                            waiting.append(number)
                        continue
                    yield number, found
        finally:
            for task in in_flight:
                ray.cancel(task, force=True)

    return scored


def score_unit(job: Job, unit: Unit, folder: str) -> list[ClipScores]:
    """What a worker does: one unit's clips, on one processor; paths that are not absolute begin at ``folder``."""
    import torch

    os.chdir(folder)
    torch.set_num_threads(1)
    return [score_clip(job, clip) for clip in unit]
