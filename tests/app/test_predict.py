"""POST /predict and /predict/batch: what they answer."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from tests.app.conftest import png


def ask(client, data, **options):
    return client.post("/predict", files={"file": ("i.png", data)}, **options)


def test_predict_answers_all_probabilities_in_label_order(client):
    answer = ask(client, png()).json()
    assert list(answer) == ["label", "confidence", "verdict", "novelty", "probabilities", "model"]
    assert list(answer["probabilities"]) == client.get("/model").json()["manifest"]["labels"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert answer["confidence"] == max(answer["probabilities"].values()) == answer["probabilities"][answer["label"]]
    assert answer["model"] == {"name": "cifar10", "version": client.get("/health").json()["model"]["version"]}


def test_top_k_keeps_the_largest_first(client):
    full = ask(client, png()).json()["probabilities"]
    kept = ask(client, png(), params={"top_k": 3}).json()["probabilities"]
    assert list(kept.items()) == sorted(full.items(), key=lambda item: -item[1])[:3]


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain", None]
)
def test_any_other_content_type_means_that_the_body_is_the_image(client, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    raw = client.post("/predict", content=png(), headers=headers)
    assert raw.json() == ask(client, png()).json()


def test_prediction_is_what_the_classifier_gives_for_the_pixels(client):
    pixels = np.random.default_rng(7).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels[0]).save(buffer, "PNG")
    served = list(ask(client, buffer.getvalue()).json()["probabilities"].values())
    direct = client.app.state.pipeline.loaded.classifier.predict(pixels).probabilities[0]
    assert np.abs(np.array(served) - direct).max() < 1e-6


def test_batch_answers_in_order_and_one_bad_image_spoils_no_other(client):
    sent = [png(1), b"not an image", png(2), png(3)[:200], png(1)]
    results = client.post("/predict/batch", files=[("files", (f"{i}", data)) for i, data in enumerate(sent)]).json()[
        "results"
    ]
    assert [list(result) for result in results] == [
        ["prediction"],
        ["problem"],
        ["prediction"],
        ["problem"],
        ["prediction"],
    ]
    assert [results[i]["problem"]["code"] for i in (1, 3)] == ["unsupported_image", "unusable_image"]
    for index in (0, 2, 4):
        alone = ask(client, sent[index]).json()["probabilities"]
        together = results[index]["prediction"]["probabilities"]
        assert np.abs(np.array(list(alone.values())) - list(together.values())).max() < 0.02
    first, last = (results[index]["prediction"] for index in (0, 4))  # one image; its place may change the last digits
    assert last["probabilities"] == pytest.approx(first["probabilities"], abs=1e-5)
    assert {**last, "probabilities": 0, "confidence": 0} == {**first, "probabilities": 0, "confidence": 0}


def test_batch_of_one_raw_image_is_accepted(client):
    results = client.post("/predict/batch?top_k=1", content=png()).json()["results"]
    assert len(results) == 1 and len(results[0]["prediction"]["probabilities"]) == 1


PART = b'Content-Disposition: form-data; name="file"; filename="i"\r\n\r\n'


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=2_000) | st.binary(max_size=200).map(lambda tail: PART + tail),
    content_type=st.sampled_from(
        ["", "image/png", "multipart/form-data; boundary=X", "multipart/form-data", "x/\u00e9"]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    top_k=st.sampled_from([None, "1", "-1", "", "1e3"]),
)
def test_arbitrary_requests_never_get_a_500(client, body, content_type, top_k):
    for path in ("/predict", "/predict/batch", "/explain"):
        params = {} if top_k is None else {"top_k": top_k}
        headers = {"Content-Type": content_type.encode("latin-1")}
        response = client.post(path, content=body, headers=headers, params=params)
        assert response.status_code in (200, 400, 413, 415, 422)
