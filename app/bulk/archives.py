"""Images in .zip and .tar files, read one after another; nothing is extracted to the disk."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from app.bulk.errors import Rejection
from app.bulk.items import Item, Reading, Wanted, bounded
from app.bulk.places import Place, is_outage
from app.offline.image_files import file_name, is_image_name

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
END_OF_TAR = bytes(tarfile.BLOCKSIZE)
MAX_HEADER_BYTES = 1_000_000  # of a member's name and attributes in a tar
PIECE_BYTES = 1_000_000
# What zipfile raises on damaged, encrypted and unknown members, besides OSError.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
TAR_ERRORS = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


def is_zip(name: str) -> bool:
    """Tell by its name if a file is a .zip."""
    return name.lower().endswith(".zip")


def is_tar(name: str) -> bool:
    """Tell by its name if a file is a .tar, compressed or not."""
    return name.lower().endswith(TAR_SUFFIXES)


def zip_items(place: Place, reading: Reading, wanted: Wanted) -> Iterator[Item]:
    """Yield the files in a .zip, in the order of its index.

    Raises:
        OSError, and those of ZIP_ERRORS: the index cannot be read.
    """
    with place.open() as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = f"{place.name}/{file_name(member.filename)}"
            if not member.is_dir() and not _is_hidden(member.filename) and wanted(name):
                yield Item(name, _read_member(archive, member, reading.max_bytes), not is_image_name(name))


def count_zip(place: Place) -> int:
    """Count the files that `zip_items` yields."""
    with place.open() as file, zipfile.ZipFile(file) as archive:
        return sum(not member.is_dir() and not _is_hidden(member.filename) for member in archive.infolist())


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> bytes | Rejection:
    try:
        with archive.open(member) as file:
            return bounded(file.read(max_bytes + 1), max_bytes)
    except (*ZIP_ERRORS, OSError) as error:
        if isinstance(error, OSError) and is_outage(error):
            raise
        return Rejection("unreadable", f"the member cannot be read: {error}; pack the archive again without a password")


def tar_items(place: Place, reading: Reading, wanted: Wanted) -> Iterator[Item]:
    """Yield the regular files in a .tar, in their order. Links and devices are left out.

    Raises:
        Those of TAR_ERRORS: it is damaged from here on.
    """
    with place.open() as file, _decompressed(file, place.name) as plain:
        blocks = _BoundedReads(plain)
        with tarfile.open(fileobj=cast(BinaryIO, blocks), mode="r:") as archive:
            while member := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep every member
                name = f"{place.name}/{file_name(member.name)}"
                if member.isreg() and not _is_hidden(member.name) and wanted(name):
                    try:
                        content = _read_file(archive, member, reading.max_bytes)
                    except TAR_ERRORS as error:
                        yield Item(name, Rejection("unreadable", f"the member cannot be read: {error}"))
                        raise
                    yield Item(name, content, not is_image_name(name))
        if blocks.last != END_OF_TAR:  # tarfile takes any damaged header for the end
            raise tarfile.ReadError("it ends early, or a header is damaged")


def _read_file(archive: tarfile.TarFile, member: tarfile.TarInfo, max_bytes: int) -> bytes | Rejection:
    pieces, left = list[bytes](), max_bytes + 1
    file = archive.extractfile(member)
    while file and left > 0 and (piece := file.read(min(PIECE_BYTES, left))):
        pieces.append(piece)
        left -= len(piece)
    return bounded(b"".join(pieces), max_bytes)


def _decompressed(file: BinaryIO, name: str) -> BinaryIO:
    match PurePosixPath(name.lower()).suffix:
        case ".gz" | ".tgz":
            return cast(BinaryIO, gzip.GzipFile(fileobj=file))
        case ".bz2":
            return cast(BinaryIO, bz2.BZ2File(file))
        case ".xz":
            return cast(BinaryIO, lzma.LZMAFile(file))
    return file


class _BoundedReads:
    """A tar's bytes, without headers that fill the memory: tarfile reads each of them at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.last = file, b""

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header has {size:,} bytes, the limit is {MAX_HEADER_BYTES:,}")
        self.last = self._file.read(size)
        return self.last

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/")) or "__MACOSX" in name
