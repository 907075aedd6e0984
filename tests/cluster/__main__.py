"""Run the tests on Ray clusters, in an environment of their own.

    python -m tests.cluster [PYTEST'S ARGUMENTS]

The environment is installed once, with the hashes of requirements/ray.txt, into ~/.cache/cifar10-cluster.
"""

import subprocess
import sys

from benchmarks import BenchmarkError
from tests.cluster.environment import pytest_command


def main() -> int:
    """Run the tests; the exit code is pytest's, or 1 if the environment cannot be installed."""
    try:
        return subprocess.run(pytest_command(*(sys.argv[1:] or ["tests/cluster"]))).returncode
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
