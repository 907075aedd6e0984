"""`classify --to` as a process: continued after every kind of end, each image answered once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pyarrow import parquet

from app.__main__ import main
from app.bulk.parts import parts_folder
from app.bulk.selection import BLOCK
from tests.app.bulk.conftest import parquet_file, zip_file
from tests.app.conftest import png
from tests.app.service import ROOT, default_signals
from tests.waiting import wait_until

COMMAND = [sys.executable, "-m", "app", "classify"]
# The same with parts of a chunk each, so that a run of seconds has many.
IN_SMALL_PARTS = [
    sys.executable,
    "-c",
    f"from app.bulk import job; job.PART_IMAGES = {BLOCK}; "
    "import sys; from app.__main__ import main; sys.exit(main(['classify', *sys.argv[1:]]))",
]
IMAGES = 7 * BLOCK + 7


def start(*arguments: object, command: Sequence[str] = COMMAND, **options: object) -> subprocess.Popen:
    with default_signals():
        words = [*command, *map(str, arguments)]
        return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


def run(*arguments: object, **options: object) -> tuple[int, str]:
    with start(*arguments, **options) as process:
        stderr = process.stderr.read()
    return process.returncode, stderr


def ids(to: Path) -> list[str]:
    return parquet.read_table(to)["id"].to_pylist()


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A folder with a table of many images and an archive of a few, one of them damaged."""
    folder = tmp_path_factory.mktemp("many")
    parquet_file(folder / "b.parquet", {"image": [png(row % 7) for row in range(IMAGES)]}, rows=1000)
    zip_file(folder / "a.zip", {"1.png": png(), "2.png": png()[:200], "notes.txt": b"?"})
    return folder


def expected(folder: Path) -> list[str]:
    return [f"{folder}/a.zip/{name}" for name in ("1.png", "2.png")] + [
        f"{folder}/b.parquet#{row}" for row in range(IMAGES)
    ]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_run_continues_and_answers_every_image_once(many, tmp_path):
    to = tmp_path / "answers.parquet"
    with start(many, "--to", to, command=IN_SMALL_PARTS) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: len(list(parts_folder(to).glob("*.parquet"))) > 2, process.poll)
        workers = children.read_text().split()
        process.kill()
    assert not to.exists() and workers
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))  # they end with their parent
    kept = {path: path.stat().st_mtime_ns for path in parts_folder(to).glob("*.parquet")}
    with start(many, "--to", to, command=IN_SMALL_PARTS) as process:
        wait_until(lambda: len(list(parts_folder(to).glob("*.parquet"))) > len(kept) + 1, process.poll)
        assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
        process.send_signal(signal.SIGINT)
        stderr = process.stderr.read()
    assert process.returncode == 130 and stderr.splitlines()[-1].startswith(
        "interrupted; what is answered is kept; run"
    )
    assert "Traceback" not in stderr
    code, stderr = run(many, "--to", to)
    assert code == 0 and "of former runs" in stderr and ids(to) == expected(many)
    rows = parquet.read_table(to).to_pylist()
    assert [row["id"] for row in rows if row["error_code"]] == [f"{many}/a.zip/2.png"]
    assert run(many, "--to", to) == (0, f"{to} has the answers already\n")


@pytest.mark.process
@pytest.mark.slow
def test_shards_are_together_the_whole(many, tmp_path):
    for index in range(3):
        code, stderr = run(many, "--to", tmp_path / f"{index}.parquet", "--shard", f"{index}/3", "--workers", 1)
        assert code == 0, stderr
    assert sorted(ids(tmp_path)) == sorted(expected(many))
    sizes = [len(ids(tmp_path / f"{index}.parquet")) for index in range(3)]
    assert max(sizes) - min(sizes) <= BLOCK


@pytest.mark.process
@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_run_continues(many, tmp_path):
    to = tmp_path / "answers.parquet"
    limited = ["bash", "-c", 'ulimit -f 4; exec "$@"', "bash", *IN_SMALL_PARTS]  # 4 kB: less than a part
    code, stderr = run(many, "--to", to, command=limited)
    assert code == 1 and stderr.startswith("error: ") and len(stderr.splitlines()) == 1
    assert "File too large" in stderr and "run the same command again, without --overwrite, to continue" in stderr
    assert parts_folder(to).exists() and run(many, "--to", to)[0] == 0 and ids(to) == expected(many)


@pytest.mark.process
@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_in_one_sentence(many, tmp_path):
    to = tmp_path / "answers.parquet"
    with start(many, "--to", to, "--workers", 1, command=IN_SMALL_PARTS) as process:
        wait_until(lambda: list(parts_folder(to).glob("*.parquet")), process.poll)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (worker,) = [child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]
        os.kill(int(worker), signal.SIGKILL)
        stderr = process.stderr.read()
    assert process.returncode == 1 and "error: a process was killed, probably because memory ran out" in stderr
    assert "look at the images from " in stderr
    assert "Traceback" not in stderr and run(many, "--to", to)[0] == 0 and ids(to) == expected(many)


@pytest.mark.process
@pytest.mark.slow
def test_overwrite_begins_anew_and_another_run_is_refused(tmp_path):
    to, other = tmp_path / "answers.parquet", tmp_path / "b.png"
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    assert run(tmp_path / "a.png", "--to", to)[0] == 0
    code, stderr = run(other, "--to", to)
    assert code == 1 and "has answers of another run: sources was ['" in stderr and ids(to) == [str(tmp_path / "a.png")]
    assert run(tmp_path / "gone", "--to", to, "--overwrite")[0] == 1 and to.exists()  # a mistake removes nothing
    assert run(other, "--to", to, "--overwrite")[0] == 0 and ids(to) == [str(other)]


@pytest.mark.process
@pytest.mark.slow
def test_sources_that_change_between_the_runs_are_refused(many, tmp_path):
    to, folder = tmp_path / "answers.parquet", tmp_path / "photos"
    folder.mkdir()
    for index in range(2 * BLOCK):
        (folder / f"{index:03}.png").write_bytes(png())
    (folder / "z.parquet").symlink_to(many / "b.parquet")
    with start(folder, "--to", to, command=IN_SMALL_PARTS) as process:
        wait_until(lambda: list(parts_folder(to).glob("*.parquet")), process.poll)
        process.kill()
    (folder / "000.png").unlink()
    code, stderr = run(folder, "--to", to)
    assert code == 1 and "the sources have changed since the run began" in stderr


MEMORY = r"""
import pathlib, re, resource, sys
from app.__main__ import main
code = main(["classify", *sys.argv[1:]])
own = re.search(r"VmHWM: *\t *(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]
print([code, int(own), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss])
"""


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """Peak resident memory of this process and of its largest worker, for 20,000 images against 1,000."""
    peaks = []
    for count in (1_000, 20_000):
        cells = [png(row) for row in range(50)] * (count // 50)
        table = parquet_file(tmp_path / f"{count}.parquet", {"image": cells})
        arguments = [table, "--to", tmp_path / f"to-{count}.parquet"]
        ended = subprocess.run([sys.executable, "-c", MEMORY, *arguments], cwd=ROOT, capture_output=True, text=True)
        code, *peak = json.loads(ended.stdout)
        assert code == 0, ended.stderr
        peaks.append(peak)
    (own, worker), (own_of_many, worker_of_many) = peaks
    assert own_of_many < own + 50_000 and worker_of_many < worker + 30_000  # kB; the images have 63 MB


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--to", "a.csv"], "'a.csv' does not end with .parquet; for CSV, use --format csv"),
        (["a.png", "--to", "a.parquet", "--shard", "8/8"], "'8/8' is not I/N with I from 0 to N-1"),
        (["a.png", "--to", "a.parquet", "--shard", "1"], "'1' is not I/N"),
        (["a.png", "--to", "a.parquet", "--top-k", "3"], "--format and --top-k are for output without --to"),
        (["a.png", "--shard", "1/8"], "need --to FILE.parquet"),
        (["s3://bucket/a"], "s3://bucket/a needs --to FILE.parquet"),
        (["photos.tar.gz"], "photos.tar.gz needs --to FILE.parquet"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(capsys, arguments, message):
    try:
        code = main(["classify", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2 and message in capsys.readouterr().err


def test_a_python_without_the_group_is_told_what_to_install(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "app.bulk.command", None)
    assert main(["classify", "a.png", "--to", str(tmp_path / "a.parquet")]) == 1
    assert "`make bulk` installs it for .venv/bin/python" in capsys.readouterr().err


def test_a_source_that_does_not_exist_is_one_sentence(capsys, tmp_path):
    assert main(["classify", str(tmp_path / "gone"), "--to", str(tmp_path / "a.parquet")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/gone: No such file or directory; " + (
        "check the path: it or a folder above it does not exist\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_the_answers_that_does_not_exist_is_one_sentence(capsys, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    assert main(["classify", str(tmp_path / "a.png"), "--to", str(tmp_path / "gone/a.parquet")]) == 1
    folder, error = tmp_path / "gone", capsys.readouterr().err
    assert error.startswith(f"error: --to {folder}/a.parquet: the folder {folder} does not exist; create it, or ")


def test_serve_and_the_other_commands_do_not_import_its_packages():
    code = "import sys, app.server, app.offline.classify; print(sorted({'pyarrow', 'rich'} & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "[]\n", ended.stderr
