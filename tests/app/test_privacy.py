"""Nothing of an upload is left anywhere: a service with two processes takes a thousand marked ones and is searched."""

import base64
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.app.conftest import png
from tests.app.service import ROOT, Server, serving, stop

RECORDER = """
import os, socket, sys
real = socket.socket.connect
def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        open(os.environ["DIALLED"], "a").write(repr(address) + "\\n")
    return real(self, address)
socket.socket.connect = connect
looked_up = socket.getaddrinfo
def getaddrinfo(host, *rest, **named):
    if host not in (None, "127.0.0.1"):
        open(os.environ["DIALLED"], "a").write(repr(host) + "\\n")
    return looked_up(host, *rest, **named)
socket.getaddrinfo = getaddrinfo
"""

UPLOADS = 1_000
NAME, EXIF, FIELD, AGENT, ADDRESS = "mrkname7f3a", "mrkexif91bc", "mrkfield55d0", "mrkagent0e4d", "203.0.113.77"
BROKEN = b"mrkbytes8c21 is no image"
DISK = ("/tmp", "/var/tmp", "/dev/shm")


def photo(index: int) -> bytes:
    """A PNG or JPEG of an image's own pixels, with words in its EXIF."""
    pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010E] = exif[0x9286] = f"{EXIF} 52.5163 N 13.3777 E"
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG" if index % 3 else "PNG", exif=exif, quality=95)
    return buffer.getvalue()


def marks(photos: list[bytes]) -> list[bytes]:
    """What must be found nowhere: words, and pieces of files and pixels as they are, in base64 and in hexadecimal."""
    words = [mark.encode() for mark in (NAME, EXIF, FIELD, AGENT, ADDRESS)] + [BROKEN[:12]]
    pieces = [data[len(data) // 2 :][:24] for data in photos[::100]]
    pieces += [np.asarray(Image.open(io.BytesIO(data))).tobytes()[:24] for data in photos[::100]]
    return words + [form for piece in pieces for form in (piece, base64.b64encode(piece), piece.hex().encode())]


def upload_all(server: Server, photos: list[bytes]) -> list[int]:
    """Every photo once, alone or with others, as a form or as the body, and something broken now and then."""
    headers = {"User-Agent": AGENT, "X-Forwarded-For": ADDRESS, "Referer": f"http://{NAME}/"}
    found = []
    with httpx2.Client(base_url=server.url(""), headers=headers, timeout=60) as client:
        for index, data in enumerate(photos):
            file = (f"{NAME}-{index}.png", BROKEN if index % 50 == 7 else data)
            match index % 4:
                case 0:
                    answer = client.post("/predict", files={"file": file}, data={FIELD: FIELD})
                case 1:
                    answer = client.post("/predict", content=file[1], params={"note": NAME})
                case 2:
                    answer = client.post("/predict/batch", files=[("files", file), ("files", (NAME, b""))])
                case _:
                    answer = client.post(f"/{NAME}" if index % 100 == 3 else "/predict", files={"file": file})
            found.append(answer.status_code)
    return found


def written_since(before: float, folders: list[Path]) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= before:
                    yield path, path.read_bytes()
            except OSError:
                continue  # somebody else's, and gone already


@pytest.mark.process
@pytest.mark.timeout(300)
def test_nothing_of_a_thousand_uploads_is_kept_on_disk_in_logs_or_in_metrics(tmp_path):
    photos = [photo(index) for index in range(UPLOADS)]
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    began = tmp_path.stat().st_mtime
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    with serving(tmp_path, workers="2", log_level="debug", **places) as server:
        codes = upload_all(server, photos)
        metrics = httpx2.get(server.url("/metrics")).content
        assert stop(server) == 0
    assert {code: codes.count(code) for code in set(codes)} == {200: codes.count(200), 404: 10, 415: codes.count(415)}
    assert codes.count(200) > 900 and codes.count(415) > 10
    assert metrics.count(b"\n") > 50 and len(server.log.read_text().splitlines()) > UPLOADS
    wanted = marks(photos)
    searched = [tmp_path, ROOT / "app", ROOT / "model_store", *map(Path, {*DISK, tempfile.gettempdir()})]
    left = {path: [mark for mark in wanted if mark in content] for path, content in written_since(began, searched)}
    assert server.log in left and not any(left.values()), {path: found for path, found in left.items() if found}
    assert not any(mark in metrics for mark in wanted)
    assert list((tmp_path / "home").iterdir()) == list((tmp_path / "temporary").iterdir()) == []


def test_the_search_would_find_what_was_kept(tmp_path):
    photos = [photo(index) for index in range(101)]
    (tmp_path / "kept").write_bytes(b"before " + photos[100] + b" after")
    (tmp_path / "log").write_text(f'{{"file": "{NAME}-3.png"}}')
    contents = dict(written_since(0, [tmp_path]))
    found = {path.name for path, content in contents.items() if any(mark in content for mark in marks(photos))}
    assert found == {"kept", "log"}


@pytest.mark.process
def test_nothing_dials_out_and_nothing_of_an_upload_is_written(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(RECORDER)
    (tmp_path / "home").mkdir()
    dialled = tmp_path / "dialled"
    moved = {"PYTHONPATH": str(tmp_path / "site"), "DIALLED": str(dialled)}
    moved |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    with serving(tmp_path, workers="2", drain_seconds="0", **moved) as server:
        files = {"file": ("marked-file-name.png", png() + b"marked-content" * 200_000)}
        assert httpx2.post(server.url("/predict?marked-query=1"), files=files).status_code == 200
        httpx2.post(server.url("/marked-path.png"), content=b"marked-content")
        metrics = httpx2.get(server.url("/metrics")).text
        assert stop(server) == 0
        log = server.log.read_text()
    assert not dialled.exists(), dialled.read_text()
    assert "marked" not in metrics and b"marked" not in b"".join(
        f.read_bytes() for f in (tmp_path / "metrics").iterdir()
    )
    assert "marked" not in log and set(re.findall(r"127\.0\.0\.1:(\d+)", log)) == {str(server.port)}
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
