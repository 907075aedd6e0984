"""The environment of requirements/ray.txt: Ray on top of the packages of this environment."""

import fcntl
import hashlib
import sysconfig
from pathlib import Path

from benchmarks.peers.environments import make_environment

ROOT = Path(__file__).parent.parent.parent
LOCK, DEV_LOCK = ROOT / "requirements" / "ray.txt", ROOT / "requirements" / "dev.txt"
HOME = Path.home() / ".cache" / "cifar10-cluster"
SECONDS = 600  # of a test: a cluster starts in 10 s on an idle machine, and trains networks


def install() -> Path:
    """Return the bin directory of the environment, installed on first use, and anew when a lock has changed."""
    below = Path(sysconfig.get_path("purelib"))
    digest = hashlib.sha256(LOCK.read_bytes() + DEV_LOCK.read_bytes() + bytes(below)).hexdigest()[:12]
    HOME.mkdir(parents=True, exist_ok=True)
    arguments = ["--only-binary=:all:", "--require-hashes", "--requirement", str(LOCK)]
    with (HOME / "lock").open("w") as lock:  # test processes take turns
        fcntl.flock(lock, fcntl.LOCK_EX)
        return make_environment(HOME / digest, arguments, below=below)


def pytest_command(*arguments: str) -> list[str]:
    """Return the command that runs tests in the environment, where warnings of Ray's own code are no errors."""
    options = ["-W", "default", "-p", "no:cacheprovider", "--timeout", str(SECONDS)]
    return [str(install() / "python"), "-m", "pytest", *options, *arguments]
