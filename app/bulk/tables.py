"""Images in columns of Parquet files: bytes, structs of bytes and path as Hugging Face writes them, or local paths."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from app.bulk.errors import Rejection
from app.bulk.items import Item, Reading, Wanted, bounded
from app.bulk.places import LocalPlace, Place, is_address, is_outage

BATCH_BYTES, BATCH_ROWS = 8_000_000, 256
BUFFER_BYTES = 4_000_000  # read at once of a column


class ColumnError(Exception):
    """There is no column of images. The text names those there are."""


def is_table(name: str) -> bool:
    """Tell by its name if a file is a Parquet file."""
    return name.lower().endswith((".parquet", ".parq", ".pq"))


def table_items(place: Place, reading: Reading, wanted: Wanted) -> Iterator[Item]:
    """Yield the rows of a Parquet file; a row group without a wanted row is not read.

    Raises:
        ColumnError: there is no column of images.
        OSError, pa.ArrowException: the file cannot be read.
    """
    with place.open() as file:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
        column = find_column(table.schema_arrow, reading)
        start = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            ids = list(_ids(table, group, rows, start, place.name, reading.id_column))
            wanted_ids = [name if wanted(name) else None for name in ids]
            if any(name is not None for name in wanted_ids):
                yield from _group_items(table, group, column, wanted_ids, place, reading.max_bytes)
            start += rows


def count_rows(place: Place) -> int:
    """Count the rows of a Parquet file."""
    with place.open() as file:
        return int(parquet.read_metadata(file).num_rows)


def check_columns(place: Place, reading: Reading) -> None:
    """Raise ColumnError if the file lacks a column, and OSError or pa.ArrowException if it cannot be read."""
    with place.open() as file:
        find_column(parquet.read_schema(file), reading)


def find_column(schema: pa.Schema, reading: Reading) -> str:
    """Return the name of the column of images.

    Raises:
        ColumnError: it, or the column of ids, does not exist, is of another type, or must be named.
    """
    names = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if reading.id_column and reading.id_column not in schema.names:
        raise ColumnError(f"there is no column {reading.id_column!r} for --id-column; the columns are {names}")
    if reading.column:
        if reading.column not in schema.names:
            raise ColumnError(f"there is no column {reading.column!r} for --column; the columns are {names}")
        kind = schema.field(reading.column).type
        if not (_has_bytes(kind) or _is_text(kind)):
            raise ColumnError(f"column {reading.column!r} has {kind}, which is neither bytes nor paths")
        return reading.column
    found = [field.name for field in schema if _has_bytes(field.type)]
    if len(found) != 1:
        raise ColumnError(f"{len(found) or 'no'} columns have bytes; choose one with --column: {names}")
    return str(found[0])


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _ids(
    table: parquet.ParquetFile, group: int, rows: int, start: int, name: str, id_column: str | None
) -> Iterator[str]:
    """Yield the ids of a row group: FILE#ROW, or the column's values; FILE#ROW where one is null."""
    numbered = (f"{name}#{row}" for row in range(start, start + rows))
    if id_column is None:
        return numbered
    values = itertools.chain.from_iterable(
        batch.column(0).to_pylist() for batch in _batches(table, group, id_column, BATCH_ROWS)
    )
    return (number if value is None else _text(value) for number, value in zip(numbered, values, strict=True))


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _group_items(
    table: parquet.ParquetFile, group: int, column: str, ids: list[str | None], place: Place, max_bytes: int
) -> Iterator[Item]:
    """Yield the wanted rows of a row group. Where it is damaged, each row left is rejected.

    Raises:
        OSError: a bucket cannot be reached.
    """
    left, problem = iter(ids), "it has fewer rows than it says"
    try:
        for batch in _batches(table, group, column, _batch_rows(table, group, column)):
            cells, wanted = batch.column(0), list(itertools.islice(left, batch.num_rows))
            for row, name in enumerate(wanted):
                if name is not None:
                    yield Item(name, _content(cells[row], place, max_bytes))
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and is_outage(error):
            raise
        problem = str(error)
    rejection = Rejection("damaged_source", f"row group {group} cannot be read on: {problem}; write the file again")
    yield from (Item(name, rejection) for name in left if name is not None)


def _batches(table: parquet.ParquetFile, group: int, column: str, rows: int) -> Iterator[pa.RecordBatch]:
    batches: Iterator[pa.RecordBatch] = table.iter_batches(rows, [group], [column], use_threads=False)
    return batches


def _batch_rows(table: parquet.ParquetFile, group: int, column: str) -> int:
    """Return how many rows of a column take about BATCH_BYTES."""
    chunks = table.metadata.row_group(group)
    size = sum(
        chunks.column(index).total_uncompressed_size
        for index in range(chunks.num_columns)
        if chunks.column(index).path_in_schema.split(".")[0] == column
    )
    return int(max(1, min(BATCH_ROWS, BATCH_BYTES * chunks.num_rows // max(1, size))))


def _content(cell: pa.Scalar, place: Place, max_bytes: int) -> bytes | Place | Rejection:
    value = cell
    if isinstance(cell, pa.StructScalar) and cell.is_valid:
        value = cell["bytes"]
        if not value.is_valid and any(field.name == "path" for field in cell.type):
            value = cell["path"]
    if not value.is_valid:
        return Rejection("no_image", "the cell is null")
    try:
        content = value.as_py()
    except UnicodeDecodeError:
        return Rejection("unreadable", "the path in the cell is not UTF-8; write the paths again")
    return _local(content, place) if isinstance(content, str) else bounded(content, max_bytes)


def _local(path: str, place: Place) -> Place | Rejection:
    """Find a path of a row, beside the Parquet file if it is relative. Addresses are never fetched."""
    if is_address(path) or "\0" in path or not isinstance(place, LocalPlace):
        detail = "only paths of this machine, in a Parquet file of this machine, are read; download the images first"
        return Rejection("address_not_fetched", detail)
    return LocalPlace(place.path.parent / Path(path))
