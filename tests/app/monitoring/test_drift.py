"""Streams of made-up pictures, asked about over HTTP, beside a reference made of their like."""

import asyncio
import io
import os
import signal
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.monitoring.drift import COUNT_SECONDS, Drift
from app.prediction import predict_each
from app.settings import Settings
from app.versions.loading import choose
from model_store.drift import FEATURES, MIN_DRIFT_IMAGES
from model_store.manifest import FEATURE_BINS
from tests.app.conftest import blotches, png
from tests.app.service import needs_reuseport, serving, stop
from tests.waiting import DEADLINE_SECONDS, wait_until
from training.data.load import load_dataset

ENOUGH = 2 * 256


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def send(client, images):
    for start in range(0, len(images), 256):
        files = [("files", (str(index), encoded(image))) for index, image in enumerate(images[start : start + 256])]
        assert client.post("/predict/batch", files=files).status_code == 200


def gauges(client):
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("cifar10_drift")]
    assert len(set(lines)) == len(lines)
    return dict(line.rsplit(" ", 1) for line in lines)


def blurred(images):
    near = [np.roll(images, (down, right), (1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return np.mean(near, axis=0).astype(np.uint8)


def test_an_unchanged_stream_is_ok_and_a_changed_one_names_what_changed(client_with, watched_store):
    client = client_with(store=watched_store)
    send(client, blotches(ENOUGH, seed=1))
    document = client.get("/model/drift").json()
    assert (document["images"], document["status"], document["window_seconds"]) == (ENOUGH, "ok", 3_600)
    assert list(document["features"]) == list(FEATURES)
    for feature, drift in document["features"].items():
        assert drift["status"] == "ok" and 0 <= drift["psi"] < 0.1
        assert len(drift["recent"]) == len(drift["reference"]) == FEATURE_BINS.get(feature, 10)
        assert sum(drift["recent"]) == pytest.approx(1, abs=0.001)
    version = document["model"]["version"]
    named = gauges(client)
    assert named[f'cifar10_drift_images{{model="cifar10",version="{version}"}}'] == f"{ENOUGH}.0"
    psi = float(named[f'cifar10_drift_psi{{feature="class",model="cifar10",version="{version}"}}'])
    assert psi == pytest.approx(document["features"]["class"]["psi"], abs=1e-4)
    assert len(named) == 1 + len(FEATURES)


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        (lambda images: images // 3, "brightness"),
        (blurred, "sharpness"),
        (lambda images: np.broadcast_to(images[:1], images.shape), "class"),
    ],
    ids=["dark", "blurred", "one class"],
)
def test_a_changed_stream_names_what_changed(client_with, watched_store, change, feature):
    client = client_with(store=watched_store)
    send(client, change(blotches(ENOUGH, seed=1)))
    document = client.get("/model/drift").json()
    assert document["status"] == document["features"][feature]["status"] == "drifted"


def test_a_few_images_are_too_few_to_say_anything_of(client_with, watched_store):
    client = client_with(store=watched_store)
    send(client, blotches(3) // 3)
    document = client.get("/model/drift").json()
    assert (document["images"], document["status"]) == (3, "too_few_images")
    for drift in document["features"].values():
        assert drift["psi"] is drift["recent"] is None and drift["status"] == "too_few_images"
    assert [float(value) for value in gauges(client).values()] == [3.0]  # and no index
    assert document["images"] < MIN_DRIFT_IMAGES


def test_only_images_that_were_asked_about_and_answered_are_counted(client_with, watched_store):
    client = client_with(store=watched_store)

    def images():
        return client.get("/model/drift").json()["images"]

    assert images() == 0  # golden images and warm-up
    assert client.post("/explain", content=png()).status_code == 200
    assert client.post("/predict", content=png()[:99]).status_code == 422
    assert images() == 0
    assert client.post("/predict", content=png()).status_code == 200
    assert client.post("/predict", files={"file": ("a.png", png())}, params={"top_k": 1}).status_code == 200
    client.post("/predict/batch", files=[("files", ("a", png())), ("files", ("b", b"none")), ("files", ("c", png(1)))])
    assert images() == 4


def watching(watched_store, directory=None):
    loaded = choose(Settings(store=watched_store)).loaded
    return Drift(loaded.manifest, directory), predict_each(loaded.classifier, blotches(4), binned=True)


def test_answers_are_counted_together_a_little_later(watched_store, tmp_path):
    """Another process's drift sees what is counted, without asking this one to count."""

    async def scenario():
        drift, predictions = watching(watched_store, tmp_path)
        other, _ = watching(watched_store, tmp_path)
        drift.add(predictions[:3])
        drift.add(predictions[3:])
        before = other.compare_recent()[0]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (counted := other.compare_recent()[0]):
                await asyncio.sleep(COUNT_SECONDS / 4)
        drift.close(), other.close()
        return before, counted

    assert asyncio.run(scenario()) == (0, 4)


def test_what_waits_to_be_counted_holds_nothing_of_the_image(watched_store):
    loaded, images = choose(Settings(store=watched_store)).loaded, blotches(4)
    for prediction in predict_each(loaded.classifier, images, binned=True):
        assert prediction.bins.shape == (len(FEATURES),) and not np.shares_memory(prediction.bins, images)


def test_what_is_not_counted_yet_is_counted_when_somebody_asks_and_at_the_end(watched_store, tmp_path):
    async def scenario():
        drift, predictions = watching(watched_store, tmp_path)
        drift.add(predictions[:2])
        read = drift.compare_recent()[0]
        drift.add(predictions[:1])
        drift.close()
        next_one, _ = watching(watched_store, tmp_path)
        counted = next_one.compare_recent()[0]
        next_one.close()
        return read, counted

    assert asyncio.run(scenario()) == (2, 3)


def test_a_version_without_a_reference_says_so(client):
    manifest = client.app.state.pipeline.serving.loaded.manifest.model_copy(update={"reference": None})
    drift = Drift(manifest)
    assert drift.document() | {"model": None} == {
        "model": None,
        "window_seconds": 3_600,
        "images": 0,
        "status": "no_reference",
        "features": {},
    }


def test_without_a_model_there_is_no_drift(client_with, tmp_path):
    client = client_with(store=tmp_path)
    assert client.get("/model/drift").json()["code"] == "not_ready"
    assert gauges(client) == {}


@pytest.mark.data
@pytest.mark.skipif("CIFAR10_DATA" not in os.environ, reason="CIFAR10_DATA names no folder with CIFAR-10")
def test_images_like_those_it_was_tested_on_raise_no_alarm_and_darkened_or_blurred_do():
    loaded = choose(Settings()).loaded
    if loaded.manifest.reference is None:
        pytest.skip("the shipped version was published without a reference")
    data = load_dataset(Path(os.environ["CIFAR10_DATA"]))
    unseen = data.val if loaded.manifest.training.get("hold_out") else data.test
    images = unseen.pixels[np.random.default_rng(0).permutation(len(unseen))[:600]]

    async def compared(shown):
        drift = Drift(loaded.manifest)
        drift.add(predict_each(loaded.classifier, shown, binned=True))
        return drift.compare_recent()[1]

    def raised(shown):
        return {name for name, found in asyncio.run(compared(shown)).items() if found.status != "ok"}

    assert raised(images) == set()
    assert {"brightness", "sharpness"} <= raised(images // 2)
    assert {"sharpness", "verdict"} <= raised(blurred(images))


@pytest.mark.process
@needs_reuseport
def test_whichever_process_is_asked_it_answers_for_all_also_for_a_dead_one(tmp_path, watched_store):
    a_connection_each = httpx2.Limits(max_keepalive_connections=0)
    with (
        serving(tmp_path, store=str(watched_store), workers="2", drain_seconds="0") as server,
        httpx2.Client(base_url=server.url(""), limits=a_connection_each) as client,
    ):
        sent = 0

        def predict():
            nonlocal sent
            assert client.post("/predict", content=png()).status_code == 200
            sent += 1

        def counted_images():
            return client.get("/model/drift").json()["images"], float(*gauges(client).values())

        def all_answer_for_all():  # a process that was not asked counts a turn after it has answered
            return {counted_images() for _ in range(10)} == {(sent, sent)}

        wait_until(lambda: predict() or len(server.processes(route="/predict", status=200)) == 2)
        wait_until(all_answer_for_all, counted_images)
        (worker,) = server.processes(message="ready") - {server.process.pid}
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: len(server.processes(message="ready")) == 3)
        wait_until(all_answer_for_all, counted_images)
        files = list((tmp_path / "metrics").glob("*.counts"))
        slices = np.stack([np.fromfile(file, np.int64).reshape(12, -1) for file in files])
        assert len(files) == 2 and slices[..., 1:].any((1, 2)).all()
        assert slices[..., 1:].sum() == sent * len(FEATURES)  # counts, beside the slices' numbers, and nothing else
        assert stop(server) == 0
