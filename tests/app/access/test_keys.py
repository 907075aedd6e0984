"""The keys in force follow their file."""

import logging
from pathlib import Path

import pytest

from app.access.key_file import KeysError, append_key
from app.access.keys import Keys


def test_a_key_is_found_by_its_characters_only(tmp_path):
    key = append_key(tmp_path / "keys", "ci", "2").encode()
    keys = Keys(tmp_path / "keys")
    found = keys.find(key)
    assert found and (found.name, found.rate) == ("ci", 2.0)
    assert [keys.find(other) for other in (b"", key[:-1], key + b"a", found.digest, found.digest.hex().encode())] == (
        [None] * 5
    )


def test_keys_need_a_file_at_the_start(tmp_path):
    with pytest.raises(KeysError, match="cannot be read"):
        Keys(tmp_path / "keys")


def test_added_and_removed_keys_are_noticed_whether_the_file_is_changed_or_replaced(tmp_path):
    file = tmp_path / "keys"
    first = append_key(file, "first").encode()
    keys = Keys(file)
    second = append_key(file, "second").encode()
    assert keys.find(second) is None
    keys.look()
    assert keys.find(first) and keys.find(second)
    (tmp_path / "new").write_text(file.read_text().splitlines()[1] + "\n")
    (tmp_path / "new").replace(file)
    keys.look()
    assert keys.find(first) is None and keys.find(second)


def spoil(file: Path) -> None:
    file.write_text("what is this?")


def empty(file: Path) -> None:
    file.write_text("")


@pytest.mark.parametrize("damage", [spoil, empty, Path.unlink])
def test_a_file_that_became_invalid_keeps_the_keys_and_is_logged_once(tmp_path, caplog, damage):
    file = tmp_path / "keys"
    key = append_key(file, "ci").encode()
    keys, content = Keys(file), file.read_text()
    with caplog.at_level(logging.INFO, logger="app"):
        damage(file)
        for _ in range(3):
            keys.look()
        assert keys.find(key)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "the earlier ones stay in force" in caplog.text and "what" not in caplog.text
        file.write_text(content)
        keys.look()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"] and keys.find(key)
