import os

import pytest

from training.data.scan import Skipped, list_children, list_files


def test_files_are_found_at_any_depth_in_order_of_path(tmp_path):
    for name in ("b/2.png", "a/deep/deeper/1.png", "0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    skipped = Skipped()
    found = [path.relative_to(tmp_path).as_posix() for path in list_files(tmp_path, skipped)]
    assert found == ["0.png", "a/deep/deeper/1.png", "b/2.png"] and not skipped.lines()


@pytest.mark.parametrize(
    "name", [".DS_Store", "._cat.png", "Thumbs.db", "desktop.ini", "__MACOSX/cat/1.png", ".git/HEAD"]
)
def test_hidden_and_system_files_are_left_out(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    for listed, nothing in ((list_files, []), (list_children, ([], []))):
        skipped = Skipped()
        assert listed(tmp_path, skipped) == nothing
        assert skipped.lines() == [f"skipped: hidden and system files (1): {tmp_path / name.split('/')[0]}"]


def test_each_reason_has_one_line_with_its_count_and_an_example(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe")
    skipped = Skipped()
    assert list_files(tmp_path, skipped) == []
    assert skipped.lines() == [
        f"skipped: broken links (3), such as {tmp_path / '0.png'}",
        f"skipped: sockets, pipes and devices (1): {tmp_path / 'pipe'}",
    ]


def test_links_are_followed_and_loops_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.png").touch()
    cats = tmp_path / "cats"
    (cats / "day1").mkdir(parents=True)
    (cats / "linked").symlink_to(tmp_path / "elsewhere")
    (cats / "day1/up").symlink_to(cats)
    (cats / "itself").symlink_to(cats / "itself")
    skipped = Skipped()
    assert list_files(cats, skipped) == [cats / "linked/1.png"]
    assert skipped.lines() == [
        f"skipped: broken links (1): {cats / 'itself'}",
        f"skipped: links to folders that are read already (1): {cats / 'day1/up'}",
    ]
