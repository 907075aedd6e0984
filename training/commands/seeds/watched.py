"""`python -m training.commands.seeds.watched JOB …`: `python -m training JOB …` that ends with its parent process.

The parent holds the other end of standard input. If it is killed, the system closes that end. An orphan would go on
training, and keep the lock of the run, while another node continues the same run.
"""

import os
import runpy
import signal
from threading import Thread

STDIN = 0


def _end_with_parent() -> None:
    """Kill this process when standard input is closed. Checkpoints are renamed into place, so none is cut off."""
    os.read(STDIN, 1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("training", run_name="__main__")
