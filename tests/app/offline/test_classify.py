"""The command on real files: every answer in its place, whatever lies between."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.__main__ import main
from app.offline.classify import BATCH
from tests.app.conftest import png
from tests.app.service import ROOT, default_signals
from tests.waiting import wait_until

COMMAND = [sys.executable, "-m", "app", "classify"]


@pytest.fixture
def run(capsys):
    """Runs `classify` in this process: its exit code, lines of stdout, and stderr."""

    def classify(*arguments: object) -> tuple[int, list[str], str]:
        code = main(["classify", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return classify


def fill(folder: Path, **files: bytes) -> Path:
    """Write files, named with `__` for a folder's slash and `_` for a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def names(lines: list[str]) -> list[str]:
    return [Path(json.loads(line)["file"]).name for line in lines]


def test_a_folder_is_searched_in_order_and_what_is_no_image_is_counted(run, tmp_path):
    folder = fill(tmp_path, b_png=png(1), a_png=png(2), notes_txt=b"?", sub__c=png(3), _hidden=png(), _git__d_png=png())
    code, lines, stderr = run(folder)
    assert (code, names(lines)) == (0, ["a.png", "b.png", "c"])
    assert stderr == "skipped in folders: 2 hidden, 1 not an image\n"


def test_bad_files_are_named_and_spoil_no_other(run, tmp_path):
    fill(
        tmp_path, a_png=png(1), b_png=png(2)[:200], c_jpg=b"text", d_heic=b"\0\0\0\x18ftypheic", e_png=png(3), f_png=b""
    )
    code, lines, stderr = run(tmp_path)
    assert (code, names(lines)) == (1, ["a.png", "e.png"])
    errors = stderr.splitlines()
    assert len(errors) == 4 and all(error.startswith(f"error: {tmp_path}") for error in errors)
    assert "b.png: the PNG file ends early" in errors[0] and "export it as JPEG" in errors[2]


def test_a_file_that_is_named_must_be_an_image(run, tmp_path):
    fill(tmp_path, notes_txt=b"?", a_png=png())
    code, lines, stderr = run(tmp_path / "notes.txt", tmp_path / "a.png", tmp_path / "gone.png")
    assert (code, names(lines)) == (1, ["a.png"])
    assert "notes.txt: 1 bytes cannot be read" in stderr and "gone.png: No such file or directory" in stderr


def test_answers_come_in_the_order_of_the_files_over_many_batches(run, tmp_path):
    files = [tmp_path / f"{index:03}.png" for index in range(2 * BATCH + 3)]
    for index, file in enumerate(files):
        file.write_bytes(png(index % 5) if index % 50 else b"?")
    code, lines, stderr = run(*reversed(files))
    expected = [file.name for index, file in reversed(list(enumerate(files))) if index % 50]
    assert (code, names(lines)) == (1, expected) and stderr.count("error:") == 3
    probabilities = {}
    for line in lines:
        answer = json.loads(line)
        key = int(Path(answer["file"]).stem) % 5
        assert answer["label"] == probabilities.setdefault(key, answer["label"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_an_error(run, tmp_path):
    fill(tmp_path, a_png=png(), b_png=png(), closed__c_png=png())
    (tmp_path / "a.png").chmod(0)
    (tmp_path / "closed").chmod(0)
    code, lines, stderr = run(tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert (code, names(lines)) == (1, ["b.png"]) and stderr.count("Permission denied") == 2


def test_links_in_circles_are_errors_and_pipes_are_not_waited_for(run, tmp_path):
    fill(tmp_path, a_png=png())
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    code, lines, stderr = run(tmp_path)
    assert (code, names(lines)) == (1, ["a.png"])
    assert "loop.png: Too many levels of symbolic links" in stderr and "1 not an image" in stderr


def test_a_folder_without_an_image_is_an_error_that_says_so(run, tmp_path):
    (tmp_path / "empty").mkdir()
    fill(tmp_path, texts__a_txt=b"?", images__a_png=png())
    code, lines, stderr = run(tmp_path / "empty", tmp_path / "texts", tmp_path / "images")
    assert (code, names(lines)) == (1, ["a.png"])
    assert (
        f"{tmp_path}/empty: no image in this folder" in stderr
        and f"{tmp_path}/texts: no image in this folder" in stderr
    )
    assert "images: no image" not in stderr


def test_csv_has_a_header_and_a_probability_for_each_label(run, tmp_path):
    fill(tmp_path, **{'a,"b_png': png()})
    code, lines, _ = run("--format", "csv", tmp_path)
    (row,) = csv.DictReader(io.StringIO("\n".join(lines)))
    shares = {name: float(value) for name, value in row.items() if name.startswith("probability_")}
    assert code == 0 and Path(row["file"]).name == 'a,"b.png' and len(shares) == 10
    assert float(row["confidence"]) == max(shares.values()) == shares[f"probability_{row['label']}"]


def test_top_k_holds_in_every_format(run, tmp_path):
    fill(tmp_path, a_png=png())
    best = list(json.loads(run("--top-k", 3, tmp_path)[1][0])["probabilities"].items())
    header, record = csv.reader(run("--top-k", 3, "--format", "csv", tmp_path)[1])
    further = ["label_2", "confidence_2", "label_3", "confidence_3"]
    assert header == ["file", "label", "confidence", "verdict", "novelty", *further]
    pairs = record[1:3] + record[5:]
    assert [(label, float(share)) for label, share in zip(pairs[::2], pairs[1::2], strict=True)] == best
    table = run("--top-k", 3, "--format", "table", tmp_path)[1]
    cells = [f"{label} {share:.1%}" for label, share in best]
    verdict = (record[3] + " ").replace("_", " ").lstrip()
    assert " ".join(table[1].split()).endswith(f"a.png {cells[0]} {verdict}{cells[1]}, {cells[2]}")
    assert len(run("--top-k", 99, "--format", "csv", tmp_path)[1][0].split(",")) == 3 + 2 * 10


@pytest.mark.parametrize("wrong", ["0", "-1", "x", "²"])
def test_top_k_is_a_whole_number_from_one_up(capsys, wrong):
    with pytest.raises(SystemExit) as stopped:
        main(["classify", "--top-k", wrong, "a.png"])
    assert stopped.value.code == 2 and "whole number" in capsys.readouterr().err


def test_a_table_lines_up_whatever_the_script_of_the_names(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, **{"猫_png": png(), "Zoë_png": png(), "cafe\u0301_png": png(), "x\x1b[31m_png": png()})
    code, lines, _ = run("--format", "table", ".")
    assert code == 0 and lines[0].split() == ["file", "label", "confidence", "verdict", "then"]
    assert not any("\x1b" in line for line in lines) and any(r"x\x1b[31m.png" in line for line in lines)
    start = lines[0].index("label")
    assert next(line for line in lines if "Zoë" in line)[start - 2 : start] == "  "
    assert next(line for line in lines if "猫" in line)[start - 3 : start - 1] == "  "  # two columns, one character


@pytest.mark.process
@pytest.mark.parametrize("kind", ["table", "jsonl", "csv"])
def test_names_of_odd_bytes_are_printed_on_any_terminal(tmp_path, kind):
    for name in (b"caf\xe9.png", "猫.png".encode(), b"new\nline.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(png())
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*COMMAND, "--format", kind, tmp_path], cwd=ROOT, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"caf\\xe9" in done.stdout if kind == "jsonl" else rb"caf\xe9" in done.stdout
    if kind == "jsonl":
        assert {Path(json.loads(line)["file"]).name for line in done.stdout.splitlines()} >= {"猫.png", "new\nline.png"}
    elif kind == "csv":
        assert len(list(csv.reader(io.StringIO(done.stdout.decode())))) == 4


@pytest.fixture
def many(tmp_path) -> Path:
    """So many images that a pipe cannot hold the answers."""
    for index in range(6 * BATCH):
        (tmp_path / f"{index}.png").write_bytes(png())
    return tmp_path


def start(folder: Path) -> subprocess.Popen:
    with default_signals():
        return subprocess.Popen([*COMMAND, folder], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.process
def test_an_interrupt_leaves_whole_lines(many):
    with start(many) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        lines, stderr = [first, *process.stdout], process.stderr.read()
    assert (process.returncode, stderr) == (130, b"")
    assert 1 <= len([json.loads(line) for line in lines]) < 6 * BATCH


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_interrupt_while_packages_are_imported_says_nothing(tmp_path):
    process = start(tmp_path)
    maps = Path(f"/proc/{process.pid}/maps")
    wait_until(lambda: "pydantic" in maps.read_text() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == (b"", b"") and process.returncode == -signal.SIGINT  # which shells call 130


@pytest.mark.process
def test_a_reader_that_leaves_ends_it_quietly(many):
    with start(many) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's pseudo-terminals")
def test_people_get_a_table_and_a_live_line_that_is_gone_in_the_end(many):
    leader, follower = os.openpty()
    process = subprocess.Popen([*COMMAND, many], cwd=ROOT, stdout=follower, stderr=follower)
    os.close(follower)
    seen = b""
    try:
        while part := os.read(leader, 65536):
            seen += part
    except OSError:  # how Linux says that the other end has gone
        pass
    os.close(leader)
    assert process.wait() == 0
    assert seen.startswith(b"file ") and f" of {6 * BATCH} files, ".encode() in seen
    shown = [line.rpartition(b"\x1b[K")[2] for line in seen.split(b"\n")]
    assert len([line for line in shown if b".png" in line]) == 6 * BATCH and not any(b"files" in line for line in shown)
