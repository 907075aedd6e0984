"""Fetch CIFAR-10's binary version: download it or copy it from a local folder or archive, verify, unpack.

An archive is opened only if its SHA-256 is the published one, and batches get their final names only when all of them
are verified. `cifar10.py` reads the records.
"""

import hashlib
import http.client
import shutil
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from model_store.os_errors import NO_ROOM, explain, naming
from training.data.cifar10 import FOLDER
from training.errors import TrainingError
from training.pace import Clock, Pace, format_duration

PART = "cifar-10-binary.tar.gz.part"
CHUNK = 1 << 18
TIMEOUT_S = 30.0  # for one read of the socket, not for the whole download
ATTEMPTS = 5
PAUSE_S = 2.0
NETWORK_ERRORS = urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError
ELSEWHERE = "or get the archive elsewhere and pass it with --from"


class Published(NamedTuple):
    """A published archive, and the SHA-256 of each batch in its folder `cifar-10-batches-bin`."""

    url: str
    sha256: str
    size: int  # bytes
    batches: Mapping[str, str]


# GoMLX (archive) and TorchVision for Ruby (archive and batches) have the same hashes.
CIFAR10 = Published(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    size=170_052_171,
    batches={
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
)

Say = Callable[[str], None]


class FetchError(TrainingError):
    """CIFAR-10 could not be fetched. The text names the problem, the value received and the remedy."""


def fetch(
    destination: Path,
    *,
    source: Path | None = None,
    published: Published = CIFAR10,
    say: Say = print,
    clock: Clock = time.monotonic,
) -> Path:
    """Fetch CIFAR-10 into `destination/cifar-10-batches-bin`, verify every batch and return the folder.

    Args:
        source: a folder with the .bin files (directly or in `cifar-10-batches-bin`), or the published .tar.gz. Without
            it the archive is downloaded, continuing an interrupted download.

    Raises:
        FetchError: the data is unavailable, or is not the published data.
    """
    folder, part = destination / FOLDER, destination / PART
    try:
        if all(_sha256(folder / name) == expected for name, expected in published.batches.items()):
            say(f"{folder}: all {len(published.batches)} batches are present and verified, nothing to do")
            return folder
        destination.mkdir(parents=True, exist_ok=True)
        if source:
            remedy = "replace that copy, pass a folder with the .bin files, or leave out --from to download"
            _install(source, folder, published, remedy)
        else:
            _download(published, part, say, clock)
            try:
                _install(part, folder, published, f"run the same command to download it again, {ELSEWHERE}")
            except FetchError:
                part.unlink()  # complete but wrong, so resuming it is useless
                raise
            part.unlink()
    except OSError as error:
        size = f"; fetch needs about 400 MB in {destination}" if error.errno in NO_ROOM else ""
        raise FetchError(explain(error, str(destination)) + size) from error
    say(f"{folder}: {len(published.batches)} batches verified")
    return folder


def _install(source: Path, folder: Path, published: Published, remedy: str) -> None:
    """Put the batches of a folder or archive into `folder`, once all of them are verified."""
    with TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as name:
        unpacked = Path(name) / FOLDER
        if source.is_dir():
            origin = source / FOLDER if (source / FOLDER).is_dir() else source
            unpacked.mkdir()
            for file in published.batches:
                if (origin / file).is_file():
                    with naming(folder / file):
                        shutil.copyfile(origin / file, unpacked / file)
        elif (sha256 := _sha256(source)) == published.sha256:
            with tarfile.open(source) as archive:
                archive.extractall(name, filter="data")
        else:
            reason = f"has SHA-256 {sha256}, the published archive {published.sha256}" if sha256 else "does not exist"
            raise FetchError(f"{source} {reason}; {remedy}")
        for file, expected in published.batches.items():
            if (sha256 := _sha256(unpacked / file)) != expected:
                reason = f"{file} has SHA-256 {sha256}, expected {expected}" if sha256 else f"{source} lacks {file}"
                raise FetchError(f"{reason}; {remedy}")
        folder.mkdir(exist_ok=True)
        for file in published.batches:
            (unpacked / file).replace(folder / file)


def _sha256(path: Path) -> str | None:
    """Return the file's SHA-256 in hexadecimal, or None if the file does not exist."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _download(published: Published, part: Path, say: Say, clock: Clock) -> None:
    """Complete `part` in up to five attempts, each continuing where the last one stopped."""
    for attempt in range(1, ATTEMPTS + 1):
        failure = _attempt(published, part, say, clock) if _size(part) < published.size else None
        if failure is None:
            return
        say(f"attempt {attempt} of {ATTEMPTS} failed: {failure}")
        if attempt < ATTEMPTS:
            time.sleep(PAUSE_S)
    raise FetchError(
        f"{published.url} could not be downloaded in {ATTEMPTS} attempts, the last one failed with: {failure}. "
        f"{_size(part):,} bytes are kept in {part}: run the same command again to resume, {ELSEWHERE}"
    )


def _attempt(published: Published, part: Path, say: Say, clock: Clock) -> str | None:
    """Try to complete `part`. Return the error if a retry may succeed; raise FetchError if not."""
    start = _size(part)
    request = urllib.request.Request(published.url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            length = response.headers["Content-Length"]
            if response.status != 206:  # the server sends the whole archive
                start = 0
                if length not in (None, str(published.size)):
                    raise FetchError(
                        f"{published.url}: the server offers {length} bytes, the archive has {published.size} (a login "
                        f"page or a proxy's answer?); check the network, {ELSEWHERE}"
                    )
            say(f"downloading {published.url}, from byte {start:,} of {published.size:,}")
            _receive(response, part, start, published.size, clock)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 429 or error.code >= 500:
            return f"the server answered {error.code} {error.reason}"
        raise FetchError(
            f"{published.url}: the server answered {error.code} {error.reason}; try again later, {ELSEWHERE}"
        ) from error
    except NETWORK_ERRORS as error:  # `fetch` handles a full disk
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise FetchError(_certificate_advice(request.host, cause)) from error
        return f"no answer ({cause!r})"
    size = _size(part)
    return None if size == published.size else f"the connection ended at byte {size:,} of {published.size:,}"


def _receive(response: http.client.HTTPResponse, part: Path, start: int, total: int, clock: Clock) -> None:
    """Append the body to the first `start` bytes of `part`, up to `total`.

    Shows progress on stderr: a bar on a terminal, else a line a minute.
    """
    console = Console(stderr=True)
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    pace, began, received = Pace(clock), clock(), 0
    with part.open("ab" if start else "wb") as out, progress:
        task = progress.add_task("", total=total, completed=start)
        while chunk := response.read(min(CHUNK, total - start)):
            with naming(part):
                out.write(chunk)
            start, received = start + len(chunk), received + len(chunk)
            progress.update(task, completed=start)
            if not console.is_terminal and pace.due():
                rate = received / (clock() - began)
                amount = f"{start / 1e6:,.1f} of {total / 1e6:,.1f} MB ({start / total:.0%})"
                left = format_duration((total - start) / rate)
                print(f"{amount}, {rate / 1e6:,.2f} MB/s, {left} left", file=sys.stderr, flush=True)


def _certificate_advice(host: str, error: ssl.SSLCertVerificationError) -> str:
    paths = ssl.get_default_verify_paths()
    return (
        f"the certificate of {host} cannot be trusted: {error.verify_message}. Python looks for trusted roots in "
        f"{paths.cafile or paths.capath or 'no file or folder'}. Check that this machine's clock is right. Install the "
        "CA bundle (Debian: `apt-get install ca-certificates`; Python from python.org on macOS: run `Install "
        "Certificates.command`). If a company's proxy re-signs HTTPS, put its root certificate into a PEM file and "
        "point SSL_CERT_FILE at it. Never switch off certificate checks: anyone on the network could then answer"
    )
