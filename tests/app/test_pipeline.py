"""The threads that decode and infer, and queues shorter than a request."""

import os
import sys
import threading

import pytest

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
