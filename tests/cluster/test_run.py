"""Two nodes on this machine: what dies is done again, what is done is not, and a poison item fails alone."""

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from diffsal.cluster.ledger import Ledger, Record
from diffsal.cluster.manifest import Item
from diffsal.cluster.run import is_node_loss, make_batches, run

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore"),
]


def writer(folder: str, seconds: float = 0.0):
    """A processor that leaves one line for each item that it has finished, and its process's number."""

    def process(tasks):
        for number, item in tasks:
            yield "begun", number
            (Path(folder) / "pids").mkdir(exist_ok=True)
            (Path(folder) / "pids" / str(os.getpid())).touch()
            if "poison" in item.name:
                os._exit(3)
            if "slow" in item.name:
                time.sleep(600)
            time.sleep(seconds)
            yield "record", Record(number, "done", frames=1, sha256=item.name)

    return process


def small(count, odd=()):
    return [Item(odd.get(i, f"clip{i}") if odd else f"clip{i}", f"/v/{i}.mp4", 1000 + i, "1") for i in range(count)]


def finished(ledger):
    return Counter(row["sha256"] for row in ledger.rows("done"))


def test_poison_and_slow_items_fail_alone(cluster, tmp_path):
    with Ledger(str(tmp_path)) as ledger:
        ledger.add(small(40, {7: "poison", 21: "slow"}))
        run(ledger, writer(str(tmp_path)), limit_seconds=3)
        assert ledger.counts() == {"waiting": 0, "done": 38, "failed": 2}
        lines = {row["name"]: row["line"] for row in ledger.rows("failed")}
        assert "twice" in lines["poison"] and lines["poison"].startswith("/v/7.mp4: ")
        assert lines["slow"] == "/v/21.mp4: took longer than 3 s and was stopped"
        assert set(finished(ledger).values()) == {1}


def test_workers_and_a_node_that_are_killed_lose_and_double_nothing(cluster, tmp_path):
    second = cluster.add_node(num_cpus=1)
    killed = []

    def kill() -> None:
        pids = tmp_path / "pids"
        while not pids.exists() or not list(pids.iterdir()):
            time.sleep(0.05)
        time.sleep(1.0)
        os.kill(int(next(pids.iterdir()).name), 9)
        killed.append("worker")
        time.sleep(1.5)
        cluster.remove_node(second, allow_graceful=False)
        killed.append("node")

    thread = threading.Thread(target=kill)
    with Ledger(str(tmp_path)) as ledger:
        ledger.add(small(300))
        thread.start()
        run(ledger, writer(str(tmp_path), 0.05))
        thread.join()
        assert killed == ["worker", "node"]
        assert ledger.counts() == {"waiting": 0, "done": 300, "failed": 0}
        assert finished(ledger) == Counter({f"clip{i}": 1 for i in range(300)})


def test_small_files_go_together_and_large_ones_alone():
    tasks = [(i, Item(f"c{i}", f"/{i}", size, "")) for i, size in enumerate([9 << 20, 5 << 20, *[1 << 20] * 6, 0, 10])]
    assert [[number for number, _ in batch] for batch in make_batches(tasks)] == [
        [0], [1], [2, 3, 4, 5], [6, 7], [8], [9]]
    many = [(i, Item(f"c{i}", f"/{i}", 10, "")) for i in range(40)]
    assert [len(batch) for batch in make_batches(many)] == [16, 16, 8]


def test_a_node_that_is_lost_is_no_fault_of_the_item():
    assert is_node_loss(ray.exceptions.NodeDiedError("gone"))
    assert not is_node_loss(ray.exceptions.WorkerCrashedError())
