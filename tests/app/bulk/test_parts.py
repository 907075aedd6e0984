"""Answers on disk: a part is whole or not there, and the finished file appears at once."""

from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from app.bulk import parts as module
from app.bulk.errors import BulkError
from app.bulk.parts import Parts, discard, is_finished, parts_folder
from app.bulk.selection import Cursor

SCHEMA = pa.schema([("id", pa.string())])
RUN = {"sources": ["a"], "model": "cifar10 8"}


def batch(*ids: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(ids, pa.string())], schema=SCHEMA)


def ids(to: Path) -> list[str]:
    return parquet.read_table(to)["id"].to_pylist()


@pytest.fixture
def to(tmp_path) -> Path:
    return tmp_path / "answers.parquet"


def test_parts_continue_behind_the_last_and_become_one_file(to):
    first, second = Cursor().after(["a", "b"]), Cursor().after(["a", "b", "c"])
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        parts.write([batch("a"), batch("b")], first)
    assert not to.exists()
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        assert parts.cursor == first
        parts.write([batch("c")], second)
        parts.finish()
    assert ids(to) == ["a", "b", "c"] and [path.name for path in to.parent.iterdir()] == [to.name]
    assert is_finished(to, RUN)


def test_small_parts_become_large_row_groups(to, monkeypatch):
    monkeypatch.setattr(module, "GROUP_ROWS", 4)
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        for number in range(10):
            parts.write([batch(str(number))], Cursor(number + 1))
        parts.finish()
    groups = parquet.read_metadata(to)
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [4, 4, 2]


def test_no_images_are_a_file_without_rows(to):
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        parts.finish()
    assert ids(to) == [] and is_finished(to, RUN)


def test_a_part_that_was_being_written_when_the_run_was_killed_does_not_count(to):
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        parts.write([batch("a")], Cursor(1))
    (parts_folder(to) / "writing").write_bytes(b"PAR1 half a part")
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        assert parts.cursor == Cursor(1)
        parts.finish()
    assert ids(to) == ["a"]


@pytest.mark.parametrize("finished", [False, True])
def test_answers_of_another_run_are_not_continued_or_replaced(to, finished):
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        parts.write([batch("a")], Cursor(1))
        if finished:
            parts.finish()
    other = RUN | {"model": "cifar10 9"}
    with pytest.raises(BulkError, match=r"another run: model was cifar10 8, is cifar10 9; .*--overwrite"):
        is_finished(to, other) or Parts(to, SCHEMA, other)
    discard(to)
    assert not is_finished(to, other) and list(to.parent.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"notes", b"PAR1PAR1"])
def test_a_file_that_is_something_else_is_not_replaced(to, content):
    to.write_bytes(content)
    with pytest.raises(BulkError, match="--overwrite"):
        is_finished(to, RUN)
    parquet.write_table(pa.table({"a": [1]}), to)
    with pytest.raises(BulkError, match="exists and has no answers of this command"):
        is_finished(to, RUN)


def test_two_processes_do_not_write_the_same_file(to):
    with closing(Parts(to, SCHEMA, RUN)), pytest.raises(BulkError, match="another process is writing"):
        Parts(to, SCHEMA, RUN)


def test_what_another_process_writes_is_not_discarded(to):
    to.write_bytes(b"old answers")
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        parts.write([batch("a")], Cursor().after(["a"]))
        with pytest.raises(BulkError, match="another process is writing"):
            discard(to)
        assert to.exists() and list(parts_folder(to).glob("*.parquet"))
    discard(to)
    assert not to.exists() and not parts_folder(to).exists()


def test_a_run_killed_before_it_removed_its_parts_is_finished(to):
    with closing(Parts(to, SCHEMA, RUN)) as parts:
        parts.finish()
    parts_folder(to).mkdir()
    assert is_finished(to, RUN) and not parts_folder(to).exists()


def test_readers_of_a_folder_do_not_see_parts(to):
    for name in ("0.parquet", "1.parquet"):
        with closing(Parts(to.with_name(name), SCHEMA, RUN)) as parts:
            parts.write([batch(name)], Cursor(1))
            if name.startswith("0"):
                parts.finish()
    assert ids(to.parent) == ["0.parquet"]
