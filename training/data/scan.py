"""The files below a folder, and an account of the skipped ones: a line for each reason, not for each file."""

import os
from collections.abc import Iterator
from pathlib import Path

SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")  # beside all names that begin with a dot
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff"),
    *(".heic", ".heif"),
)


class Skipped:
    """Counts skipped files by reason and keeps the first of each as an example."""

    def __init__(self) -> None:
        self._reasons: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, example: object) -> None:
        """Count a file. The reason is a plural, such as "empty files"."""
        count, first = self._reasons.get(reason, (0, str(example)))
        self._reasons[reason] = count + 1, first

    def lines(self) -> list[str]:
        """Return a line for each reason, in order of first occurrence."""
        return [
            f"skipped: {reason} ({count:,}){', such as' if count > 1 else ':'} {example}"
            for reason, (count, example) in self._reasons.items()
        ]


def list_children(folder: Path, skipped: Skipped) -> tuple[list[Path], list[Path]]:
    """Return the folders and the regular files directly in a folder, in order of name."""
    for _, folders, files in _walk(folder, skipped):
        return [folder / name for name in folders], files
    return [], []


def list_files(folder: Path, skipped: Skipped) -> list[Path]:
    """Return the regular files at any depth below a folder, in order of path.

    Links are followed, but no folder is entered twice, so links to a folder above end.
    """
    visited: set[tuple[int, int]] = set()
    found: list[Path] = []
    for parent, folders, files in _walk(folder, skipped):
        status = parent.stat()
        found += files
        visited.add((status.st_dev, status.st_ino))
        for name in list(folders):
            status = (parent / name).stat()
            if (status.st_dev, status.st_ino) in visited:
                skipped.add("links to folders that are read already", parent / name)
                folders.remove(name)
    return sorted(found)


def is_image_name(path: Path) -> bool:
    """Return True if a file is named like an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def _walk(folder: Path, skipped: Skipped) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Yield each folder with the names of its folders, which may be removed before they are entered, and its files."""

    def add_unreadable(error: OSError) -> None:
        skipped.add("folders that cannot be read", f"{error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=add_unreadable):
        folders[:] = [name for name in sorted(folders) if not _is_system(Path(parent, name), skipped)]
        files = [path for path in (Path(parent, name) for name in sorted(names)) if not _is_system(path, skipped)]
        yield Path(parent), folders, [path for path in files if _is_regular(path, skipped)]


def _is_system(path: Path, skipped: Skipped) -> bool:
    if is_system := path.name.startswith(".") or path.name.casefold() in SYSTEM_FILES:
        skipped.add("hidden and system files", path)
    return is_system


def _is_regular(path: Path, skipped: Skipped) -> bool:
    if not (is_regular := path.is_file()):
        skipped.add("broken links" if path.is_symlink() else "sockets, pipes and devices", path)
    return is_regular
