"""The environment of requirements/ray.txt, which has Ray, TensorFlow and pytest."""

import fcntl
import hashlib
from pathlib import Path

from benchmarks.peers.environments import make_environment

ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "requirements" / "ray.txt"
HOME = Path.home() / ".cache" / "cifar10-cluster"
SECONDS = 600  # of a test: a cluster starts in 10 s on an idle machine, and trains networks


def install() -> Path:
    """Return the bin directory of the environment, installed on first use, and anew when its lock has changed."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:  # test processes take turns
        fcntl.flock(lock, fcntl.LOCK_EX)
        return make_environment(HOME / digest, ["--only-binary=:all:", "--require-hashes", "--requirement", str(LOCK)])


def pytest_command(*arguments: str) -> list[str]:
    """Return the command that runs tests in the environment, where warnings of Ray's own code are no errors."""
    options = ["-W", "default", "-p", "no:cacheprovider", "--timeout", str(SECONDS)]
    return [str(install() / "python"), "-m", "pytest", *options, *arguments]
