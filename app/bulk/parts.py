"""The answers on disk: part files beside the output file while a run lasts, then one file, which appears at once.

Every part is written whole and holds the cursor behind its last image, so a run that is killed continues from there.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from app.bulk.errors import BulkError
from app.bulk.selection import Cursor
from model_store.lock import FOLDER, Lock, lock

RUN, CURSOR = b"cifar10_run", b"cifar10_cursor"  # keys in the metadata of the files
GROUP_ROWS = 65_536  # of the finished file
Description = Mapping[str, Any]  # what determines the answers: sources, options, model


class Parts:
    """The parts of one run, in a hidden folder beside the output file. One process at a time has them open."""

    def __init__(self, to: Path, schema: pa.Schema, run: Description) -> None:
        """Open the parts that there are.

        Raises:
            BulkError: they are of another run, another process has them open, or there is no folder for them.
            OSError: the folder cannot be made or read.
        """
        if not to.absolute().parent.is_dir():
            raise BulkError(f"--to {to}: the folder {to.parent} does not exist; create it, or choose another file")
        self._to, self._schema, self._run = to, schema, run
        self._folder = parts_folder(to)
        self._folder.mkdir(exist_ok=True)
        self._lock = _lock(self._folder, to)
        try:
            self._continue()
        except BaseException:
            self.close()
            raise

    def _continue(self) -> None:
        files = self._files()
        self._count, self.cursor = len(files), Cursor()
        if files:
            _check_run(files[-1], self._to, self._run)
            self.cursor = Cursor(*_metadata(files[-1])[CURSOR])

    def write(self, batches: Sequence[pa.RecordBatch], cursor: Cursor) -> None:
        """Write the next part, with the cursor behind it. A run that continues does not read its images again."""
        metadata = {RUN: json.dumps(self._run), CURSOR: json.dumps([cursor.done, cursor.checksum])}
        table = pa.Table.from_batches(batches, self._schema).replace_schema_metadata(metadata)
        content = pa.BufferOutputStream()
        parquet.write_table(table, content, compression="zstd")
        temporary = self._folder / "writing"
        with temporary.open("wb") as file:
            file.write(content.getvalue())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / f"{self._count:08}.parquet")
        self._count, self.cursor = self._count + 1, cursor

    def finish(self) -> None:
        """Join the parts to the output file, and remove them."""
        schema = self._schema.with_metadata({RUN: json.dumps(self._run)})
        temporary = self._folder / "writing"
        with temporary.open("wb") as file:
            with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
                for table in self._groups():
                    writer.write_table(table.cast(schema), row_group_size=GROUP_ROWS)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._to)
        shutil.rmtree(self._folder)

    def close(self) -> None:
        """Let other processes write."""
        os.close(self._lock.descriptor)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))

    def _groups(self) -> Iterator[pa.Table]:
        """Yield the rows of all parts in tables of GROUP_ROWS or a little more."""
        tables, rows = list[pa.Table](), 0
        for path in self._files():
            tables.append(parquet.ParquetFile(path).read())
            rows += tables[-1].num_rows
            if rows >= GROUP_ROWS:
                yield pa.concat_tables(tables)
                tables, rows = [], 0
        if tables:
            yield pa.concat_tables(tables)


def parts_folder(to: Path) -> Path:
    """Return the folder of an output file's parts. Readers of a folder of Parquet files skip hidden names."""
    return to.with_name(f".{to.name}.parts")


def is_finished(to: Path, run: Description) -> bool:
    """Tell if the output file has this run's answers already, and remove parts that are left beside it.

    Raises:
        BulkError: the file is of another run, or something else.
    """
    if not to.exists():
        return False
    _check_run(to, to, run)
    shutil.rmtree(parts_folder(to), ignore_errors=True)
    return True


def discard(to: Path) -> None:
    """Remove the output file and its parts.

    Raises:
        BulkError: another process is writing them.
    """
    folder = parts_folder(to)
    with suppress(FileNotFoundError), _locked(folder, to):
        shutil.rmtree(folder, ignore_errors=True)
    to.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, to: Path) -> Iterator[None]:
    held = _lock(folder, to)
    try:
        yield
    finally:
        os.close(held.descriptor)


def _lock(folder: Path, to: Path) -> Lock:
    try:
        return lock(folder, FOLDER)
    except BlockingIOError:
        raise BulkError(f"another process is writing {to}; wait for it, or choose another file") from None


def _check_run(path: Path, to: Path, run: Description) -> None:
    begun = _metadata(path).get(RUN)
    if begun is None:
        raise BulkError(f"{to} exists and has no answers of this command; choose another file, or add --overwrite")
    differing = [f"{name} was {begun.get(name)}, is {run[name]}" for name in run if begun.get(name) != run[name]]
    if differing:
        raise BulkError(
            f"{to} has answers of another run: {'; '.join(differing)}; repeat that run's arguments and settings, "
            "choose another file, or add --overwrite"
        )


def _metadata(path: Path) -> dict[bytes, Any]:
    try:
        metadata = parquet.read_metadata(path).metadata or {}
        return {key: json.loads(metadata[key]) for key in (RUN, CURSOR) if key in metadata}
    except (pa.ArrowException, ValueError) as error:
        raise BulkError(f"{path} cannot be read: {error}; choose another file, or add --overwrite") from None
