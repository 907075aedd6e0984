"""The file of keys: one a line, `name sha256-hex [images-per-second]`.

It holds hashes, so whoever reads it cannot use the service. A fast hash is enough: slow ones protect passwords, which
can be guessed, but a key is 256 random bits. So looking up a key takes a microsecond.
"""

import fcntl
import hashlib
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

KEY_BYTES = 32
MAX_KEYS, MAX_FILE_BYTES = 1_000, 1_000_000
MIN_RATE = 0.001  # one image in a quarter of an hour
MAKE_ONE = "`python -m app key NAME --file FILE` adds a key"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")


class KeysError(Exception):
    """The file of keys cannot be used. The text quotes names only: another word may be a key by mistake."""


@dataclass(frozen=True)
class Key:
    """A client's key."""

    name: str  # the only thing about it that is ever logged
    digest: bytes  # SHA-256 of the key
    rate: float | None = None  # images a second, in all processes together; None for any number


def read_keys(path: Path) -> Mapping[bytes, Key]:
    """Read the keys of a file, by their digests.

    Raises:
        KeysError: it cannot be read, has a faulty line or has no key.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise KeysError(f"{path} is not a regular file; name a file of keys, {MAKE_ONE}")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror}; {MAKE_ONE}") from None
    keys = _parse(path, content)
    if not keys:
        raise KeysError(f"{path} has no keys; {MAKE_ONE}")
    if len(keys) > MAX_KEYS or len(content) > MAX_FILE_BYTES:
        raise KeysError(f"{path} has more than {MAX_KEYS:,} keys or {MAX_FILE_BYTES:,} bytes; remove unused keys")
    return keys


def append_key(path: Path, name: str, rate: str | None = None) -> str:
    """Make a random key and add it to a file, which is created for its owner alone. Returns the key.

    Raises:
        KeysError: the file cannot be used or written, or has a key of this name.
    """
    key, line = make_key(name, rate)
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            content = file.read()
            if any(known.name == name for known in _parse(path, content).values()):
                raise KeysError(f"{path} has a key {name!r}; choose another name, or remove its line first")
            separator = b"" if content.endswith(b"\n") or not content else b"\n"
            file.write(separator + line.encode() + b"\n")
    except OSError as error:
        raise KeysError(f"{path} cannot be written: {error.strerror}; name a file that is writable") from None
    return key


def make_key(name: str, rate: str | None = None) -> tuple[str, str]:
    """Make a random key. Returns it and its line for the file."""
    key = secrets.token_urlsafe(KEY_BYTES)
    return key, " ".join(filter(None, (name, hashlib.sha256(key.encode()).hexdigest(), rate)))


def check_name(text: str) -> str:
    """Return the name.

    Raises:
        ValueError: the file cannot hold it.
    """
    if not _NAME.fullmatch(text):
        raise ValueError("a name has 1 to 64 letters, digits, dots, hyphens and underscores")
    return text


def parse_rate(text: str) -> float:
    """Parse images a second.

    Raises:
        ValueError: it is not a number, or too small.
    """
    with suppress(ValueError):
        if math.isfinite(rate := float(text)) and rate >= MIN_RATE:
            return rate
    raise ValueError(f"images a second are a number of at least {MIN_RATE}")


def _parse(path: Path, content: bytes) -> dict[bytes, Key]:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise KeysError(f"{path} is not text in UTF-8; {MAKE_ONE}") from None
    keys: dict[bytes, Key] = {}
    numbers: dict[str, int] = {}
    for number, key in _parse_lines(path, lines):
        if key.name in numbers:
            _refuse(path, number, f"line {numbers[key.name]} has the name {key.name!r} too")
        if key.digest in keys:
            _refuse(path, number, f"{keys[key.digest].name!r} has the same key; make one for each name")
        numbers[key.name], keys[key.digest] = number, key
    return keys


def _parse_lines(path: Path, lines: list[str]) -> Iterator[tuple[int, Key]]:
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) not in (2, 3):
            _refuse(path, number, f"it has {len(words)} word{'s' * (len(words) > 1)}")
        if not _DIGEST.fullmatch(words[1]):
            _refuse(
                path, number, f"a SHA-256 has 64 hexadecimal digits, the second word has {len(words[1])} characters"
            )
        try:
            rate = parse_rate(words[2]) if words[2:] else None
            yield number, Key(check_name(words[0]), bytes.fromhex(words[1]), rate)
        except ValueError as error:
            _refuse(path, number, str(error))


def _refuse(path: Path, number: int, reason: str) -> NoReturn:
    raise KeysError(f"line {number} of {path}: {reason}; write NAME SHA256 or NAME SHA256 IMAGES-PER-SECOND")
