"""The commands of docs/operations.md that copy a store and restore it, while versions are published and removed."""

import re
import shutil
import subprocess
import threading
from pathlib import Path

from model_store.files import MANIFEST, hash_files
from model_store.manifest import Manifest, read_manifest
from model_store.store import SHIPPED_STORE, Store
from tests.app.service import ROOT

NAME = "cifar10-small"
COPIES = 10


def documented(word: str) -> str:
    """The shell command of the documentation that has this word, with its folder to be replaced."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"-c '(cd /models && [^']*\b{word}\b[^']*)'", text)
    return command


def shipped() -> Path:
    store = Store(SHIPPED_STORE)
    return store.folder(NAME, store.choose_version(NAME))


def publish(store: Store) -> int:
    """Publish a copy of the shipped version under the next number."""

    def write(folder: Path, version: int) -> Manifest:
        shutil.copytree(shipped(), folder, dirs_exist_ok=True)
        (folder / MANIFEST).unlink()
        return read_manifest(shipped() / MANIFEST).model_copy(update={"version": version, "files": {}})

    return store.publish(NAME, write)


def test_a_copy_made_while_versions_come_and_go_is_complete_and_can_be_restored(tmp_path):
    store, over = Store(tmp_path / "store"), threading.Event()
    store.activate(NAME, publish(store))

    def change() -> None:
        while not over.is_set():
            store.activate(NAME, publish(store))
            store.prune(NAME, keep=2)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        copies = [copied(store, tmp_path / f"{number}.tar") for number in range(COPIES)]
    finally:
        over.set()
        changing.join()
    for copy in copies:
        restored = Store(tmp_path / copy.stem)
        restored.root.mkdir()
        command = documented("extract").replace("/models", str(restored.root))
        with copy.open("rb") as archive:
            subprocess.run(["sh", "-c", command], stdin=archive, check=True)
        (active,) = restored.candidates(NAME)
        for version in restored.versions(NAME):
            manifest = read_manifest(restored.folder(NAME, version) / MANIFEST)
            assert manifest.version == version
        assert read_manifest(restored.folder(NAME, active) / MANIFEST).files == hash_files(
            restored.folder(NAME, active)
        )
        assert not list(restored.root.rglob(".*"))


def copied(store: Store, archive: Path) -> Path:
    """Run the documented command until it succeeds, as documented: a version that is removed meanwhile fails it."""
    command = documented("create").replace("/models", str(store.root))
    while True:
        with archive.open("wb") as out:
            if subprocess.run(["sh", "-c", command], stdout=out, stderr=subprocess.DEVNULL).returncode == 0:
                return archive
