"""TensorFlow's start-up lines about oneDNN, CUDA and absl, on request only.

TF_CPP_MIN_LOG_LEVEL is the request: at 0 every line is shown, at 1 no information, at 2 no warnings, at 3 no errors.
TensorFlow 2.21 writes most lines from C++ while it is loaded, before it obeys this variable.
"""

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
STDERR = 2
# The formats of absl and of TensorFlow before 2.20, and two lines without severity.
LINE = re.compile(rb"([IWEF])\d{4} \d\d:\d\d:[\d.]+ +\d+ \S+:\d+\] |\d{4}-\d\d-\d\d [\d:.]+: ([IWEF]) ")
INFORMATION = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|To enable the following instructions: "
)


def silence_tensorflow() -> None:
    """Set TF_CPP_MIN_LOG_LEVEL to 3 unless the user has set it, and obey it while TensorFlow is imported."""
    level = os.environ.setdefault(LOG_LEVEL, "3")
    if level in ("1", "2", "3") and "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _QuietImport(int(level)))


def is_noise(line: bytes, level: int) -> bool:
    """Return True if a level of at least 1 leaves out a line."""
    if match := LINE.match(line):
        return (match[1] or match[2]) in b"IWE"[:level]
    return bool(INFORMATION.match(line))


@contextmanager
def without_noise(level: int) -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and write it at the end without the noise.

    If the process is killed meanwhile, it is lost.
    """
    sys.stderr.flush()
    original = os.dup(STDERR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, STDERR)
            os.close(original)
            held.seek(0)
            for line in held:
                if not is_noise(line, level):
                    os.write(STDERR, line)


class _QuietImport(MetaPathFinder):
    """Finds TensorFlow, once, with a loader that runs `without_noise`."""

    def __init__(self, level: int) -> None:
        self._level = level

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_quietly(module: ModuleType) -> None:
                with without_noise(self._level):
                    execute(module)

            spec.loader.exec_module = execute_quietly  # type: ignore[method-assign]
        return spec
