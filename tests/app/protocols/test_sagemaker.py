"""/ping and /invocations answer as SageMaker expects of a container."""

import pytest

from tests.app.conftest import png
from tests.app.protocols.bodies import b64, expected, pixels


def test_ping_is_200_only_while_the_service_takes_requests(client, client_with, tmp_path):
    assert client.get("/ping").status_code == 200
    client.app.state.pipeline.draining = True
    try:
        assert client.get("/ping").status_code == 503
    finally:
        client.app.state.pipeline.draining = False
    broken = client_with(store=tmp_path).get("/ping")
    assert broken.status_code == 503 and "holds no version of 'cifar10'" in broken.json()["error"]


@pytest.mark.parametrize("content_type", ["image/png", "application/x-image", "application/octet-stream", None])
def test_an_image_gets_the_answer_of_predict(client, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.post("/invocations", content=png(), headers=headers)
    assert answer.json() == client.post("/predict", content=png()).json()
    form = client.post("/invocations", files={"file": ("i.png", png())})
    assert form.json() == answer.json()


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_instances_get_their_probabilities(client, content_type):
    body = {"instances": [{"b64": b64()}, pixels(1).tolist()]}
    first, second = client.post("/invocations", json=body, headers={"Content-Type": content_type}).json()["predictions"]
    assert first == pytest.approx(expected(client), abs=0.02) and second == pytest.approx(expected(client, 1), abs=0.02)


def test_errors_are_one_text(client):
    for content, headers, detail in [
        (b"no image", {}, "8 bytes cannot be read"),
        (b"", {}, "the request has no body"),
        (b"{}", {"Content-Type": "application/json"}, "'instances' is null; send a list of images"),
    ]:
        response = client.post("/invocations", content=content, headers=headers)
        assert response.status_code == 400 and detail in response.json()["error"]
