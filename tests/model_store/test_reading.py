"""Only regular files of a bounded size are read, and JSON in which every key stands once."""

import os
import socket
import sys
from pathlib import Path

import pytest

from model_store.errors import ModelError
from model_store.reading import parse_json, read_regular


def test_a_file_of_exactly_the_limit_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(ModelError, match="file has 5 bytes, the limit is 4"):
        read_regular(tmp_path / "file", 4)


def test_a_sparse_file_of_a_terabyte_is_not_read(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ModelError, match="has 1,000,000,000,000 bytes"):
        read_regular(tmp_path / "file", 1_000)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_file_without_a_size_is_read_up_to_the_limit():
    """Linux says that files in /proc have 0 bytes."""
    with pytest.raises(ModelError, match="grew over 10 bytes"):
        read_regular(Path("/proc/self/status"), 10)


def bind(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.close()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(lambda path: path.mkdir(), "a folder", id="folder"),
        pytest.param(os.mkfifo, "a named pipe", id="FIFO"),
        pytest.param(bind, "a socket", id="socket"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="endless device"),
    ],
)
def test_what_is_not_a_regular_file_is_not_opened(tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    path = tmp_path / "file"
    make(path.relative_to(tmp_path) if kind == "a socket" else path)
    with pytest.raises(ModelError, match=f"it is {kind}, not a regular file"):
        read_regular(path, 1_000)


def test_links_inside_a_versions_folder_are_followed_and_others_are_not(tmp_path):
    folder = tmp_path / "7"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "file").write_bytes(b"inside")
    (folder / "inside").symlink_to("data/file")
    (tmp_path / "file").write_bytes(b"outside")
    (folder / "outside").symlink_to("../file")
    (folder / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("7")
    assert read_regular(folder / "inside", 10, folder) == b"inside"
    assert read_regular(tmp_path / "link" / "inside", 10, tmp_path / "link") == b"inside"
    with pytest.raises(ModelError, match="link to a file outside the version's folder"):
        read_regular(folder / "outside", 10, folder)
    with pytest.raises(ModelError, match="cannot be read"):
        read_regular(folder / "loop", 10, folder)


def test_clients_are_told_the_files_name_and_not_its_folder(tmp_path):
    with pytest.raises(ModelError) as refusal:
        read_regular(tmp_path / "golden.npz", 10)
    assert str(refusal.value).startswith(f"{tmp_path}/golden.npz cannot be read: No such file")
    assert refusal.value.public.startswith("golden.npz cannot be read: No such file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b'{"a": 1, "a": 1}', "'a' appears twice", id="duplicate key"),
        pytest.param(b'[{"b": {"a": 1, "\\u0061": 2}}]', "'a' appears twice", id="duplicate key by an escape, inside"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="deep"),
        pytest.param(b"1" * 10_000, "digits", id="huge number"),
        pytest.param(b"\xff\xfe[\0]\0", "utf-8", id="UTF-16"),
        pytest.param(b"{", "Expecting", id="not JSON"),
    ],
)
def test_json_that_parsers_read_differently_is_refused(content, words):
    with pytest.raises(ValueError, match=words):
        parse_json(content)
