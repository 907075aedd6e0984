"""The keys in force: found by hash, and read again when their file changes."""

import asyncio
import hashlib
import hmac
import logging
from pathlib import Path

from app.access.key_file import Key, KeysError, read_keys
from app.versions.loading import in_daemon_thread

logger = logging.getLogger("app")
LOOK_SECONDS = 1.0


class Keys:
    """The keys of a file."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            KeysError: it cannot be used.
        """
        self._path, self._fingerprint = path, _fingerprint(path)
        self._by_digest = read_keys(path)

    def find(self, key: bytes) -> Key | None:
        """Return the key with these characters; None if the file has none.

        The time of the look-up tells nothing about a key, since nobody can choose one by its hash.
        """
        digest = hashlib.sha256(key).digest()
        found = self._by_digest.get(digest)
        return found if found and hmac.compare_digest(found.digest, digest) else None

    async def follow(self) -> None:
        """Look at the file once a second, in a thread, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await in_daemon_thread(self.look)

    def look(self) -> None:
        """Read the file again if it changed. If it cannot be used, the keys stay and the log says so once."""
        fingerprint = _fingerprint(self._path)
        if fingerprint == self._fingerprint:
            return
        self._fingerprint = fingerprint
        try:
            self._by_digest = read_keys(self._path)
        except KeysError as error:
            logger.error("the keys are not read again: %s; the earlier ones stay in force", error)
        else:
            logger.info("the keys were read again", extra={"fields": {"keys": len(self._by_digest)}})


def _fingerprint(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
