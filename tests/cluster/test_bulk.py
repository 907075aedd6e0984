"""`classify --ray` on a cluster of several nodes, one of which is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from app.bulk.cluster import Actor
from app.bulk.errors import BulkError
from app.bulk.parts import parts_folder
from app.bulk.places import LocalPlace
from app.bulk.selection import BLOCK
from app.settings import Settings
from benchmarks.harness.processes import default_signals
from tests.app.bulk.conftest import parquet_file, zip_file
from tests.app.conftest import png
from tests.cluster.environment import ROOT
from tests.waiting import wait_until

IMAGES = 12 * BLOCK
# Parts of a chunk each, so that a run of seconds has many.
COMMAND = [
    sys.executable,
    "-c",
    f"from app.bulk import job; job.PART_IMAGES = {BLOCK}; "
    "import sys; from app.__main__ import main; sys.exit(main(['classify', *sys.argv[1:]]))",
]


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A table of many images, and an archive of which one is damaged."""
    folder = tmp_path_factory.mktemp("many")
    parquet_file(folder / "b.parquet", {"image": [png(row % 7) for row in range(IMAGES)]}, rows=1000)
    zip_file(folder / "a.zip", {"1.png": png(), "2.png": png()[:200]})
    return folder


def start(*arguments: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with default_signals():
        words = [*COMMAND, *map(str, arguments)]
        return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_killed_node_costs_no_image_and_none_is_answered_twice(cluster, many, tmp_path):
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    to, alone = tmp_path / "cluster.parquet", tmp_path / "alone.parquet"
    with start(many, "--to", to, "--ray", cluster.address) as process:
        wait_until(lambda: len(list(parts_folder(to).glob("*.parquet"))) > 2, process.poll, seconds=300)
        cluster.remove_node(nodes[1], allow_graceful=False)
        stderr = process.stderr.read()
    assert process.returncode == 0, stderr
    with start(many, "--to", alone) as process:
        stderr = process.stderr.read()
    assert process.returncode == 0, stderr
    tables = [parquet.read_table(path).to_pylist() for path in (to, alone)]
    for name in ("id", "label", "error_code"):
        assert [row[name] for row in tables[0]] == [row[name] for row in tables[1]]


def test_an_interrupted_run_continues(cluster, many, tmp_path):
    cluster.add_node(num_cpus=2)
    to = tmp_path / "answers.parquet"
    with start(many, "--to", to, "--ray", cluster.address) as process:
        wait_until(lambda: len(list(parts_folder(to).glob("*.parquet"))) > 2, process.poll, seconds=300)
        process.send_signal(signal.SIGINT)
        stderr = process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in stderr, stderr
    with start(many, "--to", to, "--ray", cluster.address) as process:
        stderr = process.stderr.read()
    assert process.returncode == 0 and "of former runs" in stderr, stderr
    ids = parquet.read_table(to)["id"].to_pylist()
    assert len(ids) == len(set(ids)) == IMAGES + 2


def test_an_address_without_a_cluster_is_one_sentence(many, tmp_path):
    with start(many, "--to", tmp_path / "answers.parquet", "--ray", "127.0.0.1:1") as process:
        stderr = process.stderr.read()
    assert process.returncode == 1 and stderr.startswith("error: --ray 127.0.0.1:1: "), stderr
    assert len(stderr.splitlines()) == 1 and "ray start --head" in stderr


def test_a_node_that_does_not_see_the_images_says_so(tmp_path):
    with pytest.raises(BulkError, match="shared file system"):
        Actor().get_ready(Settings(), [LocalPlace(tmp_path / "elsewhere")])
