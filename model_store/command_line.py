"""Commands in messages, such that a person can paste them."""

import os
import sys
from pathlib import Path


def python_command(module_and_arguments: str) -> str:
    """Return `PYTHON -m MODULE ARGUMENTS`.

    PYTHON is the interpreter's path from the working directory, such as `.venv/bin/python`, if it is in a virtual
    environment below it, else `python`.
    """
    interpreter = Path("python")
    if sys.prefix != sys.base_prefix and os.path.lexists(sys.executable):
        executable, here = Path(sys.executable), Path(os.path.abspath(os.curdir))  # noqa: PTH100 keeps links
        if executable.is_relative_to(here):
            interpreter = executable.relative_to(here)
    return f"{interpreter} -m {module_and_arguments}"
