"""The threads that decode and infer, and queues shorter than a request."""

import asyncio
import os
import sys
import threading

import pytest

from app.batcher import QueueFullError
from app.monitoring.stages import Stages
from tests.app.conftest import png
from tests.waiting import DEADLINE_SECONDS


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no niceness of its own")
def test_what_computes_gives_way_to_the_event_loop(client):
    large = png(side=128)  # small ones are decoded in the event loop
    assert client.post("/predict/batch", files=[("files", large), ("files", large)]).status_code == 200
    computing = [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "inference"))]
    assert {thread.name.split("_")[0] for thread in computing} == {"decode", "inference"}
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert {os.getpriority(os.PRIO_PROCESS, thread.native_id) for thread in computing} == {min(usual + 5, 19)}


def test_a_queue_shorter_than_a_chunk_can_explain_too(client_with, monkeypatch):
    monkeypatch.setattr("app.settings.MAX_WAITING_IMAGES", 2)
    assert client_with().post("/explain", content=png()).status_code == 200


def test_batches_that_together_fill_the_queue_are_answered_as_far_as_there_is_room(client_with, monkeypatch):
    monkeypatch.setattr("app.settings.MAX_WAITING_IMAGES", 128)
    client = client_with(max_files=64)
    serving = client.app.state.pipeline.serving

    async def send_four() -> list:
        batches = (serving.predict_all([png(seed) for seed in range(64)], Stages()) for _ in range(4))
        return await asyncio.gather(*batches, return_exceptions=True)

    answered, refused = [], []
    for outcome in client.portal.call(send_four):
        (refused if isinstance(outcome, QueueFullError) else answered).append(outcome)
    assert [len(predictions) for predictions in answered] == [64, 64]
    assert {str(error) for error in refused} == {"batches of 128 images are in progress, the limit is 128"}


def test_a_batch_larger_than_the_queue_is_tried_when_it_is_alone(client_with, monkeypatch):
    monkeypatch.setattr("app.settings.MAX_WAITING_IMAGES", 48)
    answer = client_with(max_files=64).post("/predict/batch", files=[("files", png())] * 64)
    assert answer.status_code == 200 or "images are waiting, the limit is 48" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("share", "detail"),
    [
        (0.1, "images before this one have been decoded for 0.05 s; try again, with fewer or smaller images"),
        (100, "the image was not decoded within 0.5 s, because others were; try again, with fewer or smaller images"),
    ],
    ids=["it waits too long", "its body took most of the time"],
)
def test_an_image_that_others_keep_from_being_decoded_is_a_503(client_with, monkeypatch, share, detail):
    monkeypatch.setattr("app.pipeline.MAX_WAIT_SHARE", share)
    client, release = client_with(timeout_seconds=0.5, decode_threads=1), threading.Event()
    decoders = client.app.state.pipeline.decoders
    busy = client.portal.start_task_soon(decoders.run, release.wait, DEADLINE_SECONDS)
    try:
        answer = client.post("/predict", content=png(side=128))
    finally:
        release.set()
    assert busy.result()
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert answer.json()["detail"] == detail
