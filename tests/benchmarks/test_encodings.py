from dataclasses import replace

import pytest

from app.settings import Settings
from benchmarks import BenchmarkError
from benchmarks.encodings import CONNECTIONS, encode, row
from benchmarks.load.bodies import pictures
from tests.app.conftest import running
from tests.benchmarks.samples import LOAD


def test_every_encoding_is_answered_with_the_same_prediction():
    with running(Settings()) as client:
        labels = client.get("/model").json()["manifest"]["labels"]
        best = labels.index(client.post("/predict", content=pictures()[0].data).json()["label"])
        for body in encode(pictures()[0], "cifar10"):
            headers = {"Content-Type": body.mime}
            headers |= dict([body.header] if body.header else [])
            answer = client.post(body.path, content=body.data, headers=headers).json()
            match body.name.partition(",")[0]:
                case "v1":
                    probabilities = answer["predictions"][0]
                case "v2":
                    probabilities = answer["outputs"][0]["data"]
                case _:
                    probabilities = list(answer["probabilities"].values())
            assert probabilities.index(max(probabilities)) == best, body.name


def test_an_encoding_that_is_refused_is_an_error_and_no_figure():
    body = encode(pictures()[0], "cifar10")[0]
    loads = [replace(LOAD, body=body.name, connections=connections, refused=1) for connections in CONNECTIONS]
    with pytest.raises(BenchmarkError, match="were not answered with 200"):
        row(body, loads)


def test_the_header_of_binary_tensors_is_part_of_the_request():
    body = encode(pictures()[0], "cifar10")[-1]
    head, _, rest = body.request().partition(b"\r\n\r\n")
    assert "{}: {}".format(*body.header).encode() in head and rest == body.data
