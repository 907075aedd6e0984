"""The requests that NVIDIA's and KServe's clients sent are answered as they were: `make clients ARGS=--record`."""

import base64
import json

import numpy as np
import pytest

from tests.clients.__main__ import CLIENTS
from tests.clients.recorder import Exchange, read_exchanges

CAT = 3  # the index of the label


def replay(client, exchange: Exchange):
    """Send a recorded request, for the version that is served now unless it asked for one that is not."""
    version = client.get("/health").json()["model"]["version"]
    before, mark, after = exchange.path.partition("/versions/")
    asked, slash, rest = after.partition("/")
    path = before + mark + (version if exchange.status == 200 else asked) + slash + rest if mark else exchange.path
    return client.request(
        exchange.method, "/" + path.lstrip("/"), content=base64.b64decode(exchange.body), headers=exchange.headers
    )


def outputs(response) -> dict[str, list]:
    """The output tensors of an answer, by name; binary ones are 4-byte floats or strings after their length."""
    length = int(response.headers.get("inference-header-content-length", len(response.content)))
    document, rest, found = json.loads(response.content[:length]), response.content[length:], {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        data = output.get("data")
        if size is not None:
            data = np.frombuffer(rest[:size], "<f4").tolist() if output["datatype"] == "FP32" else [rest[4:size]]
            rest = rest[size:]
        found[output["name"]] = data
    assert rest == b""
    return found


@pytest.mark.parametrize("name", CLIENTS)
def test_every_recorded_request_gets_the_recorded_status(client, name):
    exchanges = read_exchanges(name)
    assert len(exchanges) > 10
    for exchange in exchanges:
        response = replay(client, exchange)
        assert response.status_code == exchange.status, (exchange.path, response.content[:300])
        if exchange.status >= 400:
            assert list(response.json()) == ["error"]


def _best(values: list) -> int:
    """The index of the largest probability, or of the first class of the classification extension."""
    if isinstance(values[0], float):
        return int(np.argmax(values)) % 10
    first = values[0] if isinstance(values[0], str) else values[0].decode("latin-1")
    return int(first.split(":")[1])


@pytest.mark.parametrize("name", CLIENTS)
def test_every_recorded_image_is_a_cat(client, name):
    infers, predicts = 0, 0
    for exchange in read_exchanges(name):
        if exchange.status == 200 and exchange.path.endswith("/infer"):
            probabilities = outputs(replay(client, exchange))["probabilities"]
            infers += 1
            assert _best(probabilities) == CAT, (exchange.path, probabilities)
        if exchange.status == 200 and exchange.path.endswith(":predict"):
            predicts += 1
            assert int(np.argmax(replay(client, exchange).json()["predictions"][0])) == CAT
    assert infers > 5 and (predicts > 2) == (name == "kserve")
