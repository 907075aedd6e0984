"""fill-store.sh copies the image's versions into a volume, on real folders."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_store.store import SHIPPED_STORE, Store
from model_store.version import read_placed_manifest, verify
from tests.deploy.rendering import MANIFESTS

SCRIPT = MANIFESTS / "base" / "fill-store.sh"
USER = 10001
NAME = "cifar10"
VERSION = Store(SHIPPED_STORE).choose_version(NAME)


@pytest.fixture
def shipped(tmp_path) -> Path:
    """Models as the image ships them: the highest version of each, here of one model."""
    shutil.copytree(SHIPPED_STORE / NAME / str(VERSION), tmp_path / "shipped" / NAME / str(VERSION))
    return tmp_path / "shipped"


@pytest.fixture
def store(tmp_path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def fill(shipped: Path, store: Path, **options) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-s", str(shipped), str(store)]  # from stdin, as other users may not read the checkout
    return subprocess.run(command, input=SCRIPT.read_text(), capture_output=True, text=True, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_version(store: Path, version: int, manifest: str = "mine") -> Path:
    folder = store / NAME / str(version)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest)
    return folder


def test_an_empty_volume_gets_every_version_whole_and_readable_by_everybody(shipped, store):
    shutil.copytree(shipped / NAME, shipped / "another")
    process = fill(shipped, store, umask=0o077)
    assert process.returncode == 0, process.stderr
    assert content(store) == content(shipped)
    folder = Store(store).folder(NAME, VERSION)
    verify(folder, read_placed_manifest(folder))
    assert all(path.stat().st_mode & 0o055 == (0o055 if path.is_dir() else 0o044) for path in folder.rglob("*"))
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.name for path in (store / NAME).iterdir()} == {str(VERSION)}


def test_a_second_start_changes_nothing(shipped, store):
    fill(shipped, store)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    process = fill(shipped, store)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_an_older_volume_gets_the_newer_version_beside_its_own(shipped, store):
    older = write_version(store, VERSION - 1)
    (store / NAME / "ACTIVE").write_text(f"{VERSION - 1}\n")
    assert fill(shipped, store).returncode == 0
    assert Store(store).versions(NAME) == [VERSION - 1, VERSION]
    assert content(older) == {"manifest.json": b"mine"}
    assert Store(store).choose_version(NAME) == VERSION - 1  # ACTIVE stays in force


def test_a_volume_with_newer_versions_gets_none_and_pruned_versions_stay_away(shipped, store):
    write_version(store, VERSION + 1)
    write_version(store, VERSION + 2)
    process = fill(shipped, store)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert Store(store).versions(NAME) == [VERSION + 1, VERSION + 2]


def test_versions_are_compared_as_numbers(shipped, store):
    write_version(store, 10)
    shutil.move(shipped / NAME / str(VERSION), shipped / NAME / "9")
    assert fill(shipped, store).returncode == 0
    assert Store(store).versions(NAME) == [10]


def test_a_different_version_of_the_same_number_stays_and_is_reported(shipped, store):
    own = write_version(store, VERSION)
    process = fill(shipped, store)
    assert process.returncode == 0
    assert f"{own} differs from the image's version {VERSION} and stays as it is" in process.stderr
    assert content(own) == {"manifest.json": b"mine"}


def test_half_a_copy_of_a_killed_pod_is_removed_and_its_version_copied_whole(shipped, store):
    left_behind = store / NAME / ".filling-a1b2c3"
    left_behind.mkdir(parents=True)
    (left_behind / "manifest.json").write_text("{")
    assert fill(shipped, store).returncode == 0
    assert content(store) == content(shipped)
    assert not left_behind.exists()


def test_a_copy_that_fails_leaves_nothing_visible(shipped, store):
    bin_ = store.parent / "bin"
    bin_.mkdir()
    (bin_ / "sync").write_text("#!/bin/sh\nexit 1\n")  # as on a disk that reports an error when flushed
    (bin_ / "sync").chmod(0o755)
    process = fill(shipped, store, env={"PATH": f"{bin_}:{os.environ['PATH']}"})
    assert process.returncode != 0
    assert list((store / NAME).iterdir()) == []


def test_pods_that_start_together_make_one_copy(shipped, store):
    command = ["sh", str(SCRIPT), str(shipped), str(store)]
    pods = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [pod.communicate(timeout=60) for pod in pods]
    assert [pod.returncode for pod in pods] == [0] * 4, outputs
    assert sum(stdout.startswith("copied") for stdout, _ in outputs) == 1
    assert content(store) == content(shipped)


def test_without_locks_the_first_copy_wins_and_no_other_pods_copy_is_removed(shipped, store):
    bin_ = store.parent / "bin"
    bin_.mkdir()
    (bin_ / "flock").write_text("#!/bin/sh\nexit 1\n")
    # Another pod's copy gets its name while this one is being flushed.
    (bin_ / "sync").write_text(f"#!/bin/sh\nmkdir -p {store}/{NAME}/{VERSION}/report\n")
    for program in bin_.iterdir():
        program.chmod(0o755)
    other = store / NAME / ".filling-a1b2c3"
    other.mkdir(parents=True)
    process = fill(shipped, store, env={"PATH": f"{bin_}:{os.environ['PATH']}"})
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"another pod copied version {VERSION} of {NAME}\n"
    assert sorted(path.name for path in (store / NAME).iterdir()) == [".filling-a1b2c3", str(VERSION)]


@pytest.fixture
def readable_store() -> Iterator[Path]:
    """A folder that the service's user can read but not write; pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "models"
        (store / NAME).mkdir(parents=True)
        shutil.copytree(SHIPPED_STORE / NAME / str(VERSION), Path(folder) / "shipped" / NAME / str(VERSION))
        Path(folder).chmod(0o755)
        yield store
        for path in (store, store / NAME):
            path.chmod(0o755)


def fill_read_only(store: Path) -> subprocess.CompletedProcess[str]:
    for path in (store, store / NAME):
        path.chmod(0o555)
    user = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
    return fill(store.parent / "shipped", store, cwd="/", **user)


def test_a_read_only_volume_that_has_the_versions_is_left_alone(readable_store):
    shutil.copytree(SHIPPED_STORE / NAME / str(VERSION), readable_store / NAME / str(VERSION))
    process = fill_read_only(readable_store)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_a_read_only_volume_with_older_versions_is_served_and_the_newer_version_named(readable_store):
    write_version(readable_store, VERSION - 1)
    process = fill_read_only(readable_store)
    assert process.returncode == 0
    assert f"it lacks version {VERSION} of {NAME}, {VERSION - 1} stays the newest" in process.stderr
    assert Store(readable_store).versions(NAME) == [VERSION - 1]


def test_an_empty_volume_that_is_read_only_is_an_error_with_a_remedy(readable_store):
    process = fill_read_only(readable_store)
    assert process.returncode == 1
    assert process.stderr.startswith(
        f"error: {readable_store} holds no version of {NAME} and cannot be written by user"
    )
    assert "make the volume writable for the first start" in process.stderr


@pytest.mark.parametrize(
    ("missing", "remedy"), [("shipped", "pass the image's models"), ("models", "mount the volume there")]
)
def test_a_folder_that_is_missing_is_an_error_with_a_remedy(missing, remedy, shipped, store):
    shutil.rmtree(store.parent / missing)
    process = fill(shipped, store)
    assert process.returncode == 1
    assert remedy in process.stderr


def test_an_image_without_models_is_an_error(shipped, store):
    shutil.rmtree(shipped / NAME)
    process = fill(shipped, store)
    assert process.returncode == 1
    assert f"{shipped} holds no models" in process.stderr
