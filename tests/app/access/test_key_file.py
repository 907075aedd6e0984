"""The file of keys, and the command that adds to it."""

import hashlib
import os
import re

import pytest

from app.__main__ import main
from app.access.key_file import MAX_KEYS, KeysError, append_key, make_key, read_keys
from tests.app.service import ROOT


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_keys_have_a_name_a_hash_and_perhaps_a_rate(tmp_path):
    file = tmp_path / "keys"
    lines = ["# clients", "", f"alice {sha256('a')}", f"  bob\t{sha256('b').upper()} 2.5  # of the lab"]
    file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    keys = {key.name: key for key in read_keys(file).values()}
    assert (keys["alice"].digest.hex(), keys["alice"].rate) == (sha256("a"), None)
    assert (keys["bob"].digest.hex(), keys["bob"].rate) == (sha256("b"), 2.5)


FAULTS = {
    "empty": ("", "has no keys"),
    "comments only": ("# nobody\n\n", "has no keys"),
    "a key in place of its hash": ("alice AzzVRq4Jv5nXfTFl5Q2gkqJH4iG8cO2v1W0yYb7NQxE", "has 43 characters"),
    "no hash": ("alice", "line 1 of .*: it has 1 word"),
    "four words": (f"alice {sha256('a')} 5 images", "it has 4 words"),
    "a bad name": (f"al/ice {sha256('a')}", "a name has 1 to 64 letters"),
    "a rate of zero": (f"alice {sha256('a')} 0", "a number of at least 0.001"),
    "a rate that is none": (f"alice {sha256('a')} nan", "a number of at least 0.001"),
    "a name twice": (f"a {sha256('a')}\nb {sha256('b')}\na {sha256('c')}", "line 3 .*: line 1 has the name 'a' too"),
    "a key twice": (f"a {sha256('a')}\nb {sha256('a')}", "line 2 of .*: 'a' has the same key"),
    "too many": ("\n".join(f"k{n} {sha256(str(n))}" for n in range(MAX_KEYS + 1)), "more than 1,000 keys"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_with_the_reason_and_without_its_words(tmp_path, fault):
    content, reason = FAULTS[fault]
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(KeysError, match=reason) as error:
        read_keys(file)
    words = [word for line in content.splitlines() for word in line.partition("#")[0].split()[1:2]]
    assert not any(word in str(error.value) for word in words)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path, reason in ((tmp_path / "gone", "No such file"), (tmp_path, "not a regular file")):
        with pytest.raises(KeysError, match=reason):
            read_keys(path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(KeysError, match="not text in UTF-8"):
        read_keys(tmp_path / "binary")


def test_a_key_is_256_random_bits_and_its_line_has_the_hash():
    made = {make_key("ci")[0] for _ in range(100)}
    assert len(made) == 100 and all(re.fullmatch(r"[\w-]{43}", key) for key in made)
    key, line = make_key("ci", "5")
    assert line == f"ci {sha256(key)} 5"


def test_a_key_is_appended_to_a_file_of_its_owners(tmp_path):
    file = tmp_path / "keys"
    first = append_key(file, "one")
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().rstrip("\n"))  # as an editor may leave it
    append_key(file, "two", "3")
    assert [(key.name, key.rate) for key in read_keys(file).values()] == [("one", None), ("two", 3.0)]
    assert file.read_text().startswith(f"one {sha256(first)}\n")
    with pytest.raises(KeysError, match="has a key 'two'; choose another name"):
        append_key(file, "two")


def test_the_command_prints_the_key_and_adds_its_hash(capsys, tmp_path):
    file = tmp_path / "keys"
    assert main(["key", "ci", "--rate", "20", "--file", str(file)]) == 0
    printed = capsys.readouterr()
    key = printed.out.removesuffix("\n")
    assert file.read_text() == f"ci {sha256(key)} 20\n"
    assert "is shown this once" in printed.err and key not in printed.err
    assert main(["key", "ci", "--file", str(file)]) == 2
    assert "has a key 'ci'" in capsys.readouterr().err


def test_the_command_prints_the_line_where_no_file_is_named(capsys):
    assert main(["key", "ci"]) == 0
    printed = capsys.readouterr()
    assert f"ci {sha256(printed.out.strip())}\n" in printed.err


@pytest.mark.parametrize("arguments", [["a b"], ["ci", "--rate", "-1"], [""]])
def test_the_command_refuses_what_a_file_cannot_hold(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(["key", *arguments])
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_command_says_that_it_may_not_write(capsys, tmp_path):
    tmp_path.chmod(0o500)
    assert main(["key", "ci", "--file", str(tmp_path / "keys")]) == 2
    assert "cannot be written: Permission denied" in capsys.readouterr().err


def test_the_example_in_the_documentation_is_a_file_of_keys(tmp_path):
    example = (ROOT / "docs" / "access.md").read_text(encoding="utf-8").split("text after `#` is ignored:")[1]
    lines = [line for line in example.split("\n\n")[1].splitlines() if line.startswith("    ")]
    (tmp_path / "keys").write_text("\n".join(lines))
    assert [(key.name, key.rate) for key in read_keys(tmp_path / "keys").values()] == [("ci", None), ("lab", 20.0)]
