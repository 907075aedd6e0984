"""Read what may be damaged or hostile: regular files of a bounded size, and JSON without duplicate keys."""

import errno
import json
import stat
from pathlib import Path
from typing import Any

from model_store import os_errors
from model_store.errors import FileError

MAX_JSON_BYTES = 4_000_000  # of one document; the largest published one has 70 kB. Parsed, it takes up to 0.2 GB
MAX_DIGITS = 1_000  # of a whole number: Python reads up to 4,300, in time quadratic in their number
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_regular(path: Path, max_bytes: int, folder: Path | None = None) -> bytes:
    """Read a file of at most `max_bytes`. Pipes and devices are not opened: they can block or never end.

    Args:
        folder: a version's folder, which the file must not leave by a symbolic link: versions are copied and removed
            as whole folders. The folder itself may be a link.

    Raises:
        FileError: it is missing, not a regular file, too large, unreadable or outside the folder.
    """
    try:
        if folder and not path.resolve().is_relative_to(folder.resolve()):
            raise FileError(path, " is a link to a file outside the version's folder; put the file itself there")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")
            raise FileError(path, f" cannot be read: it is {kind}, not a regular file")
        if status.st_size > max_bytes:
            raise FileError(path, f" has {status.st_size:,} bytes, the limit is {max_bytes:,}")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        remedy = "publish the version again" if error.errno == errno.ENOENT else os_errors.remedy(error)
        raise FileError(path, f" cannot be read: {os_errors.reason(error)}; {remedy}") from None
    except RuntimeError:  # from resolve, in Python 3.11 and 3.12
        raise FileError(path, " cannot be read: it is a link that leads to itself; publish the version again") from None
    if len(content) > max_bytes:
        raise FileError(path, f" grew over {max_bytes:,} bytes while it was read")
    return content


def parse_json(content: bytes) -> Any:
    """Parse UTF-8 JSON. Parsers differ in which of two equal keys they take, so duplicates are refused.

    Raises:
        ValueError: it is not JSON, is nested too deeply, has a number of too many digits, or an object has the same
            key twice.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits, the limit is {MAX_DIGITS:,}")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key[:80]!r} appears twice in one object")
        result[key] = value
    return result
