"""Owns how CIFAR-10's binary version gets onto this machine: download or local copy, checked, unpacked, in place.

Every byte that arrives is hostile until its SHA-256 is the published one: nothing is unpickled, no path or link of an
archive is followed, every size has a limit, and a batch gets its final name only when all of them are verified.
Must not know what the records mean (`data.py` does), nor networks, nor the command line.
"""

import gzip
import hashlib
import http.client
import re
import ssl
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from http.client import HTTPMessage
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from training.errors import TrainingError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"  # about 170 MB
FOLDER = "cifar-10-batches-bin"
PART = "cifar-10-binary.tar.gz.part"
META = "batches.meta.txt"  # the label names for people; carried along unchecked, because nothing reads it

BATCHES: dict[str, str] = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
FILE_LIMIT = 30_730_000  # bytes: 10,000 records of 1 + 3,072, what every batch has
TOTAL_LIMIT = 400_000_000  # bytes of one download, and of what one archive unpacks to: twice what is honest
CHUNK = 1 << 18
TIMEOUT_S = 30.0  # of one silence on the socket, not of the whole download
ATTEMPTS = 5
PAUSE_S = 2.0

Say = Callable[[str], None]
Take = Callable[[str, IO[bytes]], None]
Answer = http.client.HTTPResponse | urllib.error.HTTPError  # the standard library's 416 is an exception


class FetchError(TrainingError):
    """The data could not be had; the text says what was wrong, what was received and what to do."""


class _DamagedError(Exception):
    """What is wrong with the bytes. What to do depends on where they came from, so the caller adds that."""


class _DroppedError(Exception):
    """The exchange failed in a way that may pass: worth another attempt."""


def fetch(
    destination: Path,
    *,
    url: str = URL,
    source: Path | None = None,
    batches: Mapping[str, str] = BATCHES,
    say: Say = print,
) -> Path:
    """Return `destination/cifar-10-batches-bin` with every file of `batches` (name -> SHA-256) in it and verified.

    `source` is a folder with the .bin files (directly or in `cifar-10-batches-bin`) or a .tar.gz archive; without it,
    `url` is downloaded over HTTPS, going on from what an earlier run left behind. Raises FetchError.
    """
    folder = destination / FOLDER
    try:
        if all(_sha256(folder / name) == expected for name, expected in batches.items()):
            say(f"{folder}: all {len(batches)} batches are there and verified, nothing to do")
            return folder
        destination.mkdir(parents=True, exist_ok=True)
        if source is None:
            _fetch_url(url, folder, batches, say)
        else:
            _fetch_copy(source, folder, batches)
    except OSError as error:
        raise FetchError(_disk_advice(error, destination)) from error
    say(f"{folder}: {len(batches)} batches verified")
    return folder


def _fetch_url(url: str, folder: Path, batches: Mapping[str, str], say: Say) -> None:
    part = folder.parent / PART
    _download(url, part, say)
    try:
        _install(part, folder, batches)
    except _DamagedError as error:
        part.unlink()  # kept, it would be taken for a complete download for ever
        raise FetchError(
            f"{error}; {url} did not give the published archive, and what it gave has been deleted. Run the same "
            "command to download it afresh; if that ends alike, get the archive elsewhere and pass it as the source"
        ) from error
    part.unlink()


def _fetch_copy(source: Path, folder: Path, batches: Mapping[str, str]) -> None:
    if not source.exists():
        raise FetchError(f"{source} does not exist; name a folder with the .bin files or a cifar-10-binary.tar.gz")
    try:
        _install(source, folder, batches)
    except _DamagedError as error:
        raise FetchError(f"{error}; get that copy again, or leave the source out to download it") from error


# -- from a folder or an archive to verified files ---------------------------------------------------------------------


def _install(origin: Path, folder: Path, batches: Mapping[str, str]) -> None:
    """Move the batches of `origin` into `folder`: every one is verified before the first is moved."""
    with TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as name:
        scratch = Path(name)
        read = _read_folder if origin.is_dir() else _read_archive
        read(origin, {*batches, META}, partial(_take, scratch=scratch, batches=batches))
        missing = [file for file in batches if not (scratch / file).exists()]
        if missing:
            raise _DamagedError(f"{origin} lacks {', '.join(missing)}, which CIFAR-10's binary version has")
        folder.mkdir(exist_ok=True)
        for path in scratch.iterdir():
            path.replace(folder / path.name)


def _read_folder(source: Path, wanted: Set[str], take: Take) -> None:
    inner = source / FOLDER
    for path in sorted((inner if inner.is_dir() else source).iterdir()):
        if path.name in wanted and path.is_file():
            with path.open("rb") as stream:
                take(path.name, stream)


def _read_archive(archive: Path, wanted: Set[str], take: Take) -> None:
    """Hand on regular members by their base names alone: folders, owners, modes and links have no say."""
    _check_gzip(archive)
    try:
        with _BoundedGzip(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                stream = tar.extractfile(member) if member.isreg() and name in wanted else None
                if stream is not None:
                    take(name, stream)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError) as error:
        raise _DamagedError(f"{archive} is cut short or damaged ({error})") from error


def _check_gzip(archive: Path) -> None:
    with archive.open("rb") as stream:
        start = stream.read(20)
    if start[:2] != b"\x1f\x8b":
        raise _DamagedError(f"{archive} starts with {start!r}, which is no .tar.gz (a login page or a proxy's answer?)")


class _BoundedGzip(gzip.GzipFile):
    """Stops at TOTAL_LIMIT, because a small hostile archive may hold any amount."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > TOTAL_LIMIT:
            raise _DamagedError(f"{self.name} unpacks to more than {TOTAL_LIMIT:,} bytes, twice what the dataset has")
        return data


def _take(name: str, stream: IO[bytes], scratch: Path, batches: Mapping[str, str]) -> None:
    """Write one file into `scratch`, hashing on the way."""
    digest, size = hashlib.sha256(), 0
    with (scratch / name).open("wb") as out:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > FILE_LIMIT:
                raise _DamagedError(f"{name} is larger than a batch, which has {FILE_LIMIT:,} bytes")
            digest.update(chunk)
            out.write(chunk)
    found, expected = digest.hexdigest(), batches.get(name)
    if expected not in (None, found):
        raise _DamagedError(f"{name} ({size:,} bytes) has SHA-256 {found}, expected {expected}")


def _sha256(path: Path) -> str | None:
    """The file's SHA-256 in hexadecimal, or None where there is no file."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# -- from an address to a complete archive -----------------------------------------------------------------------------


def _download(url: str, part: Path, say: Say) -> None:
    """Complete `part`, in a few attempts that each go on from what is there."""
    if urlsplit(url).scheme != "https":
        raise FetchError(f"the data is fetched over HTTPS only, the address is {url!r}; use one with https://")
    context = ssl.create_default_context()
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _HttpsRedirects())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _attempt(opener, url, part, say)
            return
        except _DroppedError as error:
            reason = str(error)
        say(f"attempt {attempt} of {ATTEMPTS} failed: {reason}")
        if attempt < ATTEMPTS:
            time.sleep(PAUSE_S)
    raise FetchError(
        f"{url} could not be downloaded in {ATTEMPTS} attempts, the last one failed with: {reason}. "
        f"{_size(part):,} bytes are kept in {part}: run the same command again to resume, or pass a local copy"
    )


def _attempt(opener: urllib.request.OpenerDirector, url: str, part: Path, say: Say) -> None:
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with _open(opener, request) as answer:
        offer = _offer(answer, have)
        if offer is None:
            part.unlink(missing_ok=True)  # whatever it is, it is no beginning of what the server has
            raise _DroppedError(f"the {have:,} bytes kept do not fit what the server has; starting again")
        start, total = offer
        _refuse_oversize(total or 0, part)
        if answer.status != 416:
            say(f"downloading {url}, from byte {start:,} of {'?' if total is None else format(total, ',')}")
            _receive(answer, part, start, total)


def _open(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> Answer:
    """Send the request; 416 is an answer. Raises _DroppedError for a failure that may pass, FetchError for others."""
    try:
        answer: Answer = opener.open(request, timeout=TIMEOUT_S)
        return answer
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code >= 500 or error.code == 429:
            raise _DroppedError(f"the server answered {error.code} {error.reason}") from error
        raise FetchError(
            f"{request.full_url}: the server answered {error.code} {error.reason}; check the address, "
            "or get the archive elsewhere and pass it as the source"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise FetchError(_certificate_advice(request.host, cause)) from error
        raise _DroppedError(f"no answer ({cause!r})") from error


def _offer(answer: Answer, have: int) -> tuple[int, int | None] | None:
    """Where the body belongs and the whole archive's size (None: not said), or None if the answer fits not `have`."""
    length = answer.headers.get("Content-Length", "")
    said = answer.headers.get("Content-Range", "")
    if answer.status == 416:
        return (have, have) if have and said == f"bytes */{have}" else None
    if answer.status != 206:
        return 0, int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", said)
    if match is None or int(match[1]) != have:
        return None
    return have, None if match[2] == "*" else int(match[2])


def _receive(answer: Answer, part: Path, start: int, total: int | None) -> None:
    """Append the body to the first `start` bytes of `part`; what arrived stays there if the connection drops."""
    console = Console(stderr=True)
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    with part.open("ab" if start else "wb") as out, progress:
        task = progress.add_task("", total=total, completed=start)
        for chunk in _chunks(answer):
            out.write(chunk)
            progress.advance(task, len(chunk))
            _refuse_oversize(out.tell(), part)
        size = out.tell()
    if total is not None and size < total:
        raise _DroppedError(f"the connection ended at byte {size:,} of {total:,}")


def _chunks(answer: Answer) -> Iterator[bytes]:
    """Yield the body. Only the network is read in here, so that a full disk is not taken for a dropped connection."""
    while True:
        try:
            chunk = answer.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _DroppedError(f"the connection broke ({error!r})") from error
        if not chunk:
            return
        yield chunk


def _refuse_oversize(size: int, part: Path) -> None:
    if size > TOTAL_LIMIT:
        part.unlink(missing_ok=True)
        raise FetchError(
            f"the server offers {size:,} bytes or more, the limit is {TOTAL_LIMIT:,}; check the address, "
            "or get the archive elsewhere and pass it as the source"
        )


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where the connection stays encrypted and the server certified."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # otherwise the standard library reads the whole of this body into memory, however long
        if urlsplit(newurl).scheme != "https":
            raise FetchError(
                f"{req.full_url} redirects to {newurl}, which is not HTTPS; use an address that stays on HTTPS, "
                "or get the archive elsewhere and pass it as the source"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _certificate_advice(host: str, error: ssl.SSLCertVerificationError) -> str:
    paths = ssl.get_default_verify_paths()
    return (
        f"the certificate of {host} cannot be trusted: {error.verify_message}. Trusted roots were looked for in "
        f"{paths.cafile or paths.capath or 'no place at all'}. Check that this machine's clock is right. Install the "
        "CA bundle (Debian: `apt-get install ca-certificates`; Python from python.org on macOS: run `Install "
        "Certificates.command`). Where a company's proxy re-signs HTTPS, put its root certificate into a PEM file and "
        "point SSL_CERT_FILE at it. Switching certificate checks off is never the fix: anybody on the way could answer"
    )


def _disk_advice(error: OSError, destination: Path) -> str:
    return (
        f"{error.filename or destination}: {error.strerror or error}; a fetch reads its source and needs a folder it "
        "may write to with about 400 MB free: check permissions and space, or choose another folder"
    )
