"""GET /model/card and /model/report of whole, altered and removed versions."""

import hashlib
import json
import os
import re
import shutil

import pytest

from tests.app.conftest import png


def test_the_manifest_is_served_as_it_was_published(client):
    loaded, answer = client.app.state.pipeline.serving.loaded, client.get("/model").json()
    assert answer["manifest"] == json.loads((loaded.folder / "manifest.json").read_text())
    assert (answer["engine"], answer["precision"]) == ("openvino", loaded.classifier.precision)
    assert answer["golden_difference"] == loaded.golden_difference


def test_the_card_is_a_page_made_from_what_is_served(client):
    response, manifest = client.get("/model/card"), client.get("/model").json()["manifest"]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    accuracy = f"{100 * manifest['metrics']['test']['accuracy']:.2f}"
    assert f"{manifest['name']}, version {manifest['version']}" in response.text and accuracy in response.text
    for address in re.findall(r'(?:href|src)="([^"]+)"', response.text):
        assert client.get(f"/model/{address}").status_code == 200, address


def test_every_file_of_the_report_is_served_as_it_was_published(client):
    manifest = client.app.state.pipeline.serving.loaded.manifest
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


def without_a_report(manifest, folder):
    shutil.rmtree(folder / "report")
    manifest["files"] = {name: file for name, file in manifest["files"].items() if not name.startswith("report/")}
    manifest["metrics"] = {}


def test_a_version_without_a_report_has_a_card_and_no_plots(altered):
    client, _ = altered(without_a_report)
    card = client.get("/model/card")
    assert card.status_code == 200 and "so the accuracy is unknown" in card.text and "<img" not in card.text
    missing = client.get("/model/report/classes.png")
    assert missing.status_code == 404 and "it has no files" in missing.json()["detail"]


def with_a_damaged_report(manifest, folder):
    content = b'{"images": "many"}'
    (folder / "report" / "evaluation.json").write_bytes(content)
    file = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["report/evaluation.json"] = file


def test_a_card_leaves_out_a_report_that_cannot_be_read(altered, caplog):
    client, _ = altered(with_a_damaged_report)
    card = client.get("/model/card")
    assert card.status_code == 200 and "has no figures by class" in card.text and "<img" not in card.text
    assert "evaluation.json: images: Input should be a valid integer" in caplog.text


def with_a_page(manifest, folder):
    (folder / "report" / "page.html").write_bytes(b"<script>")
    manifest["files"]["report/page.html"] = {"size": 8, "sha256": hashlib.sha256(b"<script>").hexdigest()}
    manifest["labels"][0] = "<script>alert(1)</script>"


def test_labels_are_no_markup_and_pages_in_a_report_are_not_served(altered):
    client, _ = altered(with_a_page)
    card = client.get("/model/card").text
    assert "&lt;script&gt;alert(1)" in card and "<script" not in card
    assert client.get("/model/report/page.html").status_code == 404


def test_a_report_file_that_was_altered_after_loading_is_not_served_and_told_so(altered, caplog):
    client, folder = altered()
    (folder / "report" / "classes.png").write_bytes(b"other")
    response = client.get("/model/report/classes.png")
    assert re.fullmatch("[0-9a-f]{32}", response.json()["request_id"])
    assert response.status_code == 404 and response.json()["code"] == "not_found"
    assert response.json()["detail"].startswith("classes.png is not the file that was published: it has 5 bytes")
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith(f"a file of the report is not served: {folder}/report/classes.png is not the file")


def test_a_card_leaves_out_a_report_that_was_altered_after_loading(altered, caplog):
    client, folder = altered()
    (folder / "report" / "evaluation.json").write_bytes(b"other")
    card = client.get("/model/card")
    assert card.status_code == 200 and "has no figures by class" in card.text
    assert "the model card leaves out the report" in caplog.text
    assert caplog.text.count("not the file that was published") == 1


def test_a_card_is_rendered_once_its_report_is_whole(altered, monkeypatch):
    client, folder = altered()
    report = folder / "report" / "evaluation.json"
    published = report.read_bytes()
    report.write_bytes(b"other")
    assert "has no figures by class" in client.get("/model/card").text
    report.write_bytes(published)
    card = client.get("/model/card").text
    assert "has no figures by class" not in card
    monkeypatch.setattr("app.model_routes.render_card", None)
    assert client.get("/model/card").text == card


def test_a_report_file_that_was_removed_alone_is_named(altered):
    client, folder = altered()
    (folder / "report" / "classes.png").unlink()
    response = client.get("/model/report/classes.png")
    assert response.status_code == 404 and response.json()["detail"].startswith("classes.png cannot be read: No such")


def test_a_report_file_that_became_a_pipe_is_not_waited_for(altered):
    client, folder = altered()
    (folder / "report" / "classes.png").unlink()
    os.mkfifo(folder / "report" / "classes.png")
    response = client.get("/model/report/classes.png")
    assert response.status_code == 404 and "it is a named pipe, not a regular file" in response.json()["detail"]


@pytest.mark.parametrize("name", ["classes.png", "evaluation.json"])
def test_a_report_file_is_sent_again_only_if_it_has_changed(client, name):
    first = client.get(f"/model/report/{name}")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(f"/model/report/{name}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get(f"/model/report/{name}", headers={"If-None-Match": '"other"'}).content == first.content


def test_a_version_that_was_removed_since_it_was_loaded_is_served_without_its_report(altered):
    client, folder = altered()
    shutil.rmtree(folder)
    assert client.get("/model/card").status_code == 200
    response = client.get("/model/report/classes.png")
    assert response.status_code == 404 and "were removed from the store" in response.json()["detail"]
    assert client.post("/predict", content=png()).status_code == 200
