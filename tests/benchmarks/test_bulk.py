import os

import pytest
from pyarrow import parquet

from benchmarks.bulk import memory, pictures, speed

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.data, pytest.mark.timeout(900)]
needs_data = pytest.mark.skipif("CIFAR10_DATA" not in os.environ, reason="CIFAR10_DATA is not set")


@needs_data
def test_repeated_images_differ():
    images = [pixels.tobytes() for pixels in pictures(50_010)]
    assert len(set(images)) == len(images)


@needs_data
def test_every_source_is_measured_beside_the_plain_loop(tmp_path):
    rows = speed(60, 1, tmp_path, workers=[1])
    assert {row["source"] for row in rows} == {"Parquet", "tar", "folder", "slow bucket (20 ms)"}
    assert all(isinstance(row["in-process images/s"], float) and row["in-process images/s"] > 0 for row in rows)


@needs_data
def test_memory_is_that_of_all_processes(tmp_path):
    rows = memory(300, tmp_path)
    assert parquet.read_metadata(tmp_path / "answers.parquet").num_rows == 300
    assert all(row["MB, all"] >= row["MB, main process"] > 0 for row in rows)
