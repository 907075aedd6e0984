"""POST /explain: pictures and numbers."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.app.conftest import png


def explain(client, data, **params):
    return client.post("/explain", files={"file": ("i.png", data)}, params=params)


def picture(address: str) -> Image.Image:
    start, data = address.split(",")
    assert start == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


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
    found = np.array(answer["saliency"])
    assert found.shape == (32, 32) and found.min() >= 0 and found.max() == 1
    assert np.array_equal(found, found.round(3))


def test_any_class_can_be_explained(client):
    probabilities = client.post("/predict", content=png()).json()["probabilities"]
    answers = [explain(client, png(), format="json", **{"class": label}).json() for label in ("frog", "truck")]
    assert [answer["label"] for answer in answers] == ["frog", "truck"]
    for answer in answers:
        assert answer["confidence"] == pytest.approx(probabilities[answer["label"]], abs=1e-6)
    assert answers[0]["saliency"] != answers[1]["saliency"]


@pytest.mark.parametrize(
    ("params", "said"),
    [({"class": "lion"}, "'lion' is none of the labels, which are airplane, automobile"), ({"format": "gif"}, "'png'")],
    ids=["class", "format"],
)
def test_explain_refuses_other_parameters(client, params, said):
    response = explain(client, png(), **params)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert said in response.json()["detail"]


@pytest.mark.parametrize("data", [b"", b"{}", png()[:300]], ids=["empty", "json", "truncated"])
def test_a_bad_image_is_the_same_problem_for_explain_as_for_predict(client, data):
    headers = {"X-Request-ID": "same"}
    asked = [client.post(path, content=data, headers=headers) for path in ("/explain", "/predict")]
    assert asked[0].status_code == asked[1].status_code >= 400 and asked[0].json() == asked[1].json()
