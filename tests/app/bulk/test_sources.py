"""Folders and files: every image once, in an order of its own, whatever lies between."""

import os
from pathlib import Path

import pytest

from app.bulk.errors import BulkError
from app.bulk.items import Reading
from app.bulk.places import LocalPlace, find_place
from app.bulk.sources import check_sources, count_images
from tests.app.bulk.conftest import READING, outcomes, parquet_file, read, tar_file, zip_file


@pytest.fixture
def tree(tmp_path, photos) -> Path:
    for name in ("b/1.png", "b/a/2.png", "a.png", "c", ".hidden.png", ".git/x.png"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photos["0.png"])
    zip_file(tmp_path / "tree/b.zip", photos)
    parquet_file(tmp_path / "tree/b/rows.parquet", {"image": list(photos.values())})
    return tmp_path / "tree"


def test_a_folder_is_read_by_name_with_the_archives_and_tables_in_it(tree, photos):
    names = [os.path.relpath(item.id, tree) for item in read(tree)]
    archive, rows = [f"b.zip/{name}" for name in photos], [f"b/rows.parquet#{row}" for row in range(5)]
    assert names == ["a.png", *archive, "c", "b/1.png", *rows, "b/a/2.png"]
    assert [item.is_optional for item in read(tree)] == [name == "c" for name in names]
    assert sum(count_images([find_place(str(tree))])) == len(names)


def test_a_tar_in_a_folder_makes_the_total_unknown(tree, photos):
    tar_file(tree / "z.tar", photos)
    assert None in count_images([find_place(str(tree))])


def test_links_to_folders_are_skipped_and_links_to_files_are_read(tmp_path, photos):
    (tmp_path / "a.png").write_bytes(photos["0.png"])
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to("self.png")
    assert [Path(item.id).name for item in read(tmp_path)] == ["a.png", "b.png", "self.png"]


def test_a_source_that_vanishes_is_a_row(tmp_path):
    assert outcomes(read(tmp_path / "gone", tmp_path / "gone.zip")) == {"gone": "unreadable", "gone.zip": "unreadable"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_closed_folder_is_a_row(tmp_path, photos):
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "open.png").write_bytes(photos["0.png"])
    found = outcomes(read(tmp_path))
    assert found == {"open.png": LocalPlace(tmp_path / "open.png"), "closed": "unreadable"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz", "x.parquet"])
@pytest.mark.parametrize("content", [b"", b"not an archive", bytes(5_000)], ids=["empty", "text", "zeros"])
def test_a_source_of_another_type_is_a_row_and_spoils_no_other(tmp_path, photos, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "y.png").write_bytes(photos["0.png"])
    found = read(tmp_path)
    if name == "x.tar" and not content.strip(b"\0") and content:  # zeros are a tar without members
        assert [Path(item.id).name for item in found] == ["y.png"]
        return
    assert [Path(item.id).name for item in found] == [name, "y.png"] and found[0].content.code == "damaged_source"
    assert "cannot be read on" in found[0].content.detail


@pytest.mark.parametrize("source", ["https://example.org/a.png", "file:///etc/passwd", "gs://bucket/a"])
def test_a_source_that_is_another_address_is_refused(source):
    with pytest.raises(BulkError, match=r"a source is a path or s3://BUCKET/PREFIX"):
        find_place(source)


def test_mistakes_of_the_command_line_are_found_before_the_run(tmp_path, photos):
    table = find_place(str(parquet_file(tmp_path / "a.parquet", {"image": list(photos.values())})))
    check_sources([table], READING)
    with pytest.raises(BulkError, match=r"no column 'photo' for --column; the columns are image \(binary\)"):
        check_sources([table], Reading(1, "photo"))
    with pytest.raises(BulkError, match=r"gone: No such file or directory; check the path"):
        check_sources([find_place(str(tmp_path / "gone"))], READING)


@pytest.mark.parametrize(
    "names", [("a.png", "a.png"), ("photos", "photos/b"), ("photos/b", "c.png", "photos/"), ("s3://a/b/c", "s3://a/b")]
)
def test_a_source_that_is_in_another_is_refused(names):
    with pytest.raises(BulkError, match="is named, too: its images would be classified twice"):
        check_sources([find_place(name) for name in names], READING)


def test_names_that_begin_alike_are_different_sources(tmp_path, photos):
    names = ["a", "a.png", "a b", "ab"]
    for name in names:
        (tmp_path / name).write_bytes(photos["0.png"])
    check_sources([find_place(str(tmp_path / name)) for name in names], READING)
