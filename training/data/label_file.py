"""Image files with labels, listed in a CSV file with a header."""

import csv
from collections.abc import Iterator
from pathlib import Path

from model_store.os_errors import reason, remedy
from training.data.dataset import compose
from training.data.listing import PARTS, LabelledFile, Listing, Part
from training.data.scan import Skipped
from training.errors import TrainingError

DELIMITERS = ",;\t"
FILE_COLUMNS = ("file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name", "category")
SPLIT_COLUMNS = ("split", "set", "subset")


def read_label_file(path: Path) -> Listing:
    """Read a CSV file: a column of file paths, relative to the CSV, one of labels and optionally one of splits.

    Raises:
        TrainingError: the file is not such a CSV, a split is unknown, or no listed file exists.
    """
    files: list[LabelledFile] = []
    skipped = Skipped()
    for line, name, label, part in _rows(path):
        image = path.parent / name.replace("\\", "/")
        if not name or not label:
            skipped.add("rows without a file or a label", f"line {line} of {path}")
        elif image.is_file():
            files.append(LabelledFile(image, label, part))
        else:
            skipped.add("listed files that do not exist", image)
    if not files:
        problems = "".join(f"; {line}" for line in skipped.lines())
        raise TrainingError(f"{path} lists no file that exists; paths must be relative to its folder{problems}")
    return Listing(tuple(sorted({file.label for file in files})), files, skipped)


def _rows(path: Path) -> Iterator[tuple[int, str, str, Part]]:
    """Yield the line number, file, label and part of each row that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            delimiter = max(DELIMITERS, key=head.count)  # a comma if the header has none of them
            columns = [name.strip().lower() for name in next(csv.reader([head], delimiter=delimiter), [])]
            file, label, split = _find_columns(path, columns)
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            for cells in reader:
                if not any(cells):
                    continue
                row = [cell.strip() for cell in cells] + [""] * len(columns)
                line = reader.line_num + 1
                part = "train" if split is None else _part(path, line, row[split])
                yield line, row[file], compose(row[label]), part
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {reason(error)}; {remedy(error)}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{path} is not readable as CSV: {error}; save it as CSV in UTF-8") from None


def _find_columns(path: Path, columns: list[str]) -> tuple[int, int, int | None]:
    file, label, split = (
        next((columns.index(name) for name in names if name in columns), None)
        for names in (FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    if file is None or label is None:
        raise TrainingError(
            f"{path} has the columns {', '.join(columns) or 'none'}; its first line must name one for the files "
            f"({', '.join(FILE_COLUMNS)}) and one for the labels ({', '.join(LABEL_COLUMNS)})"
        )
    return file, label, split


def _part(path: Path, line: int, text: str) -> Part:
    if text.casefold() not in PARTS:
        raise TrainingError(f"{path}, line {line}: the split is {text!r}; it must be one of {', '.join(PARTS)}")
    return PARTS[text.casefold()]
