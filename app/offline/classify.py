"""`python -m app classify`: classifies image files and folders without a server.

Finds the files and decodes them ahead of the network. An unusable file does not affect the others. `output.py` prints
the predictions.
"""

import os
import sys
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.offline.image_files import START_BYTES, file_name, is_image_name, starts_as_image
from app.offline.output import Console, FormatName, default_format, new_format
from app.prediction import Prediction, predict_each
from app.process.cores import available_cores
from app.settings import Settings
from app.versions.loading import choose
from model_store.errors import ImageError, ModelError
from model_store.images.decode import decode
from model_store.manifest import Preprocessing
from model_store.os_errors import BROKEN_PIPE, discard_output, reason, remedy
from model_store.version import Loaded

BATCH = 64

# Pixels (H, W, C), an error message, or None for a file in a folder that is not an image.
Decoded: TypeAlias = NDArray[np.uint8] | str | None
Outcome: TypeAlias = Prediction | str | None


class InputFile(NamedTuple):
    """A file to classify."""

    path: Path
    folder: Path | None  # argument under which it was found; None if the file is itself an argument


@dataclass
class Inputs:
    """The files and folders given as arguments, in order, and the files found in the folders."""

    files: list[InputFile] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)  # argument and error message
    hidden: int = 0  # hidden files and folders skipped


@dataclass
class Tally:
    """Counts of files without a prediction, for the summary and the exit code."""

    errors: int = 0
    others: int = 0  # files in folders that are not images
    used: set[Path] = field(default_factory=set)  # folder arguments with an image or an error


def classify(paths: Sequence[Path], settings: Settings, kind: FormatName | None, top_k: int | None) -> int:
    """Classify files and all images in folders. Returns the exit code: 1 if anything could not be read."""
    format_name = kind or default_format()
    console, tally = Console(format_name), Tally()
    try:
        inputs = find_files(paths)
        if inputs.files:
            choice = choose(settings)
            for version, problem in choice.errors.items():
                console.report(f"warning: version {version} is skipped: {problem}")
            _classify_files(inputs.files, choice.loaded, settings.max_body_bytes, format_name, top_k, console, tally)
        _report_folders(inputs, console, tally)
    except ModelError as error:
        console.report(f"error: {error}")
        return 1
    except BrokenPipeError:
        discard_output(sys.stdout, sys.stderr)
        return BROKEN_PIPE
    except OSError as error:  # from writing: errors from reading a file are outcomes
        console.report(f"error: the answers cannot be written: {reason(error)}; {remedy(error)}")
        discard_output(sys.stdout)
        return 1
    finally:
        console.clear()
    return int(tally.errors > 0)


def find_files(paths: Sequence[Path]) -> Inputs:
    """Collect the files among `paths`, and the files in the folders: sorted by name, without hidden ones."""
    inputs = Inputs()
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 unlike Path.is_dir, it never raises
            inputs.folders.append(path)
            _search(path, inputs)
        else:
            inputs.files.append(InputFile(path, None))
    return inputs


def _search(root: Path, inputs: Inputs) -> None:
    def unreadable(error: OSError) -> None:
        inputs.unreadable.append((root, f"{file_name(Path(error.filename))}: {reason(error)}; {remedy(error)}"))

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
        console.report(f"error: {file_name(folder)}: no image in this folder or its subfolders")
    if inputs.hidden or tally.others:
        console.report(f"skipped in folders: {inputs.hidden:,} hidden, {tally.others:,} not an image")


def _outcomes(files: Sequence[InputFile], loaded: Loaded, max_bytes: int) -> Generator[Outcome, None, None]:
    """Yield the outcome of each file; the next batch is decoded while one is computed."""
    preprocessing, pending = loaded.manifest.preprocessing, deque[list[Future[Decoded]]]()
    pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="decode")
    batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
    try:
        for batch in [*batches, []]:
            pending.append([pool.submit(_decode, file, preprocessing, max_bytes) for file in batch])
            if len(pending) > 1:
                yield from _predict([future.result() for future in pending.popleft()], loaded)
    finally:
        pool.shutdown(cancel_futures=True)


def _predict(decoded: Sequence[Decoded], loaded: Loaded) -> list[Outcome]:
    pixels = [image for image in decoded if isinstance(image, np.ndarray)]
    predictions = iter(predict_each(loaded.classifier, np.stack(pixels)) if pixels else ())
    return [next(predictions) if isinstance(item, np.ndarray) else item for item in decoded]


def _decode(file: InputFile, preprocessing: Preprocessing, max_bytes: int) -> Decoded:
    try:
        if file.folder and file.path.exists() and not file.path.is_file():
            return None  # opening a pipe or socket could block forever
        with file.path.open("rb") as stream:
            start = stream.read(START_BYTES)
            if file.folder and not is_image_name(file.path.name) and not starts_as_image(start):
                return None
            data = start + stream.read(max_bytes)
            if len(data) > max_bytes:
                return f"the file has more than {max_bytes:,} bytes, the limit that CIFAR10_MAX_BODY_BYTES sets"
            return decode(data, preprocessing)
    except OSError as error:
        return f"{reason(error)}; {remedy(error)}"
    except ImageError as error:
        return str(error)
