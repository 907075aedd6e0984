"""Recognise how a user's images are arranged: class folders, a split with class folders in it, or a CSV file."""

from collections.abc import Iterator
from pathlib import Path

from training.data.dataset import compose
from training.data.label_file import read_label_file
from training.data.listing import PARTS, LabelledFile, Listing, Part
from training.data.scan import Skipped, is_image_name, list_children, list_files
from training.errors import TrainingError

EXPECTED = (
    "put the images of each class into a folder of its own, in folders train, val and test if you have a split, "
    "or pass a CSV file with columns file and label"
)


def list_images(data: Path) -> Listing:
    """List the labelled files of a folder or a CSV file, at any depth below a class folder.

    A CSV file in a folder counts only if there are no class folders.

    Raises:
        TrainingError: the arrangement is none of these; the text describes it.
    """
    if not data.is_dir():
        return _list_table(data)
    skipped = Skipped()
    folders, files = list_children(data, skipped)
    tables = [path for path in files if path.suffix.lower() == ".csv"]
    parts = _find_split(data, folders)
    listing = _list_split(parts, skipped) if parts else _list_classes(folders, "train", skipped)
    if any(file.part == "train" for file in listing.files) and (parts or len(listing.labels) > 1):
        _add_stray([path for path in files if path not in tables], skipped)
        for table in tables:
            skipped.add("CSV files beside class folders", f"{table}; pass it as --data if it has the labels")
        return listing
    if len(tables) == 1:
        return read_label_file(tables[0])
    raise TrainingError(f"{data}: found {_describe(folders, files, parts)}; {EXPECTED}")


def _list_table(path: Path) -> Listing:
    if path.suffix.lower() != ".csv":
        raise TrainingError(f"{path} is a file; pass a folder of images, or a CSV file with columns file and label")
    return read_label_file(path)


def _find_split(data: Path, folders: list[Path]) -> dict[Part, Path]:
    """Return the folder of each part of a split; none if the folders are classes, such as one with images of trains."""
    parts: dict[Part, Path] = {}
    for folder in folders:
        if part := PARTS.get(folder.name.casefold()):
            if part in parts:
                raise TrainingError(f"{data} has two folders for {part}: {parts[part].name}, {folder.name}; merge them")
            parts[part] = folder
    others = [folder.name for folder in folders if folder not in parts.values()]
    if not others or "train" not in parts:
        return {} if others else parts
    inner, files = list_children(parts["train"], Skipped())
    if not inner or any(map(is_image_name, files)):
        return {}
    name = parts["train"].name
    raise TrainingError(
        f"{data} has {_join(others)} beside {name}, which holds folders; if {name} is part of a split, move the others "
        "elsewhere; if it is a class, put its images directly into it"
    )


def _list_split(parts: dict[Part, Path], skipped: Skipped) -> Listing:
    labels: set[str] = set()
    files: list[LabelledFile] = []
    doubts: list[str] = []
    for part, folder in parts.items():
        folders, stray = list_children(folder, skipped)
        _add_stray(stray, skipped)
        listing = _list_classes(folders, part, skipped)
        labels.update(listing.labels)
        files += listing.files
        doubts += listing.doubts
    return Listing(tuple(sorted(labels)), files, skipped, tuple(doubts))


def _list_classes(folders: list[Path], part: Part, skipped: Skipped) -> Listing:
    """List the files of class folders. Folders whose names are equal once composed are one class."""
    labels = {folder: compose(folder.name) for folder in folders}
    found = {folder: list_files(folder, skipped) for folder in folders}
    files = [LabelledFile(path, labels[folder], part) for folder in folders for path in found[folder]]
    return Listing(tuple(sorted(set(labels.values()))), files, skipped, tuple(_doubts(found)))


def _doubts(found: dict[Path, list[Path]]) -> Iterator[str]:
    """Name folders with images inside class folders: they may be a split, or the classes."""
    inner: dict[Path, set[str]] = {}
    for folder, files in found.items():
        paths = (path.relative_to(folder).parts for path in files if is_image_name(path))
        inner[folder] = {parts[0] for parts in paths if len(parts) > 1}
    splits = [folder for folder, names in inner.items() if any(name.casefold() in PARTS for name in names)]
    for folder in splits[:1]:
        remedy = (
            f"to use that as a split, pass {folder}" if len(splits) == 1 else "a split needs them on top: train/cat"
        )
        yield f"warning: {folder.name} is taken as one class, though it holds {_join(sorted(inner[folder]))}; {remedy}"
    others = [f"{folder.name}/{name}" for folder in found if folder not in splits for name in sorted(inner[folder])]
    if others:
        yield f"images in folders of a class folder count as that class: {_join(others)}"


def _add_stray(files: list[Path], skipped: Skipped) -> None:
    for path in files:
        kind = "images" if is_image_name(path) else "other files"
        skipped.add(f"{kind} outside the class folders", path)


def _describe(folders: list[Path], files: list[Path], parts: dict[Part, Path]) -> str:
    """Describe an arrangement that is not accepted, to follow the word "found"."""
    images = sum(map(is_image_name, files))
    if len(folders) > 1:
        lack = "files in them" if not parts else "class folders in them" if "train" in parts else "one for train"
        return f"{len(folders):,} folders, {_join([folder.name for folder in folders])}, without {lack}"
    if folders:
        return f"one folder, {folders[0].name}"
    if images:
        return f"{_count(images, 'image')} but no class folders"
    return f"{_count(len(files), 'file')} but no images" if files else "no files"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number > 1 else ''}"


def _join(names: list[str]) -> str:
    """Join up to five names."""
    first, last = (names[:5], f"{len(names) - 5:,} more") if len(names) > 6 else (names[:-1], names[-1])
    return " and ".join(filter(None, (", ".join(first), last)))
