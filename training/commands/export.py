"""`export`: write a network for another server."""

import argparse
from pathlib import Path

from training.commands.arguments import Jobs
from training.export.formats import CONTRACT, FORMATS


def add_export(jobs: Jobs) -> None:
    """Add the job `export`."""
    job = jobs.add_parser("export", help="write a network in a format for another server", description=CONTRACT)
    job.add_argument("folder", metavar="VERSION|RUN", type=Path, help="directory of a version or of a run")
    titles = "; ".join(f"{name}: {format_.title}" for name, format_ in FORMATS.items())
    job.add_argument("--format", choices=FORMATS, required=True, help=titles)
    endings = "; ".join(f"{name}: {format_}" for name, format_ in FORMATS.items())
    job.add_argument("--out", type=Path, required=True, metavar="PATH", help=f"must not exist yet. {endings}")
    job.set_defaults(job=run_export)


def run_export(options: argparse.Namespace) -> None:
    """Write the network and print the largest difference between its probabilities and the served ones."""
    from training.export.export import export
    from training.publish.network import network_from_folder

    difference = export(network_from_folder(options.folder), options.format, options.out)
    print(f"written {options.out}; it agrees with the served network within {difference:.1e}")
