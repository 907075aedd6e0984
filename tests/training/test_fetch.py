"""How `training.fetch` treats good, bad and broken answers, over real HTTPS from a server in this process."""

import gzip
import hashlib
import http.server
import io
import os
import random
import re
import ssl
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from training import fetch as fetching
from training.fetch import BATCHES, FOLDER, META, PART, FetchError, fetch

CONTENT = {f"data_batch_{n}.bin": random.Random(n).randbytes(6_000) for n in (1, 2)}
TABLE = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
LABELS = b"airplane\nautomobile\n"


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar_gz(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


MEMBERS = [member(f"{FOLDER}/{name}", data) for name, data in {**CONTENT, META: LABELS}.items()]
ARCHIVE = tar_gz(member(FOLDER, type=tarfile.DIRTYPE), member(f"{FOLDER}/readme.html", b"<p>"), *MEMBERS)
WRONG_ARCHIVE = tar_gz(MEMBERS[0], member(f"{FOLDER}/data_batch_2.bin", b"\0" * 6_000))

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
    """What a good server does with the archive: the whole of it, or what the Range header asks for."""
    start = int((request.headers["Range"] or "bytes=0-")[6:-1])
    if start >= len(ARCHIVE):
        request.reply(416, b"", Content_Range=f"bytes */{len(ARCHIVE)}")
    elif start:
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
    """What a user behind a company's proxy does; and no waiting between attempts."""
    bundle = tmp_path_factory.mktemp("trust") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetching, "PAUSE_S", 0)


def get(tmp_path: Path, server: Server, say: Callable[[str], None] = print) -> Path:
    return fetch(tmp_path / "data", url=server.url, batches=TABLE, say=say)


def copy(tmp_path: Path, source: Path) -> Path:
    return fetch(tmp_path / "data", source=source, batches=TABLE)


def archive(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "copy.tar.gz"
    path.write_bytes(data)
    return path


def batches_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left_in(tmp_path: Path) -> list[str]:
    """Everything under the destination, as names."""
    return sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*"))


def refusal(tmp_path: Path, authority: trustme.CA, *script: Answer) -> str:
    with serving(authority, *script) as server, pytest.raises(FetchError) as caught:
        get(tmp_path, server)
    return str(caught.value)


# -- downloads ---------------------------------------------------------------------------------------------------------


def test_fetch_downloads_verifies_and_leaves_only_the_batches(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, resuming) as server:
        folder = get(tmp_path, server)
    assert folder == tmp_path / "data" / FOLDER
    assert batches_in(folder) == {**CONTENT, META: LABELS}
    assert [path.name for path in folder.parent.iterdir()] == [FOLDER]
    assert server.ranges == [None]


def test_fetch_resumes_a_broken_download(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(200, ARCHIVE, sent=5_000), resuming) as server:
        folder = get(tmp_path, server)
    assert CONTENT.items() <= batches_in(folder).items()
    assert server.ranges == [None, "bytes=5000-"]
    assert server.sent == len(ARCHIVE)


def test_fetch_resumes_a_resumed_download(tmp_path: Path, authority: trustme.CA) -> None:
    where = f"bytes 5000-{len(ARCHIVE) - 1}/{len(ARCHIVE)}"
    again = reply(206, ARCHIVE[5_000:], sent=2_000, Content_Range=where)
    with serving(authority, reply(200, ARCHIVE, sent=5_000), again, resuming) as server:
        get(tmp_path, server)
    assert server.ranges == [None, "bytes=5000-", "bytes=7000-"]


def test_fetch_gives_up_keeping_the_part_and_the_next_run_resumes(tmp_path: Path, authority: trustme.CA) -> None:
    message = refusal(tmp_path, authority, reply(200, ARCHIVE, sent=5_000), reply(503))
    assert "503" in message
    assert "same command again to resume" in message
    assert (tmp_path / "data" / PART).read_bytes() == ARCHIVE[:5_000]
    with serving(authority, resuming) as server:
        get(tmp_path, server)
    assert server.ranges == ["bytes=5000-"]
    assert server.sent == len(ARCHIVE) - 5_000


def test_fetch_starts_again_when_the_server_ignores_ranges(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(200, ARCHIVE, sent=5_000), reply(200, ARCHIVE)) as server:
        folder = get(tmp_path, server)
    assert CONTENT.items() <= batches_in(folder).items()
    assert server.ranges == [None, "bytes=5000-"]


def test_fetch_uses_a_part_that_is_already_complete(tmp_path: Path, authority: trustme.CA) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PART).write_bytes(ARCHIVE)
    with serving(authority, resuming) as server:
        folder = get(tmp_path, server)
    assert CONTENT.items() <= batches_in(folder).items()
    assert server.sent == 0


@pytest.mark.parametrize(
    "answer",
    [
        resuming,
        reply(416),
        reply(206, ARCHIVE, Content_Range=f"bytes 0-{len(ARCHIVE) - 1}/{len(ARCHIVE)}"),
        reply(206, ARCHIVE),
        reply(206, ARCHIVE, Content_Range="bytes twenty-thirty/forty"),
    ],
    ids=["416", "416 without a size", "206 from elsewhere", "206 without a range", "206 with a broken range"],
)
def test_fetch_drops_a_stale_part(tmp_path: Path, authority: trustme.CA, answer: Answer) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PART).write_bytes(b"x" * (len(ARCHIVE) + 1))
    with serving(authority, answer, resuming) as server:
        folder = get(tmp_path, server)
    assert CONTENT.items() <= batches_in(folder).items()
    assert server.ranges == [f"bytes={len(ARCHIVE) + 1}-", None]


def test_fetch_takes_an_answer_of_unknown_length(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(200, ARCHIVE, Content_Length=None)) as server:
        assert CONTENT.items() <= batches_in(get(tmp_path, server)).items()


def test_fetch_retries_a_server_error(tmp_path: Path, authority: trustme.CA) -> None:
    said: list[str] = []
    with serving(authority, reply(500), lambda request: None, resuming) as server:
        get(tmp_path, server, said.append)
    assert len(server.ranges) == 3
    assert "attempt 1 of 5 failed: the server answered 500" in said[0]


def test_fetch_does_not_retry_a_missing_page(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(404, b"gone")) as server, pytest.raises(FetchError, match=r"answered 404.*address"):
        get(tmp_path, server)
    assert len(server.ranges) == 1
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (WRONG_ARCHIVE, f"data_batch_2.bin .*{hashlib.sha256(bytes(6_000)).hexdigest()}.*{TABLE['data_batch_2.bin']}"),
        (ARCHIVE[:9_000], "cut short or damaged"),
        (ARCHIVE[:9_000] + b"!!!!" + ARCHIVE[9_004:], "damaged|SHA-256"),
        (gzip.compress(b"no tar"), "cut short or damaged"),
        (b"<!DOCTYPE html><title>Log in</title>", "login page"),
        (b"", "no .tar.gz"),
    ],
    ids=["wrong hash", "truncated", "flipped bytes", "gzip of something else", "HTML", "nothing"],
)
def test_fetch_deletes_a_download_that_is_not_the_archive(
    tmp_path: Path, authority: trustme.CA, body: bytes, complaint: str
) -> None:
    assert re.search(f"{complaint}.*same command", refusal(tmp_path, authority, reply(200, body)))
    assert left_in(tmp_path) == []


def test_fetch_follows_a_redirect_within_https(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, reply(302, b"moved", Location="/elsewhere.tar.gz"), resuming) as server:
        assert CONTENT.items() <= batches_in(get(tmp_path, server)).items()
    assert len(server.ranges) == 2


@pytest.mark.parametrize(
    ("scheme", "complaint"), [("http", "is not HTTPS"), ("ftp", "is not HTTPS"), ("file", "is not allowed")]
)
def test_fetch_refuses_a_redirect_away_from_https(
    tmp_path: Path, authority: trustme.CA, scheme: str, complaint: str
) -> None:
    elsewhere = f"{scheme}://localhost:1/cifar.tar.gz"
    assert re.search(f"{elsewhere}.*{complaint}", refusal(tmp_path, authority, reply(302, Location=elsewhere)))


@pytest.mark.parametrize("url", ["http://localhost:1/x.tar.gz", "file:///etc/hostname", "ftp://localhost/x", "x"])
def test_fetch_refuses_an_address_without_https(tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchError, match="HTTPS only"):
        fetch(tmp_path, url=url, batches=TABLE)


def test_fetch_explains_the_right_fix_for_an_untrusted_certificate(tmp_path: Path) -> None:
    with serving(trustme.CA(), resuming) as server, pytest.raises(FetchError) as caught:
        get(tmp_path, server)
    message = str(caught.value)
    assert server.ranges == []
    for advice in ("localhost", "SSL_CERT_FILE", "ca-certificates", "clock", "Install Certificates.command", "never"):
        assert advice in message
    for poison in ("verify=", "CERT_NONE", "unverified", "insecure", "PYTHONHTTPSVERIFY", "http://"):
        assert poison not in message


def test_fetch_refuses_a_certificate_of_another_host(tmp_path: Path, authority: trustme.CA) -> None:
    with serving(authority, resuming) as server, pytest.raises(FetchError, match=r"127.0.0.1.*cannot be trusted"):
        fetch(tmp_path, url=server.url.replace("localhost", "127.0.0.1"), batches=TABLE)


@pytest.mark.parametrize(
    ("length", "complaint"),
    [(10**12, "offers 1,000,000,000,000 bytes"), (None, "limit is 4,000")],
    ids=["announced", "not announced"],
)
def test_fetch_stops_a_download_that_would_fill_the_disk(
    tmp_path: Path, authority: trustme.CA, length: int | None, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TOTAL_LIMIT", 4_000)
    assert complaint in refusal(tmp_path, authority, reply(200, ARCHIVE, Content_Length=length))
    assert left_in(tmp_path) == []


def test_fetch_reports_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"5 attempts.*refused"):
        fetch(tmp_path, url="https://localhost:1/x.tar.gz", batches=TABLE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_fetch_reports_a_full_disk_without_asking_again(tmp_path: Path, authority: trustme.CA) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PART).symlink_to("/dev/full")
    with serving(authority, resuming) as server, pytest.raises(FetchError, match=r"No space left.*check permissions"):
        get(tmp_path, server)
    assert len(server.ranges) == 1


# -- local copies and what is already there ----------------------------------------------------------------------------


def test_fetch_leaves_a_complete_folder_alone(tmp_path: Path) -> None:
    folder = copy(tmp_path, archive(tmp_path, ARCHIVE))
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    said: list[str] = []
    assert fetch(tmp_path / "data", url="https://localhost:1/", batches=TABLE, say=said.append) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert "nothing to do" in said[0]


def test_fetch_replaces_a_damaged_batch(tmp_path: Path) -> None:
    folder = tmp_path / "data" / FOLDER
    folder.mkdir(parents=True)
    (folder / "data_batch_1.bin").write_bytes(b"cut")
    copy(tmp_path, archive(tmp_path, ARCHIVE))
    assert CONTENT.items() <= batches_in(folder).items()


@pytest.mark.parametrize("inner", ["", FOLDER], ids=["directly", "in the dataset's folder"])
def test_fetch_takes_a_folder(tmp_path: Path, inner: str) -> None:
    source = tmp_path / "source" / inner
    source.mkdir(parents=True)
    for name, data in {**CONTENT, "data_batch_9.bin": b"unknown"}.items():
        (source / name).write_bytes(data)
    assert batches_in(copy(tmp_path, tmp_path / "source")) == CONTENT


def test_fetch_takes_an_archive_and_leaves_it_there(tmp_path: Path) -> None:
    source = archive(tmp_path, ARCHIVE)
    assert batches_in(copy(tmp_path, source)) == {**CONTENT, META: LABELS}
    assert source.read_bytes() == ARCHIVE


def test_fetch_refuses_a_damaged_folder_and_keeps_what_was_good(tmp_path: Path) -> None:
    folder, source = tmp_path / "data" / FOLDER, tmp_path / "source"
    folder.mkdir(parents=True)
    source.mkdir()
    (folder / "data_batch_1.bin").write_bytes(CONTENT["data_batch_1.bin"])
    (source / "data_batch_1.bin").write_bytes(CONTENT["data_batch_1.bin"])
    (source / "data_batch_2.bin").write_bytes(CONTENT["data_batch_2.bin"][:-1])
    with pytest.raises(FetchError, match=r"data_batch_2.bin \(5,999 bytes\).*expected.*copy again"):
        copy(tmp_path, source)
    assert left_in(tmp_path) == [FOLDER, f"{FOLDER}/data_batch_1.bin"]


def test_fetch_refuses_a_damaged_archive(tmp_path: Path) -> None:
    source = archive(tmp_path, ARCHIVE[:9_000])
    with pytest.raises(FetchError, match=r"cut short or damaged.*copy again"):
        copy(tmp_path, source)
    assert source.exists()
    assert left_in(tmp_path) == []


def test_fetch_names_the_batches_a_copy_lacks(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"lacks data_batch_2\.bin"):
        copy(tmp_path, archive(tmp_path, tar_gz(MEMBERS[0])))


def test_fetch_reports_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="does not exist"):
        copy(tmp_path, tmp_path / "nowhere")


def test_fetch_reports_a_destination_it_cannot_write_to(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should go")
    with pytest.raises(FetchError, match=r"data: .*check permissions"):
        copy(tmp_path, archive(tmp_path, ARCHIVE))


# -- hostile archives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["../../", "/", "a/../../../", "//"], ids=["parent", "root", "winding", "two roots"])
def test_fetch_never_writes_where_a_member_points(tmp_path: Path, prefix: str) -> None:
    hostile = [member(f"{prefix}{tmp_path}/escaped-{name}", b"x") for name in CONTENT]
    astray = [member(f"{prefix}{tmp_path.name}/{name}", data) for name, data in CONTENT.items()]
    source = archive(tmp_path, tar_gz(*hostile, *astray))
    assert batches_in(copy(tmp_path, source)) == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.tar.gz", "data"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_fetch_does_not_take_a_link_or_device_for_a_batch(tmp_path: Path, kind: bytes) -> None:
    name = "data_batch_1.bin"
    (tmp_path / name).write_bytes(CONTENT[name])
    link = member(f"{FOLDER}/{name}", type=kind, linkname=str(tmp_path / name))
    with pytest.raises(FetchError, match=r"lacks data_batch_1\.bin"):
        copy(tmp_path, archive(tmp_path, tar_gz(link, MEMBERS[1])))
    assert left_in(tmp_path) == []


def test_fetch_does_not_write_through_a_link_in_the_archive(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    link = member(f"{FOLDER}/data_batch_1.bin", type=tarfile.SYMTYPE, linkname=str(victim))
    copy(tmp_path, archive(tmp_path, tar_gz(link, *MEMBERS)))
    assert victim.read_bytes() == b"untouched"


def test_fetch_refuses_a_giant_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FILE_LIMIT", 5_999)
    with pytest.raises(FetchError, match="larger than a batch"):
        copy(tmp_path, archive(tmp_path, ARCHIVE))
    assert left_in(tmp_path) == []


def test_fetch_refuses_an_archive_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TOTAL_LIMIT", 100_000)
    bomb = tar_gz(member("zeros", bytes(1_000_000)), *MEMBERS)
    assert len(bomb) < 20_000
    with pytest.raises(FetchError, match="unpacks to more than 100,000 bytes"):
        copy(tmp_path, archive(tmp_path, bomb))


def test_fetch_survives_headers_nested_without_end(tmp_path: Path) -> None:
    headers = [member("././@LongLink", b"name\0", type=tarfile.GNUTYPE_LONGNAME)] * 2_000
    with pytest.raises(FetchError, match="damaged"):
        copy(tmp_path, archive(tmp_path, tar_gz(*headers, *MEMBERS)))


@settings(deadline=None)
@given(place=st.integers(0, 20), offset=st.integers(0, 511), value=st.binary(min_size=1, max_size=12))
def test_fetch_gives_verified_batches_or_its_own_error_for_any_damage(place: int, offset: int, value: bytes) -> None:
    plain = bytearray(gzip.decompress(ARCHIVE))
    start = min(place * 512 + offset, len(plain) - len(value))
    plain[start : start + len(value)] = value
    with tempfile.TemporaryDirectory() as name, suppress(FetchError):
        folder = copy(Path(name), archive(Path(name), gzip.compress(bytes(plain), 1)))
        assert CONTENT.items() <= batches_in(folder).items()


# -- the published table -----------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.skipif("CIFAR10_DATA" not in os.environ, reason="CIFAR10_DATA does not say where the real batches are")
def test_the_table_fits_the_real_batches(tmp_path: Path) -> None:
    data = Path(os.environ["CIFAR10_DATA"])
    (tmp_path / FOLDER).symlink_to(data / FOLDER if (data / FOLDER).is_dir() else data)
    said: list[str] = []
    fetch(tmp_path, url="https://localhost:1/", say=said.append)
    assert "nothing to do" in said[0]
    assert len(BATCHES) == 6
