"""Places that a source names: files and folders of this machine, objects and prefixes of a bucket."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, cast

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType

from app.bulk.errors import BulkError
from app.offline.image_files import file_name

Kind: TypeAlias = Literal["file", "folder", "other"]  # other: a pipe, socket or device
_BUCKET = re.compile(r"s3://[^/]")
_OUTAGE = re.compile(r"NETWORK_CONNECTION|curlCode|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT")


@dataclass(frozen=True)
class LocalPlace:
    """A path of this machine."""

    path: Path

    @property
    def name(self) -> str:
        """The path in Unicode, with undecodable bytes in hexadecimal."""
        return file_name(str(self.path))

    def kind(self) -> Kind:
        """Raise OSError if it does not exist."""
        mode = self.path.stat().st_mode
        return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"

    def children(self) -> Iterator[tuple["Place", bool]]:
        """Yield what is in the folder, files before folders, by name, and whether it is a folder.

        Hidden files and links to folders are left out.
        """
        with os.scandir(self.path) as entries:
            found = sorted(
                (entry.is_dir(follow_symlinks=False), entry.name)
                for entry in entries
                if not entry.name.startswith(".") and not _is_linked_folder(entry)
            )
        for is_folder, name in found:
            yield LocalPlace(self.path / name), is_folder

    def open(self) -> BinaryIO:
        """Open a regular file. Others raise an OSError: to open a pipe could block forever."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        file = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise OSError("it is not a regular file")
        return file


@dataclass(frozen=True)
class BucketPlace:
    """An object or a prefix of a bucket. Addresses and credentials are those of the variables AWS_…."""

    path: str  # BUCKET/KEY

    @property
    def name(self) -> str:
        """The address, with undecodable bytes in hexadecimal."""
        return file_name(f"s3://{self.path}")

    def kind(self) -> Kind:
        """Raise OSError if there is no such object or prefix."""
        match bucket_files(self._bucket).get_file_info(self.path).type:
            case FileType.File:
                return "file"
            case FileType.Directory:
                return "folder"
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name)

    def children(self) -> Iterator[tuple["Place", bool]]:
        """Yield what has this prefix, objects before longer prefixes, by name, and whether it is a prefix."""
        infos = bucket_files(self._bucket).get_file_info(FileSelector(self.path))
        found = sorted((info.type == FileType.Directory, info.base_name) for info in infos)
        del infos
        for is_folder, name in found:
            if not name.startswith("."):
                yield BucketPlace(f"{self.path.rstrip('/')}/{name}"), is_folder

    def open(self) -> BinaryIO:
        """Open an object."""
        return cast(BinaryIO, bucket_files(self._bucket).open_input_file(self.path))

    @property
    def _bucket(self) -> str:
        return self.path.partition("/")[0]


Place: TypeAlias = LocalPlace | BucketPlace


@cache
def bucket_files(bucket: str) -> FileSystem:
    """Connect to a bucket, in its own region."""
    try:
        return FileSystem.from_uri(f"s3://{bucket}")[0]
    except (OSError, ArrowException) as error:
        raise BulkError(
            f"s3://{bucket} cannot be reached: {error}; check the bucket's name, AWS_ENDPOINT_URL, AWS_REGION and the "
            "credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        ) from None


def find_place(source: str) -> Place:
    """Find the place that a command line names.

    Raises:
        BulkError: it is an address that is not s3://.
    """
    if _BUCKET.match(source):
        return BucketPlace(source.removeprefix("s3://").rstrip("/"))
    if is_address(source):
        raise BulkError(f"{source} cannot be read: a source is a path or s3://BUCKET/PREFIX; download it first")
    return LocalPlace(Path(source))


def is_address(text: str) -> bool:
    """Tell if a text names another place than a path of this machine."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", text) is not None


def _is_linked_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link that leads to itself
        return entry.is_symlink() and entry.is_dir()
    return False


def is_outage(error: OSError) -> bool:
    """Tell if a bucket could not be reached, so that the run should end rather than reject all further images."""
    return _OUTAGE.search(str(error)) is not None


def outage(place: Place, error: OSError) -> BulkError:
    """Build the error of a bucket that cannot be reached."""
    return BulkError(f"{place.name} cannot be reached: {error}; check the network and the endpoint")
