"""The endpoints of routes.py: POST /predict, /predict/batch and /explain, GET /health."""

import base64
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
    largest = ask(client, png(), params={"top_k": 3}).json()["probabilities"]
    assert list(largest.items()) == sorted(full.items(), key=lambda item: -item[1])[:3]


def test_the_pixels_that_the_network_saw_are_predicted_and_explained_like_the_image(client):
    for data in (turned_jpeg(), transparent_png(), png(5)):
        answer = ask(client, data, params={"seen": True}).json()
        seen = from_address(answer["seen"])
        assert Image.open(io.BytesIO(seen)).size == (32, 32)
        assert ask(client, seen, params={"seen": True}).json() == answer
        assert explain(client, seen, format="json").json() == explain(client, data, format="json").json()
        assert {**ask(client, data).json(), "seen": answer["seen"]} == answer


def turned_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    return encoded(noise()[..., :3], format="JPEG", exif=exif)


def transparent_png() -> bytes:
    return encoded(noise(), format="PNG")


def noise() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (600, 400, 4), dtype=np.uint8)


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()


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
    direct = client.app.state.pipeline.serving.loaded.classifier.predict(pixels).probabilities[0]
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


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/explain"])
def test_a_request_without_a_body_is_refused(client, path):
    """/predict/batch answered it with 200 and one problem, although its body is required."""
    response = client.post(path)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_image")
    assert "the request has no body; send the bytes of an image, or a form" in response.json()["detail"]
    documented = client.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    assert {"unsupported_image", "unusable_image"} <= {
        code
        for status in ("415", "422")
        for code in documented[status]["content"]["application/problem+json"]["examples"]
    }


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


def explain(client, data, **params):
    return client.post("/explain", files={"file": ("i.png", data)}, params=params)


def from_address(address: str) -> bytes:
    start, data = address.split(",")
    assert start == "data:image/png;base64"
    return base64.b64decode(data)


def picture(address: str) -> Image.Image:
    return Image.open(io.BytesIO(from_address(address)))


@pytest.mark.parametrize("params", [{}, {"format": "png"}, {"class": "ship"}], ids=str)
def test_an_explanation_is_a_picture_to_look_at(client, params):
    response = explain(client, png(), **params)
    image = Image.open(io.BytesIO(response.content))
    assert response.headers["content-type"] == "image/png"
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (256, 256))
    assert response.content == explain(client, png(), **params).content


def test_an_explanation_as_json_has_map_pictures_method_and_model(client):
    answer, predicted = explain(client, png(7), format="json").json(), client.post("/predict", content=png(7)).json()
    assert list(answer) == ["label", "confidence", "saliency", "seen", "overlay", "method", "model"]
    assert (answer["label"], answer["model"]) == (predicted["label"], predicted["model"])
    assert answer["confidence"] == pytest.approx(predicted["confidence"], abs=1e-6)
    assert np.array_equal(np.asarray(picture(answer["seen"])), np.asarray(Image.open(io.BytesIO(png(7)))))
    assert (picture(answer["overlay"]).mode, picture(answer["overlay"]).size) == ("RGBA", (256, 256))
    assert "arXiv:1806.07421" in answer["method"]["source"]
    saliency = np.array(answer["saliency"])
    assert saliency.shape == (32, 32) and saliency.min() >= 0 and saliency.max() == 1
    assert np.array_equal(saliency, saliency.round(3))


def test_any_class_can_be_explained(client):
    probabilities = client.post("/predict", content=png()).json()["probabilities"]
    answers = [explain(client, png(), format="json", **{"class": label}).json() for label in ("frog", "truck")]
    assert [answer["label"] for answer in answers] == ["frog", "truck"]
    for answer in answers:
        assert answer["confidence"] == pytest.approx(probabilities[answer["label"]], abs=1e-6)
    assert answers[0]["saliency"] != answers[1]["saliency"]


@pytest.mark.parametrize("known", ["caf\u00e9", "cafe\u0301"], ids=["composed", "decomposed"])
def test_a_class_may_be_named_in_either_unicode_form(altered, known):
    client, _ = altered(lambda manifest, _: manifest["labels"].__setitem__(3, known))
    for form in ("caf\u00e9", "cafe\u0301"):
        assert explain(client, png(), format="json", **{"class": form}).json()["label"] == known


@pytest.mark.parametrize(
    ("params", "detail"),
    [({"class": "lion"}, "'lion' is not a label; the labels are airplane, automobile"), ({"format": "gif"}, "'png'")],
    ids=["class", "format"],
)
def test_explain_refuses_other_parameters(client, params, detail):
    response = explain(client, png(), **params)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert detail in response.json()["detail"]


@pytest.mark.parametrize("data", [b"", b"{}", png()[:300]], ids=["empty", "json", "truncated"])
def test_a_bad_image_is_the_same_problem_for_explain_as_for_predict(client, data):
    headers = {"X-Request-ID": "same"}
    asked = [client.post(path, content=data, headers=headers) for path in ("/explain", "/predict")]
    assert asked[0].status_code == asked[1].status_code >= 400 and asked[0].json() == asked[1].json()


def test_unservable_store_keeps_the_service_up_and_says_why(client_with, tmp_path):
    broken = client_with(store=tmp_path)
    for path in ("/health", "/health/ready", "/model", "/model/card", "/model/report/classes.png"):
        response = broken.get(path)
        assert response.status_code == 503 and "holds no version of 'cifar10'" in response.json()["detail"]
    for path in ("/predict", "/explain"):
        assert broken.post(path, content=png()).json()["code"] == "not_ready"
    assert broken.get("/health/live").status_code == 200


def test_health_tells_what_is_served(client):
    loaded = client.app.state.pipeline.serving.loaded
    health = client.get("/health").json()
    assert health == {
        "status": "ready",
        "model": {"name": "cifar10", "version": str(loaded.manifest.version)},
        "engine": "openvino",
        "precision": loaded.classifier.precision,
        "skipped": [],
        "store_problem": None,
    }
    assert client.get("/health/ready").json() == health


def test_readiness_falls_while_draining_and_predictions_go_on(client):
    pipeline = client.app.state.pipeline
    pipeline.draining = True
    try:
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        assert client.post("/predict", content=png()).status_code == 200
    finally:
        pipeline.draining = False
