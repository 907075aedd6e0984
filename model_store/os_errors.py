"""OSErrors in one sentence: the file, the reason, and a remedy for that reason."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

_ROOM = "free some space there (`df -h`, `df -i`) or choose another folder"
_NETWORK = "check the network and try again"
_HARDWARE = "the disk or the network mount failed: see the system's log, then try again or choose another folder"
_PERMISSIONS = "check the permissions of it and of the folders above it, and which user runs this command"
REMEDIES: dict[int, str] = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: f"this user's quota is used up: {_ROOM}",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`) or choose a folder on another file system",
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "mount the file system for writing or choose another folder",
    errno.ENOENT: "check the path: it or a folder above it does not exist",
    errno.ENOTDIR: "check the path: a part of it is a file where a folder is needed",
    errno.EISDIR: "check the path: it is a folder where a file is needed",
    errno.EEXIST: "remove it or choose another path",
    errno.ENOTEMPTY: "remove its contents or choose another path",
    errno.ENAMETOOLONG: "choose a shorter name or path",
    errno.ELOOP: "check the path: it holds a link that leads to itself",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "the whole system has too many open files: close other programs or raise fs.file-max",
    errno.EIO: _HARDWARE,
    errno.ESTALE: _HARDWARE,
    errno.ENOMEM: "give this command more memory, or close other programs",
    errno.EPIPE: "keep the program that reads the output running",
    errno.ECONNREFUSED: _NETWORK,
    errno.ECONNRESET: _NETWORK,
    errno.ECONNABORTED: _NETWORK,
    errno.EHOSTUNREACH: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.ETIMEDOUT: _NETWORK,
}
_UNKNOWN = "see the system's log for the cause, then try again"
_NO_NUMBER = "the file may be damaged or of another kind: restore it or make it again"  # from HDF5 and Pillow
NO_ROOM = errno.ENOSPC, errno.EDQUOT
_OF_WRITING = *NO_ROOM, errno.EFBIG, errno.EROFS
BROKEN_PIPE = 141  # exit code, the shell's for SIGPIPE


def explain(error: OSError, activity: str) -> str:
    """Return "FILE: reason; remedy".

    Args:
        activity: takes the file's place if the error names none.
    """
    return f"{_files(error) or activity}: {reason(error)}; {remedy(error)}"


def reason(error: OSError) -> str:
    """Return the system's text for the error's number, or else the error's own text."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def remedy(error: OSError) -> str:
    """Return the remedy for the error's number."""
    return REMEDIES.get(error.errno, _UNKNOWN) if error.errno else _NO_NUMBER


def from_text(text: str) -> OSError:
    """Return an OSError for a library's own error, with the number whose text is in it, if there is one."""
    number = next((number for number in REMEDIES if os.strerror(number) in text), None)
    return OSError(number, text) if number else OSError(text)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Add a file's path, or another description, to OSErrors that name no file, as those of `write` do."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def discard_output(*streams: TextIO) -> None:
    """Redirect the streams to /dev/null: Python flushes them at exit and would report another error."""
    for stream in streams:
        with suppress(OSError, ValueError):  # it is not a file, as in tests
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _files(error: OSError) -> str:
    """Name the file at fault: of a copy that found no room the destination, of others both files."""
    first, second = (
        "" if name is None or isinstance(name, int) else os.fsdecode(name) for name in (error.filename, error.filename2)
    )
    if first and second and error.errno not in _OF_WRITING:
        return f"{first} -> {second}"
    return second or first
