import io

import numpy as np
import pytest
from PIL import Image

from app.requests.uploads import parse_images
from benchmarks.load import bodies
from benchmarks.peers.starts import PEERS
from model_store.images.decode import decode, read_header
from model_store.manifest import UNNORMALISED

PNG, JPEG = bodies.pictures()


def test_the_pictures_are_what_they_are_called():
    assert (read_header(PNG.data).image.size, len(PNG.data) // 1_000) == ((32, 32), 2)
    assert read_header(JPEG.data).image.size == (640, 480)
    assert 20_000 < len(JPEG.data) < 30_000
    assert [PNG.name, JPEG.name] == ["PNG 32×32", "JPEG 640×480"]


@pytest.mark.parametrize(
    ("body", "field", "count"),
    [(bodies.raw(PNG), "file", 1), (bodies.form(JPEG), "file", 1), (bodies.batch(PNG, 5), "files", 5)],
    ids=["raw", "form", "batch"],
)
def test_the_service_finds_the_pictures_in_a_body(body, field, count):
    assert parse_images(body.mime, body.data, field, 256) == [body.picture.data] * count
    assert body.count == count


def test_a_request_for_an_explanation_has_its_own_path():
    body = bodies.explain(PNG)
    assert (body.path, body.name, body.data) == ("/explain", "PNG 32×32, explained", PNG.data)


def test_a_request_has_a_complete_head_and_the_body():
    head, _, data = bodies.raw(PNG).request().partition(b"\r\n\r\n")
    assert data == PNG.data
    assert head.splitlines()[0] == b"POST /predict HTTP/1.1"
    assert f"Content-Length: {len(data)}".encode() in head.splitlines()


def test_an_enlarged_picture_is_decoded_to_what_it_was():
    large = bodies.enlarge(Image.open(io.BytesIO(PNG.data)), 512, 512)
    pixels = [decode(data, UNNORMALISED).ravel() for data in (PNG.data, bodies.encode(large, "PNG").data)]
    assert np.corrcoef(*pixels)[0, 1] > 0.9


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_gets_the_same_picture(name):
    body = PEERS[name].body(JPEG)
    assert (body.name, body.picture) == (JPEG.name, JPEG)
    assert len(body.data) >= len(JPEG.data)
