"""`fetch`."""

import argparse
from pathlib import Path

from training.commands.arguments import Jobs


def add_fetch(jobs: Jobs) -> None:
    """Add the job `fetch`."""
    job = jobs.add_parser("fetch", help="get CIFAR-10 and verify it")
    job.add_argument("--to", type=Path, default=Path("data"), help="folder to put it in (default: data)")
    job.add_argument("--from", dest="source", type=Path, help="a folder or .tar.gz you have already")
    job.set_defaults(job=run_fetch)


def run_fetch(options: argparse.Namespace) -> None:
    """Download CIFAR-10, or copy it from --from."""
    from training.data.fetch import fetch

    fetch(options.to, source=options.source)
