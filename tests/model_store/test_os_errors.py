"""OSErrors that the system really raises, in one sentence."""

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest

from model_store.os_errors import REMEDIES, explain, from_text, naming

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")


def explanation(action, activity="the job"):
    try:
        action()
    except OSError as error:
        return explain(error, activity)
    raise AssertionError("nothing was raised")


def below_a_file(folder):
    (folder / "file").touch()
    (folder / "file" / "run").mkdir()


def without_descriptors(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        (folder / "file").open("w")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def through_a_loop(folder):
    (folder / "loop").symlink_to("loop")
    (folder / "loop").read_bytes()


@pytest.mark.parametrize(
    ("action", "name", "text"),
    [
        (lambda folder: (folder / "gone").read_bytes(), "gone", "No such file or directory; check the path"),
        (lambda folder: folder.read_bytes(), "", "Is a directory; check the path: it is a folder where a file"),
        (below_a_file, "file/run", "Not a directory; check the path: a part of it is a file"),
        (lambda folder: (folder / ("n" * 300)).touch(), "n" * 300, "File name too long; choose a shorter name"),
        (without_descriptors, "file", "Too many open files; raise the limit on open files (`ulimit -n`)"),
        (through_a_loop, "loop", "Too many levels of symbolic links; check the path: it holds a link"),
        (lambda folder: folder.mkdir(), "", "File exists; remove it or choose another path"),
    ],
    ids=["missing", "folder", "below a file", "long name", "descriptors", "loop", "taken"],
)
def test_the_path_comes_first_and_the_remedy_fits_the_reason(tmp_path, action, name, text):
    assert explanation(lambda: action(tmp_path)).startswith(f"{tmp_path / name}: {text}")


@needs_full
def test_writing_names_no_file_unless_it_is_told(tmp_path):
    def write():
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    def write_named():
        with naming(tmp_path / "state.npz"):
            write()

    assert explanation(write, "fetch").startswith("fetch: No space left on device; free some space there")
    assert explanation(write_named).startswith(f"{tmp_path / 'state.npz'}: No space left on device; free some")


def test_an_error_that_names_its_file_keeps_it(tmp_path):
    def read():
        with naming(tmp_path / "other"):
            (tmp_path / "gone").read_bytes()

    assert explanation(read).startswith(f"{tmp_path / 'gone'}: ")


def test_a_copy_without_room_names_its_destination_and_another_failed_copy_both_files(tmp_path):
    (tmp_path / "source").write_bytes(bytes(100_000))

    def copy():
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
        try:
            shutil.copyfile(tmp_path / "source", tmp_path / "copy")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    copied = explanation(copy)
    assert copied.startswith(f"{tmp_path / 'copy'}: File too large; raise the limit on the size of files (`ulimit -f`)")
    moved = explanation(lambda: (tmp_path / "source").rename(tmp_path / "no" / "where"))
    assert moved.startswith(f"{tmp_path / 'source'} -> {tmp_path / 'no' / 'where'}: No such file")


def test_a_library_error_without_a_number_keeps_its_own_words():
    def read():
        with naming("weights.h5"):
            raise OSError("file signature not found")

    expected = "weights.h5: file signature not found; the file may be damaged or of another kind: restore it"
    assert explanation(read).startswith(expected)


def test_a_number_without_a_remedy_refers_to_the_system():
    text = explain(OSError(errno.EXFULL, "", "file"), "the job")
    assert text == f"file: {os.strerror(errno.EXFULL)}; see the system's log for the cause, then try again"
    assert errno.EXFULL not in REMEDIES


@pytest.mark.parametrize(
    ("text", "number"), [("saving x; No space left on device [Op:SaveV2]", errno.ENOSPC), ("iostream error", None)]
)
def test_a_librarys_own_error_gets_the_number_of_the_systems_text_in_it(text, number):
    assert from_text(text).errno == number
