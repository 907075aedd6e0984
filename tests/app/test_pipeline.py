"""The threads that decode and infer, and queues shorter than a request."""

import asyncio
import os
import sys
import threading

import pytest

from app.batcher import QueueFullError
from tests.app.conftest import png


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
        batches = (serving.predict_all([png(seed) for seed in range(64)], {}) for _ in range(4))
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
