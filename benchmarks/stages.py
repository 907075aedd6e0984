"""Where the time of a request goes that is alone in the service, as its Server-Timing says."""

import http.client
from collections.abc import Mapping

from benchmarks.bodies import Body
from benchmarks.errors import BenchmarkError


def alone(port: int, body: Body, requests: int) -> dict[str, float]:
    """Mean milliseconds of each stage, and `total`, of requests one after another on one connection.

    The first third of them is to warm up and not counted.

    Raises:
        BenchmarkError: an answer was no prediction.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        times = [_times(connection, body) for _ in range(requests)][requests // 3 :]
    finally:
        connection.close()
    return {stage: sum(time[stage] for time in times) / len(times) for stage in times[0]}


def _times(connection: http.client.HTTPConnection, body: Body) -> Mapping[str, float]:
    connection.request("POST", body.path, body.data, {"Content-Type": body.mime})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        raise BenchmarkError(f"{body.name} was answered with {answer.status}: {said.decode(errors='replace')}")
    return read_times(answer.headers["Server-Timing"])


def read_times(header: str) -> dict[str, float]:
    """Milliseconds by name in a header such as `decode;dur=0.123, infer;dur=0.456` (W3C Server Timing)."""
    return {name: float(took) for name, took in (item.split(";dur=") for item in header.split(", "))}
