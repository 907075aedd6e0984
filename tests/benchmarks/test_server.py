"""The real service, started once."""

import socket

import pytest

from app.settings import Settings
from benchmarks import bodies
from benchmarks.errors import BenchmarkError
from benchmarks.limit import rate
from benchmarks.server import listeners, serving
from benchmarks.stages import alone, read_times
from tests.benchmarks.conftest import BUSY

PNG, JPEG = bodies.pictures()


@pytest.mark.process
def test_is_ready_in_all_processes_and_says_where_the_time_goes():
    with serving(Settings(workers=2)) as server:
        assert listeners(server.port) == 2
        assert server.all_ready_seconds >= server.ready_seconds > 0
        assert len(server.megabytes()) == 2
        times = alone(server.port, bodies.raw(PNG), requests=3)
        assert {"receive", "decode", "infer", "total"} <= set(times)
        server.settle()
        assert server.cpu_seconds() > 0
    assert listeners(server.port) == 0


def test_a_service_that_cannot_start_is_an_error_with_its_log(tmp_path):
    with pytest.raises(BenchmarkError, match="ended with code"), serving(prefix=["false"]):
        pass


def test_listeners_are_counted_by_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        assert listeners(one.getsockname()[1]) == 1


def test_server_timing_is_read():
    assert read_times("decode;dur=0.250, total;dur=1.500") == {"decode": 0.25, "total": 1.5}


def test_a_refusal_is_no_time(server_with):
    with pytest.raises(BenchmarkError, match="PNG 32×32 was answered with 503: busy"):
        alone(server_with(BUSY).port, bodies.raw(PNG), requests=3)


def test_the_limit_counts_images():
    assert rate(PNG.data, count=2, seconds=0.01) > 0
