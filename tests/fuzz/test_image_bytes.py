"""Damaged image files are refused or decoded: quickly, silently and within the memory that was estimated."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.errors import ImageError
from model_store.images.decode import ACCEPTED, HEADER_BYTES, read_header
from model_store.manifest import UNNORMALISED, Preprocessing
from tests.fuzz.images import VARIANTS, damaged_images, encode, sound_images
from tests.fuzz.profiles import fuzzed
from tests.model_store.images.policies import resized, sized

pytestmark = pytest.mark.slow

SECONDS = 2.0  # of the processor, so that other work on the machine does not count
SLACK_BYTES = 16_000_000  # for the interpreter and the allocator
RESIZES = [
    UNNORMALISED,
    resized(fit="crop", jpeg_margin=1),
    resized(fit="pad", filter="lanczos"),
    sized(224, 224, channel_order="BGR"),
    sized(16, 256, channels=1),
]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@pytest.fixture(scope="module", autouse=True)
def stderr() -> Iterator[None]:
    """A file in place of stderr, for what C libraries write."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        yield
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def limited_time() -> Iterator[None]:
    """Fail if the block takes more than `SECONDS` of the processor; pytest's own timeout ends one that never ends."""
    began = time.thread_time()
    try:
        yield
    finally:
        if time.thread_time() - began > SECONDS:
            pytest.fail(f"an image takes more than {SECONDS:g} s of the processor")


def memory(field: str) -> int:
    """Bytes of memory: `VmRSS` now, `VmHWM` at most since `forget_peak`. 0 on other systems than Linux."""
    lines = STATUS.read_text().splitlines() if sys.platform == "linux" else []
    return next((1_024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def forget_peak() -> None:
    if sys.platform == "linux":
        CLEAR.write_text("5")


def check(data: bytes, preprocessing: Preprocessing) -> bool:
    """Decode as the service does. Return True if there are pixels."""
    written, allowed, pixels = os.fstat(2).st_size, HEADER_BYTES, None
    forget_peak()
    before = memory("VmRSS")
    with limited_time(), suppress(ImageError):
        image = read_header(data)
        allowed += image.peak_bytes(preprocessing)
        pixels = image.decode(preprocessing)
    peak = memory("VmHWM") - before
    assert peak <= allowed + 2 * len(data) + SLACK_BYTES, f"{peak:,} bytes of memory, {allowed:,} estimated"
    assert os.fstat(2).st_size == written, "something is written to stderr"
    if pixels is not None:
        assert (pixels.shape, pixels.dtype) == (preprocessing.shape, np.uint8)
    return pixels is not None


@pytest.mark.parametrize("kind", ACCEPTED)
@pytest.mark.parametrize("resize", RESIZES, ids=str)
def test_sound_images_are_decoded(kind, resize):
    for mode, options in VARIANTS[kind]:
        assert check(encode(kind, mode, (45, 31), 1, options), resize), (mode, options)


@pytest.mark.parametrize("kind", ACCEPTED)
@fuzzed(short=40, fuzz=2_000)
@given(st.data())
def test_damaged_images_are_refused_or_decoded(kind, data):
    check(data.draw(damaged_images((kind,))), data.draw(st.sampled_from(RESIZES)))


@fuzzed(short=40, fuzz=2_000)
@given(sound_images(), st.sampled_from(RESIZES))
def test_images_of_every_size_are_decoded(data, resize):
    assert check(data, resize)


def test_a_slow_image_would_be_noticed():
    def compute() -> None:
        end = time.thread_time() + SECONDS
        while time.thread_time() <= end:
            pass

    with pytest.raises(pytest.fail.Exception, match="takes more than 2 s"), limited_time():
        compute()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_would_be_noticed():
    forget_peak()
    before = memory("VmRSS")
    np.ones(100_000_000, np.uint8)
    assert memory("VmHWM") - before > 90_000_000
