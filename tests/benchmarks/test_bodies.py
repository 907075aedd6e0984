import numpy as np
import pytest

from app.uploads import files_in
from benchmarks import bodies
from benchmarks.peers.starts import PEERS
from benchmarks.sizes import SIDES, noisy
from model_store.images.decode import decode, read_header
from model_store.images.formats import MAX_PIXELS, check_size
from model_store.manifest import Resize

PNG, JPEG = bodies.pictures()


def test_the_pictures_are_what_they_are_called():
    assert (read_header(PNG.data).image.size, len(PNG.data) // 1_000) == ((32, 32), 2)
    assert read_header(JPEG.data).image.size == (640, 480)
    assert 20_000 < len(JPEG.data) < 30_000


@pytest.mark.parametrize(
    ("body", "field", "count"),
    [(bodies.raw(PNG), "file", 1), (bodies.form(JPEG), "file", 1), (bodies.batch(PNG, 5), "files", 5)],
    ids=["raw", "form", "batch"],
)
def test_the_service_finds_the_pictures_in_a_body(body, field, count):
    assert files_in(body.mime, body.data, field, 256) == [body.picture.data] * count
    assert body.count == count


def test_what_is_to_be_explained_goes_elsewhere():
    body = bodies.explained(PNG)
    assert (body.path, body.name, body.data) == ("/explain", "PNG 32×32, explained", PNG.data)


def test_a_request_is_whole():
    head, _, data = bodies.raw(PNG).request().partition(b"\r\n\r\n")
    assert data == PNG.data
    assert head.splitlines()[0] == b"POST /predict HTTP/1.1"
    assert f"Content-Length: {len(data)}".encode() in head.splitlines()


def test_sizes_reach_the_limit_and_not_beyond():
    check_size(SIDES[-1], SIDES[-1])
    assert (SIDES[-1] + 1) ** 2 > MAX_PIXELS


def test_enlarged_pictures_are_decoded_to_what_they_were():
    small = decode(PNG.data, Resize()).astype(np.float64)
    large = decode(bodies.encoded("large", noisy(512), "PNG").data, Resize()).astype(np.float64)
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_gets_the_same_picture(name):
    body = PEERS[name].body(JPEG)
    assert (body.name, body.picture) == (JPEG.name, JPEG)
    assert len(body.data) >= len(JPEG.data)
