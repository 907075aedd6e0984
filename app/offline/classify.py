"""`python -m app classify`: image files and folders of them → one prediction a file, without a server.

Finds the files and decodes them ahead of the network; an unusable file spoils no other. `output.py` prints.
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
from app.process.cores import available_cores
from app.settings import Settings
from model_store.errors import ImageError, ModelError, UnsupportedImage
from model_store.images.decode import decode, read_header
from model_store.manifest import Resize
from model_store.version import Loaded

BATCH = 64
START_BYTES = 1024  # enough to recognise an image
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff", ".heic", ".heif")
BROKEN_PIPE = 141  # exit code, the shell's for SIGPIPE

# An image (32, 32, 3), an error's text, or None for a file in a folder that is not an image.
Decoded: TypeAlias = NDArray[np.uint8] | str | None
Outcome: TypeAlias = Prediction | str | None


class InputFile(NamedTuple):
    """A file to classify, and the named folder that contains it; None for a file that was named itself."""

    path: Path
    folder: Path | None


@dataclass
class Inputs:
    """The named files, and the contents of the named folders, in their order."""

    files: list[InputFile] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)  # the named folder, and the error's text
    hidden: int = 0


@dataclass
class Tally:
    """Counts of results that are not predictions."""

    errors: int = 0
    others: int = 0  # files in folders that are not images
    used: set[Path] = field(default_factory=set)  # named folders with an image, or with an error


def classify(paths: Sequence[Path], settings: Settings, kind: FormatName | None, top_k: int | None) -> int:
    """Classify files, and all files in folders. Returns the exit code: 1 if anything could not be read."""
    format_name = kind or default_format()
    console, tally = Console(format_name), Tally()
    try:
        inputs = find_files(paths)
        if inputs.files:
            loaded = load_chosen(settings)
            _classify_files(inputs.files, loaded, settings.max_body_bytes, format_name, top_k, console, tally)
        _report_folders(inputs, console, tally)
    except ModelError as error:
        console.report(f"error: {error}")
        return 1
    except BrokenPipeError:
        _discard_output(sys.stdout, sys.stderr)
        return BROKEN_PIPE
    except OSError as error:  # of the output; the files' own are among the results
        console.report(f"error: the answers cannot be written: {error.strerror}")
        _discard_output(sys.stdout)
        return 1
    finally:
        console.clear()
    return int(tally.errors > 0)


def _discard_output(*streams: TextIO) -> None:
    """Redirect the streams to nowhere: Python flushes them when it ends, and would report an error."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def find_files(paths: Sequence[Path]) -> Inputs:
    """Find the named files, and all files in the named folders: sorted by name, without hidden ones."""
    inputs = Inputs()
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 unlike Path's, it never raises
            inputs.folders.append(path)
            _search(path, inputs)
        else:
            inputs.files.append(InputFile(path, None))
    return inputs


def _search(root: Path, inputs: Inputs) -> None:
    def unreadable(error: OSError) -> None:
        inputs.unreadable.append((root, f"{file_name(Path(error.filename))}: {error.strerror}"))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        inputs.hidden += sum(name.startswith(".") for name in folders + names)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inputs.files += [InputFile(Path(folder, name), root) for name in sorted(names) if not name.startswith(".")]


def _classify_files(
    files: Sequence[InputFile],
    loaded: Loaded,
    max_bytes: int,
    kind: FormatName,
    top_k: int | None,
    console: Console,
    tally: Tally,
) -> None:
    names = [file_name(file.path) for file in files]
    formatter = new_format(kind, loaded.manifest, top_k, names)
    if formatter.header:
        console.write(formatter.header)
    with closing(_outcomes(files, loaded, max_bytes)) as outcomes:
        for done, (file, name, outcome) in enumerate(zip(files, names, outcomes, strict=True), 1):
            if outcome is None:
                tally.others += 1
            elif isinstance(outcome, str):
                tally.errors += 1
                console.report(f"error: {name}: {outcome}")
            else:
                console.write(formatter.line(name, outcome))
            if file.folder and outcome is not None:
                tally.used.add(file.folder)
            console.show_progress(done, len(files))


def _report_folders(inputs: Inputs, console: Console, tally: Tally) -> None:
    for folder, text in inputs.unreadable:
        tally.used.add(folder)
        tally.errors += 1
        console.report(f"error: {text}")
    for folder in [folder for folder in inputs.folders if folder not in tally.used]:
        tally.errors += 1
        console.report(f"error: {file_name(folder)}: there is no image in this folder, nor in the folders in it")
    if inputs.hidden or tally.others:
        console.report(f"skipped in folders: {inputs.hidden:,} hidden, {tally.others:,} other than images")


def _outcomes(files: Sequence[InputFile], loaded: Loaded, max_bytes: int) -> Generator[Outcome, None, None]:
    """Yield each file's outcome. While one batch is computed, the next is decoded."""
    resize, pending = loaded.manifest.preprocessing.resize, deque[list[Future[Decoded]]]()
    pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    try:
        for batch in [*batches, []]:
            pending.append([pool.submit(_decode, file, resize, max_bytes) for file in batch])
            if len(pending) > 1:
                yield from _predict([future.result() for future in pending.popleft()], loaded)
    finally:
        pool.shutdown(cancel_futures=True)


def _predict(decoded: Sequence[Decoded], loaded: Loaded) -> list[Outcome]:
    pixels = [image for image in decoded if isinstance(image, np.ndarray)]
    predictions = iter(predict_each(loaded.classifier, np.stack(pixels)) if pixels else ())
    return [next(predictions) if isinstance(item, np.ndarray) else item for item in decoded]


def _decode(file: InputFile, resize: Resize, max_bytes: int) -> Decoded:
    try:
        if file.folder and file.path.exists() and not file.path.is_file():
            return None  # opening a pipe or a socket might block forever
        with file.path.open("rb") as stream:
            start = stream.read(START_BYTES)
            if file.folder and not file.path.name.lower().endswith(IMAGE_SUFFIXES) and not _starts_as_image(start):
                return None
            data = start + stream.read(max_bytes)
            if len(data) > max_bytes:
                return f"it has more than {max_bytes:,} bytes, the limit that CIFAR10_MAX_BODY_BYTES sets"
            return decode(data, resize)
    except OSError as error:
        return error.strerror or str(error)
    except ImageError as error:
        return str(error)


def _starts_as_image(start: bytes) -> bool:
    try:
        read_header(start)
    except UnsupportedImage:
        return False
    except ImageError:  # of the missing rest
        return True
    return True
