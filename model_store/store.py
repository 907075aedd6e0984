"""Version directories: list, choose, publish and prune them.

    {store}/{name}/{version}/    manifest.json architecture.json model.weights.h5 golden.npz report/
                                 and quantization.npz, if it can be served in int8,
                                 and novelty.npz, if novelty depends on more than the energy
    {store}/{name}/ACTIVE        the version to serve, if not the highest

A version is written into a hidden directory and renamed into place, so every visible version is complete. It never
changes afterwards.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model_store.command_line import python_command
from model_store.errors import FileError, ModelError
from model_store.files import MANIFEST, REQUIRED, hash_files
from model_store.lock import FOLDER, lock
from model_store.manifest import FILE_PATTERN, NAME_PATTERN, File, Manifest, write_manifest
from model_store.os_errors import naming, reason, remedy
from model_store.reading import read_regular

VERSION_PATTERN = r"[1-9][0-9]{0,8}"
ACTIVE = "ACTIVE"
SHIPPED_STORE = Path(__file__).resolve().parent / "models"
MAX_ACTIVE_BYTES = 1_000  # a number and white space
INCOMING = ".incoming-"  # begins the name of a folder that a version is written into; locked by its job


@dataclass(frozen=True)
class Store:
    """A folder of models by name, each a folder of versions by number."""

    root: Path

    def names(self) -> list[str]:
        """List the models in the store.

        Raises:
            ModelError: the store's folder cannot be read.
        """
        return sorted(name for name in _folders(self.root) if re.fullmatch(NAME_PATTERN, name))

    def versions(self, name: str) -> list[int]:
        """List the published versions of a model, ascending.

        Raises:
            ModelError: the model's folder cannot be read.
        """
        return sorted(int(name) for name in _folders(self.root / name) if re.fullmatch(VERSION_PATTERN, name))

    def folder(self, name: str, version: int) -> Path:
        """Path of a version's directory."""
        return self.root / name / str(version)

    def choose_version(self, name: str, pinned: int | None = None) -> int:
        """Choose the version to serve: the pinned one, else the one named in ACTIVE, else the highest.

        Raises:
            ModelError: the store lacks that version; the text lists the versions it has.
        """
        return self.candidates(name, pinned)[0]

    def candidates(self, name: str, pinned: int | None = None) -> list[int]:
        """List the versions that may be served, best first: the pinned one, else the one in ACTIVE, else all.

        Raises:
            ModelError: the store lacks that version; the text lists the versions it has.
        """
        check_name(name)
        versions = self.versions(name)
        if not versions:
            problem, publish = f" holds no version of {name!r}", "publish one"
            others = f"it holds {', '.join(names)}; choose one of them, or " if (names := self.names()) else ""
            command = f"{publish} with `{python_command('training publish')}`"
            raise ModelError(f"{self.root}{problem}; {others}{command}", f"the store{problem}; {publish}")
        version = pinned or self.active_version(name)
        if version is None:
            return versions[::-1]
        if version not in versions:
            raise ModelError(f"{name!r} has no version {version}; the store holds {', '.join(map(str, versions))}")
        return [version]

    def active_version(self, name: str) -> int | None:
        """Version named in ACTIVE, None without that file.

        Raises:
            ModelError: the file cannot be read or holds no version number.
        """
        path = self.root / name / ACTIVE
        if not os.path.lexists(path):
            return None
        text = read_regular(path, MAX_ACTIVE_BYTES).decode("utf-8", "replace").strip()
        if not re.fullmatch(VERSION_PATTERN, text):
            raise FileError(path, f" must hold a version number, it holds {text[:40]!r}")
        return int(text)

    def activate(self, name: str, version: int | None) -> None:
        """Write ACTIVE, so that this version is served; None removes it, so that the highest one is.

        The file is replaced by one rename: a service that follows the store never reads half a number.

        Raises:
            ModelError: the store lacks the version; the text lists those it has.
        """
        check_name(name)
        if (versions := self.versions(name)) == [] or version not in (None, *versions):
            existing = ", ".join(map(str, versions)) or "no version of it"
            wanted = f"version {version} of {name!r}" if versions else f"model {name!r}"
            raise ModelError(f"{self.root} has no {wanted}; it holds {existing}")
        path = self.root / name / ACTIVE
        if version is None:
            path.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory(prefix=".active-", dir=path.parent) as folder:
            staged = Path(folder) / ACTIVE
            staged.write_text(f"{version}\n")
            staged.chmod(0o644)
            _flush(staged)
            staged.replace(path)
        _flush(path.parent)

    def publish(self, name: str, write: Callable[[Path, int], Manifest]) -> int:
        """Add the next version: `write(folder, version)` fills a new folder and returns its manifest without `files`.

        The folder becomes visible by one rename, after every file in it has been hashed and flushed to disk. If another
        job takes the number first, `write` is called again with the next one. A failure, an interrupt included, leaves
        no file and no folder that was not there before. Folders that killed jobs left behind are removed.

        Raises:
            ModelError: the name is invalid, or `write` left out a required file or used an invalid file name.
        """
        check_name(name)
        folder = self.root / name
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            return self._publish(name, write)
        except BaseException:
            for path in missing:
                with suppress(OSError):  # holds what another job published meanwhile
                    path.rmdir()
            raise

    def _publish(self, name: str, write: Callable[[Path, int], Manifest]) -> int:
        _remove_left_behind(self.root / name)
        while True:
            version = max(self.versions(name), default=0) + 1
            with _staging(self.root / name) as staging:
                try:
                    with naming(self.folder(name, version)):
                        manifest = write(staging, version)
                        write_manifest(_with_files(manifest, hash_files(staging)), staging / MANIFEST)
                        _make_durable(staging)
                    staging.rename(self.folder(name, version))
                    return version
                except OSError:
                    if version not in self.versions(name):
                        raise

    def prune(self, name: str, keep: int) -> list[int]:
        """Remove all but the newest `keep` versions and the active one; return the versions removed.

        Raises:
            ModelError: the store lacks the model, `keep` is less than 1, or ACTIVE holds no version number.
        """
        check_name(name)
        if keep < 1:
            raise ModelError(
                f"prune must keep at least 1 version, not {keep}; delete the model's folder to remove it all"
            )
        if name not in self.names():
            raise ModelError(f"{self.root} holds no model {name!r}; it holds {', '.join(self.names()) or 'nothing'}")
        active = self.active_version(name)
        removed = [version for version in self.versions(name)[:-keep] if version != active]
        for version in removed:
            # Rename first: an interrupted removal must not leave half a version visible.
            hidden = self.root / name / f".removed-{version}"
            self.folder(name, version).rename(hidden)
            shutil.rmtree(hidden)
        return removed


def check_name(name: str) -> None:
    """Raise ModelError if the name is not a valid model name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ModelError(f"{name[:80]!r} is not a model name; use lower-case letters, digits, dot, dash and underscore")


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Make and lock a hidden folder in `folder`, which is made if missing; remove it at the end unless it was renamed.

    The lock tells other jobs that this one is alive.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        # Before it is locked, another job may take it for left behind; one that failed may remove the empty `folder`.
        with suppress(FileNotFoundError, BlockingIOError):
            staging = Path(tempfile.mkdtemp(prefix=INCOMING, dir=folder))
            try:
                held = lock(staging, FOLDER)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            break
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(held.descriptor)


def _remove_left_behind(folder: Path) -> None:
    """Remove the folders of publications that were killed. Where the file system has no locks, they stay."""
    for path in folder.glob(f"{INCOMING}*"):
        with suppress(OSError):  # its job is alive, has just ended, or is another user's
            held = lock(path, FOLDER)
            if held.effective:
                shutil.rmtree(path, ignore_errors=True)
            os.close(held.descriptor)


def _folders(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    except OSError as error:
        problem = f" cannot be read: {reason(error)}; {remedy(error)}"
        raise ModelError(f"{str(folder)[:200]}{problem}", f"the store's folder {folder.name[:80]!r}{problem}") from None


def _with_files(manifest: Manifest, files: dict[str, File]) -> Manifest:
    """Add the files to the manifest, checked as strictly as when it is read."""
    if absent := [name for name in REQUIRED if name not in files]:
        raise ModelError(f"{absent[0]} was not written; a version needs {', '.join(REQUIRED)}")
    if invalid := [name for name in files if not re.fullmatch(FILE_PATTERN, name)]:
        raise ModelError(f"{invalid[0]!r} cannot be published; name files in ASCII, at most one folder deep")
    return manifest.model_copy(update={"files": files})


def _make_durable(folder: Path) -> None:
    """Make a version readable to the service's user, and flush it to disk before the rename shows it."""
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
