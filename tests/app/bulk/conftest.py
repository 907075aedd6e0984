"""Images in every kind of source, and what reading them yields."""

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from app.bulk.items import Item, Reading
from app.bulk.places import find_place
from app.bulk.sources import read_sources
from app.settings import Settings

READING = Reading(Settings().max_body_bytes)


def read(*sources: object, reading: Reading = READING) -> list[Item]:
    return list(read_sources([find_place(str(source)) for source in sources], reading, lambda name: True))


def outcomes(items: Sequence[Item]) -> dict[str, object]:
    """By the end of each id: the bytes, the place to read, or the code of the rejection."""
    return {Path(item.id).name: getattr(item.content, "code", item.content) for item in items}


def zip_file(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_file(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def parquet_file(path: Path, columns: Mapping[str, object], rows: int = 1024) -> Path:
    parquet.write_table(pa.table(dict(columns)), path, row_group_size=rows)
    return path


@pytest.fixture(scope="session")
def photos() -> dict[str, bytes]:
    from tests.app.conftest import png

    return {f"{index}.png": png(index) for index in range(5)}
