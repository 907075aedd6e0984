"""Functions that fail, hang, crash or take memory in a process of their own."""

import os
import signal
import time

import numpy as np
import pytest

from model_store.errors import ModelError
from training.publish import isolation
from training.publish.isolation import run_isolated


def test_what_it_returns_comes_back_with_its_arrays():
    document, array = run_isolated(lambda value, *, extra: (value, np.full(3, extra)), {"a": 1}, extra=2.5)
    assert document == {"a": 1} and array.tolist() == [2.5] * 3


def fail(error: Exception):
    raise error


@pytest.mark.parametrize("error", [ModelError("the layer is odd"), ZeroDivisionError("a fault of ours")])
def test_what_it_raises_is_raised(error):
    with pytest.raises(type(error), match=str(error)):
        run_isolated(fail, error)


def test_what_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(isolation, "SECONDS", 0.3)

    def hang():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        time.sleep(60)

    began = time.monotonic()
    with pytest.raises(ModelError, match="is not read after 0 s, so it is damaged"):
        run_isolated(hang)
    assert time.monotonic() - began < 30


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(isolation, "BYTES", 300_000_000)
    assert run_isolated(lambda: np.ones(10_000_000).sum()) == 10_000_000
    with pytest.raises(ModelError, match="takes more than 0 GB"):
        run_isolated(lambda: np.ones(100_000_000).sum())


def test_a_crash_is_an_error():
    with pytest.raises(ModelError, match="ended the process that read it"):
        run_isolated(lambda: os.kill(os.getpid(), signal.SIGSEGV))


def test_deep_nesting_is_an_error():
    def nested(depth):
        return nested(depth + 1)

    with pytest.raises(ModelError, match="nested too deeply"):
        run_isolated(nested, 0)
