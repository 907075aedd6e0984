"""How `training.data.fetch` treats good, bad and broken answers, over real HTTPS from a server in this process."""

import hashlib
import http.server
import io
import itertools
import os
import random
import re
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from training.data import fetch as fetching
from training.data.cifar10 import FOLDER
from training.data.fetch import CIFAR10, PART, FetchError, Published, fetch

CONTENT = {f"data_batch_{n}.bin": random.Random(n).randbytes(6_000) for n in (1, 2)}
NOWHERE = "https://localhost:1/cifar-10-binary.tar.gz"


def tar_gz(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVE = tar_gz({**CONTENT, "readme.html": b"<p>"})


def published(archive: bytes = ARCHIVE, url: str = NOWHERE) -> Published:
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
    return Published(url, hashlib.sha256(archive).hexdigest(), len(archive), hashes)


Answer = Callable[["Request"], None]


class Request(http.server.BaseHTTPRequestHandler):
    """One request, answered by the next line of the server's script; the last line answers all that follow."""

    server: "Server"

    def do_GET(self) -> None:
        script = self.server.script
        self.server.ranges.append(self.headers["Range"])
        with suppress(OSError):  # a client that has seen enough hangs up
            (script.pop(0) if len(script) > 1 else script[0])(self)

    def reply(self, status: int, body: bytes, sent: int | None = None, **headers: object) -> None:
        """Announce `body`, but send only its first `sent` bytes."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.server.sent += self.wfile.write(body[:sent])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output to the test's own."""


class Server(http.server.HTTPServer):
    """A web server with a script; `ranges` has every request's Range header, `sent` counts the bytes of bodies."""

    def __init__(self, script: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.script, self.ranges, self.sent = script, list[str | None](), 0
        self.url = f"https://localhost:{self.server_port}/cifar-10-binary.tar.gz"


def resuming(request: Request) -> None:
    """Send the archive, or the rest of it that the Range header asks for."""
    start = int((request.headers["Range"] or "bytes=0-")[6:-1])
    if start:
        where = f"bytes {start}-{len(ARCHIVE) - 1}/{len(ARCHIVE)}"
        request.reply(206, ARCHIVE[start:], Content_Range=where)
    else:
        request.reply(200, ARCHIVE)


def reply(status: int, body: bytes = b"", sent: int | None = None, **headers: object) -> Answer:
    return lambda request: request.reply(status, body, sent, **headers)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def serving(authority: trustme.CA, *script: Answer) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Server(list(script)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def trust(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the server as a user behind a company's proxy would, and do not pause between attempts."""
    bundle = tmp_path_factory.mktemp("trust") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetching, "PAUSE_S", 0)


def get(tmp_path: Path, server: Server, say: Callable[[str], None] = print) -> Path:
    return fetch(tmp_path / "data", published=published(url=server.url), say=say)


def copy(tmp_path: Path, source: Path) -> Path:
    return fetch(tmp_path / "data", source=source, published=published())


def archive(tmp_path: Path, data: bytes = ARCHIVE) -> Path:
    path = tmp_path / "copy.tar.gz"
    path.write_bytes(data)
    return path


def part(tmp_path: Path, data: bytes) -> Path:
    """An interrupted download of an earlier run."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / PART
    path.write_bytes(data)
    return path


def batches_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left_in(tmp_path: Path) -> list[str]:
    """Everything under the destination, as names."""
    return sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*"))


# -- downloads ---------------------------------------------------------------------------------------------------------


def test_fetch_downloads_verifies_and_leaves_only_the_batches(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, resuming) as server:
        folder = get(tmp_path, server)
    assert folder == tmp_path / "data" / FOLDER
    assert batches_in(folder) == CONTENT
    assert [path.name for path in folder.parent.iterdir()] == [FOLDER]
    assert server.ranges == [None]


def test_fetch_resumes_a_broken_download(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(200, ARCHIVE, sent=5_000), resuming) as server:
        assert batches_in(get(tmp_path, server)) == CONTENT
    assert server.ranges == [None, "bytes=5000-"]
    assert server.sent == len(ARCHIVE)


def test_fetch_resumes_a_resumed_download(tmp_path: Path, authority: trustme.CA) -> None:
    again = reply(206, ARCHIVE[5_000:], sent=2_000)
    with serving(authority, reply(200, ARCHIVE, sent=5_000), again, resuming) as server:
        get(tmp_path, server)
    assert server.ranges == [None, "bytes=5000-", "bytes=7000-"]


def test_fetch_without_a_terminal_prints_a_line_a_minute(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching, "CHUNK", 5_000)
    clock = itertools.count(0.0, 15.0).__next__  # the clock is asked twice a chunk or three times
    with serving(authority, resuming) as server:
        fetch(tmp_path / "data", published=published(url=server.url), clock=clock)
    first, *others = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"0\.0 of 0\.0 MB \(\d+%\), 0\.00 MB/s, \d:\d\d left", first), first
    assert len(others) < len(ARCHIVE) / 5_000 / 2


def test_fetch_gives_up_keeping_the_part_and_the_next_run_resumes(tmp_path: Path, authority: trustme.CA) -> None:
    with (
        serving(authority, reply(200, ARCHIVE, sent=5_000), reply(503)) as server,
        pytest.raises(FetchError, match=r"answered 503.*5,000 bytes are kept.*same command again to resume.*--from"),
    ):
        get(tmp_path, server)
    assert (tmp_path / "data" / PART).read_bytes() == ARCHIVE[:5_000]
    with serving(authority, resuming) as server:
        get(tmp_path, server)
    assert server.ranges == ["bytes=5000-"]
    assert server.sent == len(ARCHIVE) - 5_000


def test_fetch_starts_again_when_the_server_ignores_ranges(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(200, ARCHIVE, sent=5_000), reply(200, ARCHIVE)) as server:
        assert batches_in(get(tmp_path, server)) == CONTENT
    assert server.ranges == [None, "bytes=5000-"]


def test_fetch_uses_a_part_that_is_already_complete(tmp_path: Path) -> None:
    part(tmp_path, ARCHIVE)
    assert batches_in(fetch(tmp_path / "data", published=published())) == CONTENT


@pytest.mark.parametrize("stale", [b"x" * 5_000, b"x" * (len(ARCHIVE) + 1)], ids=["beginning", "too long"])
def test_fetch_deletes_a_part_of_something_else(tmp_path: Path, authority: trustme.CA, stale: bytes) -> None:
    part(tmp_path, stale)
    with serving(authority, resuming) as server:
        with pytest.raises(FetchError, match=r"SHA-256 .*same command to download it again"):
            get(tmp_path, server)
        assert left_in(tmp_path) == []
        assert batches_in(get(tmp_path, server)) == CONTENT


def test_fetch_reads_no_more_than_the_archive_has(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(200, ARCHIVE + bytes(1_000_000), Content_Length=None)) as server:
        assert batches_in(get(tmp_path, server)) == CONTENT


def test_fetch_retries_a_server_error(tmp_path: Path, authority: trustme.CA) -> None:
    messages: list[str] = []
    with serving(authority, reply(500), lambda request: None, resuming) as server:
        get(tmp_path, server, messages.append)
    assert len(server.ranges) == 3
    assert "attempt 1 of 5 failed: the server answered 500" in messages[0]


def test_fetch_does_not_retry_a_missing_page(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(404, b"gone")) as server, pytest.raises(FetchError, match=r"answered 404.*--from"):
        get(tmp_path, server)
    assert len(server.ranges) == 1
    assert left_in(tmp_path) == []


def test_fetch_deletes_a_download_that_is_not_the_archive(tmp_path: Path, authority: trustme.CA) -> None:
    other = ARCHIVE[:9_000] + b"!!!!" + ARCHIVE[9_004:]
    with serving(authority, reply(200, other)) as server, pytest.raises(FetchError) as caught:
        get(tmp_path, server)
    assert hashlib.sha256(other).hexdigest() in str(caught.value) and published().sha256 in str(caught.value)
    assert left_in(tmp_path) == []


def test_fetch_names_an_answer_that_cannot_be_the_archive(tmp_path: Path, authority: trustme.CA) -> None:
    with (
        serving(authority, reply(200, b"<!DOCTYPE html><title>Log in</title>")) as server,
        pytest.raises(FetchError, match=r"offers 36 bytes.*login page.*--from"),
    ):
        get(tmp_path, server)
    assert left_in(tmp_path) == []


def test_fetch_explains_the_right_fix_for_an_untrusted_certificate(tmp_path: Path) -> None:
    with serving(trustme.CA(), resuming) as server, pytest.raises(FetchError) as caught:
        get(tmp_path, server)
    message = str(caught.value)
    assert server.ranges == []
    for advice in (
        "localhost",
        "SSL_CERT_FILE",
        "ca-certificates",
        "clock",
        "Install Certificates.command",
        "Never switch off certificate checks",
    ):
        assert advice in message
    for poison in ("verify=", "CERT_NONE", "unverified", "insecure", "PYTHONHTTPSVERIFY", "http://"):
        assert poison not in message


def test_fetch_refuses_a_certificate_of_another_host(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, resuming) as server, pytest.raises(FetchError, match=r"127.0.0.1.*cannot be trusted"):
        fetch(tmp_path, published=published(url=server.url.replace("localhost", "127.0.0.1")))


def test_fetch_reports_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"5 attempts.*refused"):
        fetch(tmp_path, published=published())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_fetch_reports_a_full_disk_without_asking_again(tmp_path: Path, authority: trustme.CA) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PART).symlink_to("/dev/full")
    with (
        serving(authority, resuming) as server,
        pytest.raises(FetchError, match=r"part: No space left.*free some space.*400 MB"),
    ):
        get(tmp_path, server)
    assert len(server.ranges) == 1


# -- local copies and what is already there ----------------------------------------------------------------------------


def test_fetch_leaves_a_complete_folder_alone(tmp_path: Path) -> None:
    folder = copy(tmp_path, archive(tmp_path))
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    messages: list[str] = []
    assert fetch(tmp_path / "data", published=published(), say=messages.append) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert "nothing to do" in messages[0]


def test_fetch_replaces_a_damaged_batch(tmp_path: Path) -> None:
    folder = tmp_path / "data" / FOLDER
    folder.mkdir(parents=True)
    (folder / "data_batch_1.bin").write_bytes(b"cut")
    copy(tmp_path, archive(tmp_path))
    assert batches_in(folder) == CONTENT


@pytest.mark.parametrize("inner", ["", FOLDER], ids=["directly", "in the dataset's folder"])
def test_fetch_takes_a_folder(tmp_path: Path, inner: str) -> None:
    source = tmp_path / "source" / inner
    source.mkdir(parents=True)
    for name, data in {**CONTENT, "data_batch_9.bin": b"unknown"}.items():
        (source / name).write_bytes(data)
        (source / name).chmod(0o444)
    source.chmod(0o555)  # as on a read-only share, whose modes must not be copied
    folder = copy(tmp_path, tmp_path / "source")
    assert batches_in(folder) == CONTENT
    assert all(path.stat().st_mode & 0o200 for path in [folder, *folder.iterdir()])


def test_fetch_takes_an_archive_and_leaves_it_there(tmp_path: Path) -> None:
    source = archive(tmp_path)
    assert batches_in(copy(tmp_path, source)) == CONTENT
    assert source.read_bytes() == ARCHIVE


def test_fetch_refuses_a_damaged_folder_and_keeps_what_was_good(tmp_path: Path) -> None:
    folder, source = tmp_path / "data" / FOLDER, tmp_path / "source"
    folder.mkdir(parents=True)
    source.mkdir()
    (folder / "data_batch_1.bin").write_bytes(CONTENT["data_batch_1.bin"])
    (source / "data_batch_1.bin").write_bytes(CONTENT["data_batch_1.bin"])
    (source / "data_batch_2.bin").write_bytes(CONTENT["data_batch_2.bin"][:-1])
    with pytest.raises(FetchError, match=r"data_batch_2.bin has SHA-256 .*expected.*replace that copy"):
        copy(tmp_path, source)
    assert left_in(tmp_path) == [FOLDER, f"{FOLDER}/data_batch_1.bin"]


@pytest.mark.parametrize(
    "data", [ARCHIVE[:9_000], tar_gz({"../../escaped": b"x"}), b"PK"], ids=["cut", "hostile", "not a .tar.gz"]
)
def test_fetch_refuses_any_other_archive_without_opening_it(tmp_path: Path, data: bytes) -> None:
    """Opening any of these raises an error of `tarfile` or `gzip`."""
    with pytest.raises(FetchError, match=r"copy.tar.gz has SHA-256 .*the published archive.*replace that copy"):
        copy(tmp_path, archive(tmp_path, data))
    assert left_in(tmp_path) == []


def test_fetch_names_the_batch_a_copy_lacks(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "data_batch_1.bin").write_bytes(CONTENT["data_batch_1.bin"])
    with pytest.raises(FetchError, match=r"source lacks data_batch_2\.bin"):
        copy(tmp_path, tmp_path / "source")


def test_fetch_reports_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"nowhere does not exist; .*leave out --from"):
        copy(tmp_path, tmp_path / "nowhere")


def test_fetch_reports_a_destination_it_cannot_write_to(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should go")
    with pytest.raises(
        FetchError, match=r"data/cifar-10-batches-bin: Not a directory; check the path|data: File exists; remove it"
    ):
        copy(tmp_path, archive(tmp_path))


# -- the published table -----------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.skipif("CIFAR10_DATA" not in os.environ, reason="CIFAR10_DATA does not say where the real batches are")
def test_the_table_fits_the_real_batches(tmp_path: Path) -> None:
    data = Path(os.environ["CIFAR10_DATA"])
    (tmp_path / FOLDER).symlink_to(data / FOLDER if (data / FOLDER).is_dir() else data)
    messages: list[str] = []
    fetch(tmp_path, published=CIFAR10._replace(url=NOWHERE), say=messages.append)
    assert "nothing to do" in messages[0]
    assert len(CIFAR10.batches) == 6
