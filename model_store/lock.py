"""Locks on files and folders (flock). The system releases them when the process ends, however it ends."""

import errno
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
# From network file systems without a lock service; EBADF for folders, which NFS locks only if open for writing.
_UNSUPPORTED = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF


class Lock(NamedTuple):
    """An open file or folder. Without `effective` the file system has no locks, so others may have it open as well."""

    descriptor: int
    effective: bool


def lock(path: Path, flags: int) -> Lock:
    """Open a path, with FOLDER or FILE, and lock it until its descriptor is closed.

    Raises:
        BlockingIOError: another process, or another part of this one, holds the lock.
        FileNotFoundError: it does not exist, or was removed before it was locked.
    """
    descriptor = os.open(path, flags, 0o644)
    try:
        effective = _try_lock(descriptor)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor, effective)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True
