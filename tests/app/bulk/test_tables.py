"""Images in Parquet files: bytes, structs and paths. Addresses in rows are never fetched."""

import pyarrow as pa
import pytest

from app.bulk.errors import Rejection
from app.bulk.items import Reading
from app.bulk.places import LocalPlace, find_place
from app.bulk.sources import count_images, read_sources
from app.bulk.tables import BATCH_BYTES
from tests.app.bulk.conftest import READING, outcomes, parquet_file, read

KINDS = {"binary": pa.binary(), "large": pa.large_binary(), "fixed": pa.binary(4)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_column_of_bytes_is_found(tmp_path, kind):
    column = pa.array([b"1234", b"5678"], KINDS[kind])
    table = parquet_file(tmp_path / "a.parquet", {"label": ["x", "y"], "image": column})
    assert outcomes(read(table)) == {"a.parquet#0": b"1234", "a.parquet#1": b"5678"}
    assert list(count_images([find_place(str(table))])) == [2]


def test_structs_of_bytes_and_path_are_read_as_hugging_face_writes_them(tmp_path):
    rows = [{"bytes": b"1", "path": "a.png"}, {"bytes": None, "path": "b.png"}, {"bytes": None, "path": None}, None]
    table = parquet_file(tmp_path / "a.parquet", {"image": rows})
    assert list(outcomes(read(table)).values()) == [b"1", LocalPlace(tmp_path / "b.png"), "no_image", "no_image"]


def test_paths_are_read_beside_the_file(tmp_path):
    rows = ["a.png", "sub/b.png", str(tmp_path / "c.png"), None]
    table = parquet_file(tmp_path / "a.parquet", {"path": pa.array(rows).dictionary_encode()})
    places = [LocalPlace(tmp_path / name) for name in ("a.png", "sub/b.png", "c.png")]
    assert list(outcomes(read(table, reading=Reading(9, "path"))).values()) == [*places, "no_image"]


@pytest.mark.parametrize(
    "address", ["http://a/b.png", "HTTPS://a", "s3://b/c.png", "file:///etc/passwd", "file:/etc", "ftp://x", "a\0b"]
)
def test_addresses_in_rows_are_never_fetched(tmp_path, address):
    table = parquet_file(tmp_path / "a.parquet", {"path": [address]})
    assert list(outcomes(read(table, reading=Reading(9, "path"))).values()) == ["address_not_fetched"]


def test_ids_are_those_of_a_column_and_rows_without_one_are_numbered(tmp_path):
    columns = {"image": [b"1", b"2", b"3"], "key": [7, None, 9]}
    table = parquet_file(tmp_path / "a.parquet", columns, rows=2)
    names = [item.id for item in read(table, reading=Reading(9, None, "key"))]
    assert names == ["7", f"{table}#1", "9"]


def test_a_cell_over_the_limit_is_rejected(tmp_path):
    table = parquet_file(tmp_path / "a.parquet", {"image": [bytes(11), bytes(10)]})
    assert list(outcomes(read(table, reading=Reading(10))).values()) == ["too_large", bytes(10)]


def test_row_groups_without_a_wanted_row_are_not_read(tmp_path):
    table = parquet_file(tmp_path / "a.parquet", {"image": [str(row).encode() for row in range(30)]}, rows=10)
    content = bytearray(table.read_bytes())
    content[4:20] = b"\xff" * 16  # the first pages
    table.write_bytes(content)
    place = find_place(str(table))
    items = list(read_sources([place], READING, lambda name: int(name.partition("#")[2]) >= 25))
    assert [item.content for item in items] == [b"25", b"26", b"27", b"28", b"29"]


def test_a_damaged_row_group_rejects_its_rows_only(tmp_path):
    table = parquet_file(tmp_path / "a.parquet", {"image": [str(row).encode() for row in range(30)]}, rows=10)
    content = bytearray(table.read_bytes())
    content[4:20] = b"\xff" * 16
    table.write_bytes(content)
    found = list(outcomes(read(table)).values())
    assert found == ["damaged_source"] * 10 + [str(row).encode() for row in range(10, 30)]


def test_a_truncated_file_is_one_row(tmp_path):
    table = parquet_file(tmp_path / "a.parquet", {"image": [b"1"] * 100})
    table.write_bytes(table.read_bytes()[:-10])
    (item,) = read(table)
    assert item.id == str(table) and item.content.code == "damaged_source"


@pytest.mark.parametrize(
    ("columns", "reading", "message"),
    [
        ({"a": [1]}, READING, "no columns have bytes; choose one with --column: a (int64)"),
        ({"a": [b"1"], "b": [b"1"]}, READING, "2 columns have bytes; choose one with --column: a (binary), b (binary)"),
        ({"a": [b"1"]}, Reading(9, "b"), "there is no column 'b' for --column; the columns are a (binary)"),
        ({"a": [1.5]}, Reading(9, "a"), "column 'a' has double, which is neither bytes nor paths"),
        ({"a": [b"1"]}, Reading(9, None, "b"), "there is no column 'b' for --id-column; the columns are a (binary)"),
    ],
    ids=["none", "two", "absent", "numbers", "no ids"],
)
def test_a_file_without_the_column_is_one_row(tmp_path, columns, reading, message):
    (item,) = read(parquet_file(tmp_path / "a.parquet", columns), reading=reading)
    assert item.content == Rejection("no_image_column", message)


def test_large_cells_are_read_a_few_at_a_time(tmp_path):
    table = parquet_file(tmp_path / "a.parquet", {"image": [bytes(BATCH_BYTES // 2)] * 6})
    before = pa.total_allocated_bytes()
    for item in read_sources([find_place(str(table))], READING, lambda name: True):
        assert len(item.content) == BATCH_BYTES // 2 and pa.total_allocated_bytes() - before < 6 * BATCH_BYTES
    assert pa.total_allocated_bytes() - before < BATCH_BYTES
