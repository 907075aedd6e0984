"""`python -m app classify`: image files and folders of them → one answer a file, without a server.

Owns which files are taken and how they are decoded ahead of the network; one that cannot be used spoils no other. What
is printed is `console.py`'s.
"""

import os
import sys
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.offline.output import Console, FormatName, default_format, file_name, new_format
from app.pipeline import load_chosen
from app.prediction import Prediction, predict_each
from app.process.supervisor import available_cores
from app.settings import Settings
from model_store.errors import ImageError, ModelError, UnsupportedImage
from model_store.images.decode import decode, read_header
from model_store.manifest import Resize
from model_store.version import Loaded

BATCH = 64
START_BYTES = 1024  # by so many an image is recognised
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff", ".heic", ".heif")
NOBODY_READS = 141  # exit code, as a shell has it for SIGPIPE

# An image (32, 32, 3), what is wrong with the file, or None for a file that was never meant to be an image.
Decoded: TypeAlias = NDArray[np.uint8] | str | None
Outcome: TypeAlias = Prediction | str | None


class File(NamedTuple):
    """A file to be classified, and the folder that it was found in, unless it was named itself."""

    path: Path
    folder: Path | None


@dataclass
class Found:
    """What there is in the files and folders that were named, in their order."""

    files: list[File] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)  # the named folder it is in, and what is wrong
    hidden: int = 0


@dataclass
class Tally:
    """What became of them."""

    errors: int = 0
    others: int = 0  # files in folders that are no images
    used: set[Path] = field(default_factory=set)  # the folders in which there was more than those


def classify(paths: Sequence[Path], settings: Settings, kind: FormatName | None, top_k: int | None) -> int:
    """Classify files, and folders with all that is in them. Returns the exit code: 1 if anything could not be read."""
    chosen = kind or default_format()
    console, tally = Console(chosen), Tally()
    try:
        found = find(paths)
        if found.files:
            _answer_all(found.files, load_chosen(settings), settings.max_body_bytes, chosen, top_k, console, tally)
        _say_the_rest(found, console, tally)
    except ModelError as error:
        console.say(f"error: {error}")
        return 1
    except BrokenPipeError:
        _write_no_more(sys.stdout, sys.stderr)
        return NOBODY_READS
    except OSError as error:  # those of the files have become answers
        console.say(f"error: the answers cannot be written: {error.strerror}")
        _write_no_more(sys.stdout)
        return 1
    finally:
        console.clear()
    return int(tally.errors > 0)


def _write_no_more(*streams: TextIO) -> None:
    """Else Python flushes what is left when it ends, and complains."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def find(paths: Sequence[Path]) -> Found:
    """The files that are named, and all files in the folders that are: sorted by name, without hidden ones."""
    found = Found()
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 unlike Path's, it never raises
            found.folders.append(path)
            _search(path, found)
        else:
            found.files.append(File(path, None))
    return found


def _search(root: Path, found: Found) -> None:
    def unreadable(error: OSError) -> None:
        found.unreadable.append((root, f"{file_name(Path(error.filename))}: {error.strerror}"))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        found.hidden += sum(name.startswith(".") for name in folders + names)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.files += [File(Path(folder, name), root) for name in sorted(names) if not name.startswith(".")]


def _answer_all(
    files: Sequence[File],
    loaded: Loaded,
    most_bytes: int,
    kind: FormatName,
    top_k: int | None,
    console: Console,
    tally: Tally,
) -> None:
    names = [file_name(file.path) for file in files]
    form = new_format(kind, loaded.manifest, top_k, names)
    if form.header:
        console.answer(form.header)
    with closing(_outcomes(files, loaded, most_bytes)) as outcomes:
        for done, (file, name, outcome) in enumerate(zip(files, names, outcomes, strict=True), 1):
            if outcome is None:
                tally.others += 1
            elif isinstance(outcome, str):
                tally.errors += 1
                console.say(f"error: {name}: {outcome}")
            else:
                console.answer(form.line(name, outcome))
            if file.folder and outcome is not None:
                tally.used.add(file.folder)
            console.progress(done, len(files))


def _say_the_rest(found: Found, console: Console, tally: Tally) -> None:
    for folder, text in found.unreadable:
        tally.used.add(folder)
        tally.errors += 1
        console.say(f"error: {text}")
    for folder in [folder for folder in found.folders if folder not in tally.used]:
        tally.errors += 1
        console.say(f"error: {file_name(folder)}: there is no image in this folder, nor in the folders in it")
    if found.hidden or tally.others:
        console.say(f"skipped in folders: {found.hidden:,} hidden, {tally.others:,} other than images")


def _outcomes(files: Sequence[File], loaded: Loaded, most_bytes: int) -> Generator[Outcome, None, None]:
    """For each file its row or what became of it. While one batch is computed, the next is decoded."""
    resize, coming = loaded.manifest.preprocessing.resize, deque[list[Future[Decoded]]]()
    pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    try:
        for batch in [*batches, []]:
            coming.append([pool.submit(_decode, file, resize, most_bytes) for file in batch])
            if len(coming) > 1:
                yield from _predicted([future.result() for future in coming.popleft()], loaded)
    finally:
        pool.shutdown(cancel_futures=True)


def _predicted(decoded: Sequence[Decoded], loaded: Loaded) -> list[Outcome]:
    pixels = [image for image in decoded if isinstance(image, np.ndarray)]
    found = iter(predict_each(loaded.classifier, np.stack(pixels)) if pixels else ())
    return [next(found) if isinstance(each, np.ndarray) else each for each in decoded]


def _decode(file: File, resize: Resize, most_bytes: int) -> Decoded:
    try:
        if file.folder and file.path.exists() and not file.path.is_file():
            return None  # a pipe, a socket: to open it might never end
        with file.path.open("rb") as stream:
            start = stream.read(START_BYTES)
            if file.folder and not file.path.name.lower().endswith(IMAGE_SUFFIXES) and not _begins_as_image(start):
                return None
            data = start + stream.read(most_bytes)
            if len(data) > most_bytes:
                return f"it has more than {most_bytes:,} bytes, the limit that CIFAR10_MAX_BODY_BYTES sets"
            return decode(data, resize)
    except OSError as error:
        return error.strerror or str(error)
    except ImageError as error:
        return str(error)


def _begins_as_image(start: bytes) -> bool:
    try:
        read_header(start)
    except UnsupportedImage:
        return False
    except ImageError:  # it has only just begun
        return True
    return True
