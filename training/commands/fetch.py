"""`fetch`: download and verify CIFAR-10."""

import argparse
from pathlib import Path

from training.commands.arguments import Jobs


def add_fetch(jobs: Jobs) -> None:
    """Add the job `fetch`."""
    job = jobs.add_parser("fetch", help="download CIFAR-10, or copy it, and verify it")
    job.add_argument("--to", type=Path, default=Path("data"), help="folder to write it to (default: data)")
    job.add_argument(
        "--from", dest="source", type=Path, help="folder or .tar.gz to copy it from instead of downloading"
    )
    job.set_defaults(job=run_fetch)


def run_fetch(options: argparse.Namespace) -> None:
    """Download CIFAR-10, or copy it from --from."""
    from training.data.fetch import fetch

    fetch(options.to, source=options.source)
