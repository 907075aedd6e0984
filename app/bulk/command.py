"""The command's messages and exit codes."""

import sys

from app.bulk.errors import BulkError
from app.bulk.job import Bulk, classify_bulk
from app.settings import Settings
from model_store.errors import ModelError
from model_store.os_errors import explain

INTERRUPTED = 130  # exit code, the shell's for SIGINT
CONTINUE = "what is answered is kept; run the same command again, without --overwrite, to continue"


def run_bulk(bulk: Bulk, settings: Settings) -> int:
    """Classify; return 0 if every image has a row, even one with an error, 1 if the run ended early."""
    try:
        print(classify_bulk(bulk, settings), file=sys.stderr)
    except (BulkError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {explain(error, 'the answers cannot be written')}; {CONTINUE}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {CONTINUE}", file=sys.stderr)
        return INTERRUPTED
    return 0
