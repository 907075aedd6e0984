"""Clusters of several nodes on this machine. Collected only in the environment that has Ray: `make cluster`."""

import importlib.util
import os

import pytest

from tests.training.conftest import data_folder

__all__ = ["data_folder"]

HAS_RAY = importlib.util.find_spec("ray") is not None
collect_ignore_glob = [] if HAS_RAY else ["test_*.py"]

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported: nothing is reported to its makers


@pytest.fixture
def cluster():
    """A cluster whose head has no cores; tests add nodes with `cluster.add_node(num_cpus=1)`."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()
