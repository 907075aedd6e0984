"""All images of the sources, in an order that depends on nothing but their names and contents."""

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

from pyarrow import ArrowException

from app.bulk.archives import ZIP_ERRORS, count_zip, is_tar, is_zip, tar_items, zip_items
from app.bulk.errors import BulkError, Rejection
from app.bulk.items import Item, Reading, Wanted
from app.bulk.places import BucketPlace, Place, is_outage, outage
from app.bulk.tables import ColumnError, check_columns, count_rows, is_table, table_items
from app.offline.image_files import is_image_name
from model_store.os_errors import reason, remedy

_DAMAGE = (*ZIP_ERRORS, tarfile.TarError, ArrowException)


def read_sources(places: Sequence[Place], reading: Reading, wanted: Wanted) -> Iterator[Item]:
    """Yield the wanted images of all sources.

    Folders are searched recursively: files by name, then folders by name. Archives and Parquet files in them are read
    as if they were named. What cannot be read is an item with a rejection.

    Raises:
        BulkError: a bucket cannot be reached.
    """
    for place in places:
        try:
            kind = place.kind()
        except OSError as error:
            yield from _rejected(place, error, wanted)
        else:
            yield from _folder(place, reading, wanted) if kind == "folder" else _file(place, reading, wanted)


def check_sources(places: Sequence[Place], reading: Reading) -> None:
    """Look for mistakes of the command line before a run begins.

    Raises:
        BulkError: a source does not exist, is in another or named twice, or a Parquet file that is named lacks a
            column.
    """
    names = sorted(f"{place.name.rstrip('/')}/" for place in places)  # what is in a folder follows the folder
    for first, second in pairwise(names):
        if second.startswith(first):
            raise BulkError(
                f"{second.rstrip('/')} is in {first.rstrip('/')}, which is named, too: its images would be classified "
                "twice, with the same ids; name it once"
            )
    for place in places:
        try:
            if place.kind() == "file" and is_table(place.name):
                check_columns(place, reading)
        except OSError as error:
            raise BulkError(f"{place.name}: {reason(error)}; {remedy(error)}") from None
        except ColumnError as error:
            raise BulkError(f"{place.name}: {error}") from None
        except ArrowException:
            pass  # damaged: its row says so


def count_images(places: Sequence[Place]) -> Iterator[int | None]:
    """Count what `read_sources` yields, file by file; None for a tar, which has no index and would have to be read."""
    for place in places:
        try:
            is_folder = place.kind() == "folder"
        except OSError:
            yield 1
        else:
            yield from _count_folder(place) if is_folder else (_count_file(place),)


def _count_folder(folder: Place) -> Iterator[int | None]:
    with suppress(OSError):
        for place, is_folder in folder.children():
            yield from _count_folder(place) if is_folder else (_count_file(place),)


def _count_file(place: Place) -> int | None:
    name = place.name
    with suppress(OSError, *_DAMAGE):
        return (
            None if is_tar(name) else count_zip(place) if is_zip(name) else count_rows(place) if is_table(name) else 1
        )
    return 1


def _folder(folder: Place, reading: Reading, wanted: Wanted) -> Iterator[Item]:
    try:
        for place, is_folder in folder.children():
            yield from _folder(place, reading, wanted) if is_folder else _file(place, reading, wanted, is_found=True)
    except OSError as error:
        yield from _rejected(folder, error, wanted)


def _file(place: Place, reading: Reading, wanted: Wanted, is_found: bool = False) -> Iterator[Item]:
    """Yield the images in a file, or the file. One that is found in a folder may be something else."""
    name = place.name
    read = zip_items if is_zip(name) else tar_items if is_tar(name) else table_items if is_table(name) else None
    if read is None:
        if wanted(name):
            yield Item(name, place, is_found and not is_image_name(name))
        return
    try:
        yield from read(place, reading, wanted)
    except ColumnError as error:
        yield from _reject(name, Rejection("no_image_column", str(error)), wanted)
    except (*_DAMAGE, OSError) as error:
        yield from _rejected(place, error, wanted)


def _rejected(place: Place, error: Exception, wanted: Wanted) -> Iterator[Item]:
    """Yield an item that says why the place cannot be read, or not any further.

    Raises:
        BulkError: a bucket cannot be reached.
    """
    if isinstance(error, OSError) and isinstance(place, BucketPlace) and is_outage(error):
        raise outage(place, error)
    if isinstance(error, OSError) and (error.errno is not None or "AWS Error" in str(error)):
        return _reject(place.name, Rejection("unreadable", f"{reason(error)}; {remedy(error)}"), wanted)
    detail = f"it cannot be read on: {error}; write the file again"
    return _reject(place.name, Rejection("damaged_source", detail), wanted)


def _reject(name: str, rejection: Rejection, wanted: Wanted) -> Iterator[Item]:
    if wanted(name):
        yield Item(name, rejection)
