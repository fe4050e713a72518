"""One Ray for all tests of the cluster: starting it takes longer than most of them."""

import os

import pytest


@pytest.fixture(scope="package")
def cluster():
    """A node of two processors on this machine, to which this process is connected."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")  # else a busy machine leaves its workers no time
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
