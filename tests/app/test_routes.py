import base64
import hashlib
import io
import json
import os
import re
import shutil
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from app.admission import Backlog
from app.errors import CODES
from app.monitoring.middleware import SECURITY_HEADERS
from app.settings import SHIPPED_STORE
from tests.app.conftest import png

LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def ask(client, data, **options):
    return client.post("/predict", files={"file": ("i.png", data)}, **options)


def test_predict_answers_all_probabilities_in_label_order(client):
    answer = ask(client, png()).json()
    assert list(answer) == ["label", "confidence", "verdict", "novelty", "probabilities", "model"]
    assert list(answer["probabilities"]) == LABELS
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
    answer, predicted = explain(client, png(7), format="json").json(), ask(client, png(7)).json()
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
    probabilities = ask(client, png()).json()["probabilities"]
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


def test_explanations_count_against_the_requests_that_are_let_in(client_with):
    small = client_with(max_requests=1)
    with small.app.state.pipeline.admit():
        response = explain(small, png())
    assert response.status_code == 503 and response.json()["code"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1
    assert explain(small, png()).status_code == 200


def test_while_predictions_take_too_long_new_ones_are_refused(client_with, monkeypatch):
    client = client_with(max_wait_seconds=0.25)
    monkeypatch.setattr(Backlog, "seconds", 0.3)
    response = client.post("/predict", content=png())
    assert response.status_code == 503 and response.json()["code"] == "overloaded"
    assert "take 0.3 s" in response.json()["detail"] and int(response.headers["retry-after"]) >= 1
    monkeypatch.setattr(Backlog, "seconds", 0.2)
    assert client.post("/predict", content=png()).status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no niceness of its own")
def test_what_computes_gives_way_to_the_event_loop(client):
    assert client.post("/predict/batch", files=[("files", png()), ("files", png())]).status_code == 200
    computing = [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "inference"))]
    assert {thread.name.split("_")[0] for thread in computing} == {"decode", "inference"}
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert {os.getpriority(os.PRIO_PROCESS, thread.native_id) for thread in computing} == {min(usual + 5, 19)}


def test_a_queue_shorter_than_a_chunk_can_explain_too(client_with, monkeypatch):
    monkeypatch.setattr("app.settings.MAX_WAITING_IMAGES", 2)
    assert explain(client_with(), png()).status_code == 200


def form(*parts: bytes, end: bytes = b"--X--\r\n") -> dict:
    body = b"".join(b"--X\r\n" + part + b"\r\n" for part in parts) + end
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=X"}}


PART = b'Content-Disposition: form-data; name="file"; filename="i"\r\n\r\n'


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        pytest.param({"content": b"{}"}, "unsupported_image", "JSON", id="json"),
        pytest.param({"content": b""}, "unsupported_image", "nothing in it", id="empty"),
        pytest.param({"content": png()[:300]}, "unusable_image", "ends early", id="truncated"),
        pytest.param({"files": {"image": png()}}, "malformed_request", "-F file=@photo.jpg", id="other field"),
        pytest.param(form(PART + png(), end=b""), "malformed_request", "closing boundary", id="unclosed form"),
        pytest.param(form(PART + png(), PART + png()), "too_large", "more than 1 files", id="two files"),
        pytest.param(
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
            "malformed_request",
            "cannot be read",
            id="no boundary",
        ),
        pytest.param({"content": png(), "params": {"top_k": 0}}, "invalid_parameter", "top_k", id="top_k 0"),
        pytest.param({"content": png(), "params": {"top_k": "x"}}, "invalid_parameter", "not 'x'", id="top_k x"),
    ],
)
def test_predict_explains_what_is_wrong(client, request_, code, said):
    response = client.post("/predict", **request_)
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, document["code"]) == (CODES[code][0], code)
    assert said in document["detail"] and document["request_id"] == response.headers["x-request-id"]


def test_unknown_address_and_method_are_problems_too(client):
    assert client.get("/nope").json()["code"] == "not_found"
    wrong = client.get("/predict")
    assert wrong.json()["code"] == "method_not_allowed" and wrong.headers["allow"] == "POST"


def test_announced_body_over_the_limit_is_refused(client_with):
    small = client_with(max_body_bytes=1_000)
    response = small.post("/predict", content=bytes(1_001))
    assert response.status_code == 413 and "1,001 bytes, the limit is 1,000" in response.json()["detail"]


def test_chunked_body_over_the_limit_is_refused(client_with):
    small = client_with(max_body_bytes=1_000)
    response = small.post("/predict", content=iter([bytes(600)] * 2))
    assert response.status_code == 413 and response.json()["code"] == "too_large"


def test_too_many_files_in_a_batch_are_refused(client_with):
    small = client_with(max_files=2)
    response = small.post("/predict/batch", files=[("files", png())] * 3)
    assert response.status_code == 413 and "more than 2 files" in response.json()["detail"]


def test_more_waiting_images_than_allowed_are_refused_with_retry_after(client_with, monkeypatch):
    monkeypatch.setattr("app.settings.MAX_WAITING_IMAGES", 2)
    small = client_with()
    response = small.post("/predict/batch", files=[("files", png())] * 3)
    assert response.status_code == 503 and response.json()["code"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1


def test_unservable_store_keeps_the_service_up_and_says_why(client_with, tmp_path):
    broken = client_with(store=tmp_path)
    for path in ("/health", "/health/ready", "/model", "/model/card", "/model/report/classes.png"):
        response = broken.get(path)
        assert response.status_code == 503 and "holds no version of 'cifar10'" in response.json()["detail"]
    assert ask(broken, png()).json()["code"] == explain(broken, png()).json()["code"] == "not_ready"
    assert broken.get("/health/live").status_code == 200


def test_health_and_model_tell_what_is_served(client):
    health, model = client.get("/health").json(), client.get("/model").json()
    assert health["status"] == "ready" and health["engine"] == "openvino"
    assert client.get("/health/ready").json() == health
    assert model["manifest"]["labels"] == LABELS
    assert str(model["manifest"]["version"]) == health["model"]["version"]
    assert model["manifest"]["metrics"]["test"]["accuracy"] >= 0.93


def test_readiness_falls_while_draining_and_predictions_go_on(client):
    pipeline = client.app.state.pipeline
    pipeline.draining = True
    try:
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        assert ask(client, png()).status_code == 200
    finally:
        pipeline.draining = False


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/health", "/nope", "/page/js/page.js"])
def test_every_answer_has_the_security_headers(client, path):
    headers = client.get(path).headers
    assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_an_error_nobody_foresaw_is_a_problem_with_a_request_id(client, monkeypatch):
    monkeypatch.setattr(client.app.state.pipeline, "settings", None)
    response = ask(client, png())
    assert response.status_code == 500 and response.json()["code"] == "internal"
    assert re.fullmatch("[0-9a-f]{32}", response.json()["request_id"])


def test_request_id_is_taken_over_or_made(client):
    assert client.get("/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = client.get("/health", headers={"X-Request-ID": 'a" b'}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_pages_need_no_other_host_and_no_inline_code(client, page):
    html = client.get(page).text
    assert "://" not in re.sub(r"curl -F.*", "", html)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    for reference in re.findall(r'(?:src|href)="([^"]+\.(?:js|css|svg))"', html):
        assert client.get("/" + reference).status_code == 200


def test_openapi_documents_every_error_of_the_code_table(client):
    document = client.get("/openapi.json").json()
    text = str(document)
    undocumented = {"not_found", "method_not_allowed"}  # of addresses that are not in the document
    assert [code for code in CODES if code not in undocumented and f"`{code}`" not in text] == []
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert list(body) == ["multipart/form-data", "image/*"]
    explained = document["paths"]["/explain"]["post"]["responses"]["200"]["content"]
    assert sorted(explained) == ["application/json", "image/png"]


def test_openapi_documents_problems_as_they_are_sent(client):
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["ProblemAnswer"]["type"] == "object"
    answers = [
        (int(status), answer["content"])
        for path in document["paths"].values()
        for method in path.values()
        for status, answer in method["responses"].items()
        if status != "200"
    ]
    assert {status for status, _ in answers} == {400, 404, 408, 413, 415, 422, 500, 503, 504}
    for status, content in answers:
        assert list(content) == ["application/problem+json"]
        assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/ProblemAnswer"}
        examples = content["application/problem+json"]["examples"]
        assert [(value["value"]["code"], value["value"]["status"]) for value in examples.values()] == [
            (code, status) for code in examples
        ]
    sent = client.get("/model/report/nothing.png").json()
    example = document["paths"]["/model/report/{name}"]["get"]["responses"]["404"]["content"]
    example = example["application/problem+json"]["examples"]["not_found"]["value"]
    assert {**example, "detail": "", "request_id": ""} == {**sent, "detail": "", "request_id": ""}


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


STAGES = ["receive", "decode", "queue", "infer", "serialize", "total"]


def server_timing(response) -> dict[str, float]:
    parts = (part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    return {name: float(milliseconds) for name, milliseconds in parts}


@pytest.mark.parametrize("path", ["/predict", "/predict?top_k=2", "/predict/batch"])
def test_every_prediction_says_where_its_time_went(client, path):
    times = server_timing(client.post(path, content=png()))
    assert list(times) == STAGES
    assert all(time >= 0 for time in times.values())
    assert sum(times.values()) - times["total"] <= times["total"]


@pytest.mark.parametrize("path", ["/explain", "/explain?format=json"])
def test_every_explanation_says_where_its_time_went(client, path):
    times = server_timing(client.post(path, content=png()))
    assert list(times) == ["receive", "decode", "explain", "serialize", "total"]


def test_other_answers_say_what_is_known(client):
    assert list(server_timing(client.get("/health"))) == ["total"]
    assert list(server_timing(client.post("/predict", content=b"no image"))) == ["receive", "total"]


def test_metrics_count_requests_stages_batches_and_refusals(client_with):
    client = client_with()
    for _ in range(3):
        client.post("/predict", content=png())
    client.post("/predict", content=b"no image")
    client.post("/marked-path", content=png())
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    version = client.get("/health").json()["model"]["version"]
    served = f'model="cifar10",{{}}version="{version}"'
    assert lines['cifar10_request_seconds_count{route="/predict",status="200"}'] == "3.0"
    assert lines['cifar10_request_seconds_count{route="/predict",status="415"}'] == "1.0"
    assert lines['cifar10_request_seconds_count{route="unknown",status="404"}'] == "1.0"
    assert lines['cifar10_refusals_total{code="unsupported_image"}'] == "1.0"
    assert lines[f"cifar10_batch_images_sum{{{served.format('')}}}"] == "3.0"
    for stage in STAGES[:-1]:
        name = f'cifar10_stage_seconds_count{{model="cifar10",stage="{stage}",version="{version}"}}'
        assert lines[name] == ("4.0" if stage == "receive" else "3.0")
    assert lines[f'cifar10_stage_seconds_bucket{{le="0.00025",model="cifar10",stage="queue",version="{version}"}}']
    assert lines["cifar10_waiting_images"] == "0.0"
    assert "marked" not in client.get("/metrics").text


def test_the_card_is_a_page_made_from_what_is_served(client):
    response, manifest = client.get("/model/card"), client.get("/model").json()["manifest"]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    accuracy = f"{100 * manifest['metrics']['test']['accuracy']:.2f}"
    assert f"{manifest['name']}, version {manifest['version']}" in response.text and accuracy in response.text
    for address in re.findall(r'(?:href|src)="([^"]+)"', response.text):
        assert client.get(f"/model/{address}").status_code == 200, address


def test_every_file_of_the_report_is_served_as_it_was_published(client):
    manifest = client.app.state.pipeline.loaded.manifest
    names = [name.removeprefix("report/") for name in manifest.files if name.startswith("report/")]
    assert "classes.png" in names and "evaluation.json" in names
    for name in names:
        response = client.get(f"/model/report/{name}")
        assert hashlib.sha256(response.content).hexdigest() == manifest.files[f"report/{name}"].sha256
        assert response.headers["content-type"] == ("application/json" if name.endswith("json") else "image/png")


@pytest.mark.parametrize(
    "name",
    [
        "nothing.png",
        "manifest.json",
        "../manifest.json",
        "..%2Fmanifest.json",
        "%2e%2e%2fmanifest.json",
        "..%252Fmanifest.json",
        "..%5Cmanifest.json",
        "%2Fetc%2Fpasswd",
        "classes.png%00",
        "Classes.png",
        ".",
        "%2e%2e",
        "",
    ],
)
def test_nothing_but_the_report_is_served(client, name):
    response = client.get(f"/model/report/{name}")
    assert response.status_code == 404 and response.json()["code"] == "not_found"


@pytest.fixture
def altered(client_with, tmp_path):
    """Makes a service of a copy of the shipped version that `change` was done to before it was loaded."""

    def make(change):
        folder = tmp_path / "cifar10" / "1"
        shutil.copytree(SHIPPED_STORE / "cifar10" / "7", folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest, folder)
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 1}))
        return client_with(store=tmp_path), folder

    return make


def without_a_report(manifest, folder):
    shutil.rmtree(folder / "report")
    manifest["files"] = {name: file for name, file in manifest["files"].items() if not name.startswith("report/")}
    manifest["metrics"] = {}


def test_a_version_without_a_report_has_a_card_and_no_plots(altered):
    client, _ = altered(without_a_report)
    card = client.get("/model/card")
    assert card.status_code == 200 and "How often it is right is not known" in card.text and "<img" not in card.text
    missing = client.get("/model/report/classes.png")
    assert missing.status_code == 404 and "report has no files" in missing.json()["detail"]


def with_a_page(manifest, folder):
    (folder / "report" / "page.html").write_bytes(b"<script>")
    manifest["files"]["report/page.html"] = {"size": 8, "sha256": hashlib.sha256(b"<script>").hexdigest()}
    manifest["labels"][0] = "<script>alert(1)</script>"


def test_labels_are_no_markup_and_pages_in_a_report_are_not_served(altered):
    client, _ = altered(with_a_page)
    card = client.get("/model/card").text
    assert "&lt;script&gt;alert(1)" in card and "<script" not in card
    assert client.get("/model/report/page.html").status_code == 404


def test_a_report_that_was_altered_after_loading_is_not_served(altered, caplog):
    client, folder = altered(lambda manifest, folder: None)
    (folder / "report" / "classes.png").write_bytes(b"other")
    response = client.get("/model/report/classes.png")
    assert response.status_code == 500 and response.json()["code"] == "internal"
    assert str(folder) not in response.text and "not the file that was published" in caplog.text


def test_a_version_that_was_removed_since_it_was_loaded_is_served_without_its_report(altered):
    client, folder = altered(lambda manifest, folder: None)
    shutil.rmtree(folder)
    assert client.get("/model/card").status_code == 200
    response = client.get("/model/report/classes.png")
    assert response.status_code == 404 and "was removed from the store" in response.json()["detail"]
    assert client.post("/predict", content=png()).status_code == 200
