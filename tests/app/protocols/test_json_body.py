"""JSON bodies: refused where they are ambiguous, too deep, too long or too large in memory."""

import asyncio
import gc
import subprocess
import sys
import threading

import orjson
import pytest
from starlette.requests import Request

from app.admission import ImageMemory
from app.errors import Problem
from app.protocols.json_body import (
    MAX_OTHER_VALUES,
    PIXEL_VALUES,
    SMALL_JSON_BYTES,
    _build_large,
    json_parser,
    parse_object,
    parsed_bytes,
)
from tests.app.protocols.bodies import SHAPE, pixels
from tests.app.service import ROOT

DEEP = b"[" * 100_000 + b"]" * 100_000
WRONG = {
    "empty": (b"", "cannot be read as JSON: it is empty"),
    "no JSON": (b"\x89PNG", "cannot be read as JSON: "),
    "no UTF-8": (b'{"a": "\xff"}', "cannot be read as JSON: "),
    "a list": (b"[1, 2]", "the body is a list of 2 values; send an object"),
    "a number": (b"1e5", "the body is the number 100000.0; send an object"),
    "NaN": (b'{"a": [NaN]}', "NaN and Infinity are not JSON"),
    "deep lists": (DEEP, "it is nested too deeply"),
    "deep lists in an object": (b'{"a": %b}' % DEEP, "it is nested too deeply"),
    "deep objects": (b'{"a":' * 1_000 + b"1" + b"}" * 1_000, "nested too deeply"),
    "deep objects with colons in strings": (b'{"a:":' * 1_000 + b"1" + b"}" * 1_000, "nested too deeply"),
    "a key twice": (b'{"a": 1, "a": 2}', "the key 'a' appears twice in one object"),
    "a key twice further in": (b'{"a": [[[{"b": 1, "b": 2}]]]}', "the key 'b' appears twice in one object"),
    "a key twice beside a colon in a string": (b'{"a": ":", "b": {"c": 1, "c": 2}}', "the key 'c' appears twice"),
    "two documents": (b"{} {}", "cannot be read as JSON: "),
}


@pytest.mark.parametrize(("body", "detail"), WRONG.values(), ids=WRONG)
def test_a_body_that_is_not_one_clear_object_is_refused(body, detail):
    with pytest.raises(Problem) as refusal:
        parse_object(body, 256, SHAPE)
    assert refusal.value.code == "malformed_request" and detail in refusal.value.detail
    assert len(refusal.value.detail) < 300


@pytest.mark.parametrize(
    "document", [{"id": "a:b:c", "inputs": [{"a": {"b": 1}}]}, {"a": [{"b": ":"}, [{"c": 1}]]}, {}]
)
def test_colons_in_strings_and_keys_anywhere_are_fine(document):
    assert parse_object(orjson.dumps(document), 1, SHAPE) == document


def test_more_values_than_the_images_may_have_are_refused_before_they_are_parsed():
    allowed = 2 * PIXEL_VALUES + MAX_OTHER_VALUES
    parse_object(b'{"a": [%b]}' % b",".join([b"1"] * allowed), 2, SHAPE)
    with pytest.raises(Problem) as refusal:
        parse_object(b'{"a": [%b]' % b",".join([b"1"] * (allowed + 1)), 2, SHAPE)
    assert refusal.value.code == "too_large" and f"the limit is {allowed:,} (for 2 images)" in refusal.value.detail


def test_larger_images_have_as_many_values_together_and_always_room_for_one():
    large = (224, 224, 3)
    body = b'{"a": [%b]}' % b",".join([b"1"] * (256 * PIXEL_VALUES))
    parse_object(body, 256, large)
    with pytest.raises(Problem, match=r"the limit is 796,432 \(for 5 images\)"):
        parse_object(body[:-2] + b",1" * (MAX_OTHER_VALUES + 1) + b"]}", 256, large)
    parse_object(b'{"a": [%b]}' % b",".join([b"1"] * 150_528), 1, large)


MEASURE = """
import sys
from pathlib import Path
from app.errors import Problem
from app.protocols.json_body import parse_object, parsed_bytes
from app.protocols.tensorflow_request import read_images
SHAPE = 32, 32, 3
body = sys.stdin.buffer.read()
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
Path("/proc/self/clear_refs").write_text("5")
before = peak()
try:
    kept = read_images(parse_object(body, 256, SHAPE), 256, SHAPE)
except Problem:
    pass
print(peak() - before)
"""
HUNDRED_THOUSAND = {
    "floats": b"0.5",
    "large numbers": b"18446744073709551615",
    "lists": b"[]",
    "objects": b"{}",
    "objects with a key": b'{"key":1}',
    "strings": b'"ab"',
    "strings of other alphabets": '"äöü€"'.encode(),
    "nested lists": b"[[[[1]]]]",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("value", [*HUNDRED_THOUSAND.values(), b"an image"], ids=[*HUNDRED_THOUSAND, "images"])
def test_the_estimate_covers_the_memory_of_parsed_json(value):
    images = orjson.dumps({"instances": [(pixels() / 255).tolist()] * 200})
    body = images if value == b"an image" else b'{"instances":[%b]}' % b",".join([value] * 100_000)
    process = subprocess.run([sys.executable, "-c", MEASURE], input=body, capture_output=True, cwd=ROOT, check=True)
    assert 0 < int(process.stdout) - 2_000_000 < parsed_bytes(body)


def test_json_that_takes_more_than_all_memory_is_refused_and_else_the_memory_is_given_back():
    body = orjson.dumps({"a": [[1, 2, 3]] * 10_000})
    memory = ImageMemory(parsed_bytes(body) + 2 * len(body))
    seen = _build_large(
        memory, body, 256, SHAPE, lambda document, *_: (len(document["a"]), memory.free < memory.capacity)
    )
    assert seen == (10_000, True) and memory.free == memory.capacity and gc.isenabled()
    with pytest.raises(Problem) as refusal:
        _build_large(ImageMemory(memory.capacity - 1), body, 256, SHAPE, lambda document, most, shape: None)
    assert refusal.value.code == "too_large" and "parsing this JSON takes" in refusal.value.detail
    memory.take(3 * len(body))
    with pytest.raises(Problem) as refusal:
        _build_large(memory, body, 256, SHAPE, lambda document, most, shape: None)
    assert refusal.value.code == "overloaded"


def test_only_json_that_takes_longer_than_a_millisecond_leaves_the_event_loop(client):
    pipeline = client.app.state.pipeline
    parse = json_parser(lambda document, most, shape: threading.current_thread().name)
    request = Request({"type": "http", "headers": []})
    for size, thread in ((100, "MainThread"), (2 * SMALL_JSON_BYTES, "decode_")):
        assert asyncio.run(parse(request, pipeline, b'{"a":"%b"}' % (b"x" * size))).startswith(thread)
    assert pipeline.memory.free == pipeline.memory.capacity
