"""Command line of the service: `python -m app serve | classify | check | key`."""

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from app.settings import Settings

T = TypeVar("T")
UNUSED_PORT = 0  # of a command that does not listen
INVALID = 2  # exit code, argparse's
INTERRUPTED = 130  # exit code, the shell's for SIGINT
_BULK_SOURCE = re.compile(r"^s3://|\.(?:zip|tar|tgz|tar\.(?:gz|bz2|xz)|parquet)$", re.IGNORECASE)


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 after a failure, 2 for an invalid command line or setting."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 open for as long as the process
    options = _parser().parse_args(argv)
    try:
        with _interruptible():
            from pydantic import ValidationError

            from app.settings import Settings, environment_warnings, set_variable, variables
    except ModuleNotFoundError as error:
        print(
            f"error: {sys.executable} has no {error.name}; `make run` installs it for .venv/bin/python", file=sys.stderr
        )
        return 1
    try:
        # An option replaces the variable, so that a PORT for another program does not matter.
        settings = Settings() if options.port is None else Settings(**{variables()["bind_port"]: options.port})
    except ValidationError as error:
        for item in error.errors():
            variable, value = set_variable(str(item["loc"][0])), item["input"]
            print(f"error: {variable} is {value!r}: {item['msg']}; see docs/configuration.md", file=sys.stderr)
        return INVALID
    if options.command is not _work:
        for warning in environment_warnings():
            print(f"warning: {warning}", file=sys.stderr)
    return _run(options, settings)


def _run(options: argparse.Namespace, settings: "Settings") -> int:
    """Run the command; turn OSErrors that it does not handle itself into one sentence."""
    from model_store.os_errors import BROKEN_PIPE, discard_output, explain

    try:
        ended = int(options.command(options, settings))
        sys.stdout.flush()
        return ended
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            discard_output(sys.stdout)
        if isinstance(error, BrokenPipeError) and options.command is _check:  # its reader wants no more
            return BROKEN_PIPE
        print(f"error: {explain(error, f'python -m app {options.command_name}')}", file=sys.stderr)
        return 1


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C kill the process during imports: native packages panic if KeyboardInterrupt is raised in them."""
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a background job ignores SIGINT
    if handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app", description="Serve a published model, or use it without a server."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command_name")
    serve = commands.add_parser("serve", help="serve over HTTP until stopped by a signal")
    serve.add_argument(
        "--host", type=_host, help="address or name to listen on; default: CIFAR10_BIND_HOST, else 127.0.0.1"
    )
    serve.add_argument("--port", type=_port, help="default: CIFAR10_BIND_PORT, else PORT, else 8000")
    serve.add_argument("--inherited", type=json.loads, default=[], help=argparse.SUPPRESS)  # see `_serve`
    serve.set_defaults(command=_serve)
    worker = commands.add_parser("worker")  # no help: `serve` starts these
    worker.add_argument("listeners", nargs="+", type=int)
    worker.add_argument("--skipped", default="[]")  # JSON: pairs of a version and the reason
    worker.set_defaults(command=_work, port=UNUSED_PORT)
    _add_classify(commands.add_parser("classify", help="classify image files and folders without a server"))
    key = commands.add_parser("key", help="make a key for a client, for CIFAR10_ACCESS=keys")
    key.add_argument("name", type=_key_name, metavar="NAME", help="name of the client, for the log")
    key.add_argument("--rate", type=_key_rate, metavar="N", help="images a second; default: any number")
    key.add_argument("--file", type=Path, help="file of keys to add it to; default: print its line on stderr")
    key.set_defaults(command=_key, port=UNUSED_PORT)
    check = commands.add_parser(
        "check", help="print the settings and test the model; exit code 1 if it cannot be served"
    )
    check.set_defaults(command=_check, port=None)
    return parser


def _add_classify(classify: argparse.ArgumentParser) -> None:
    classify.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE|DIR",
        help="with --to also .zip, .tar and Parquet files, and s3://BUCKET/PREFIX of any of these",
    )
    classify.add_argument(
        "--format", choices=("table", "jsonl", "csv"), help="output format; default: table on a terminal, else jsonl"
    )
    classify.add_argument("--top-k", type=_positive, metavar="K", help="show only the K largest probabilities")
    bulk = classify.add_argument_group("many images", "on every core, to one Parquet file; docs/scale.md")
    bulk.add_argument("--to", type=_parquet, metavar="FILE.parquet", help="write here; a killed run continues")
    bulk.add_argument("--column", help="column of images in Parquet files; default: the only one with bytes")
    bulk.add_argument("--id-column", metavar="COLUMN", help="column of ids in Parquet files; default: FILE#ROW")
    bulk.add_argument("--shard", type=_shard, metavar="I/N", help="classify only part I, from 0, of N equal ones")
    bulk.add_argument("--workers", type=_positive, metavar="N", help="processes; default: one per core")
    bulk.add_argument("--ray", metavar="ADDRESS", help="use the cores of a Ray cluster: auto, HOST:PORT or local")
    bulk.add_argument("--overwrite", action="store_true", help="begin anew, even if FILE exists")
    classify.set_defaults(command=_classify, port=UNUSED_PORT)


def _parquet(text: str) -> Path:
    if not text.endswith(".parquet"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end with .parquet; for CSV, use --format csv without --to")
    return Path(text)


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N-1, such as 0/8 or 7/8")
    return int(match[1]), int(match[2])


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _host(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; give an address or a name, such as 127.0.0.1 or 0.0.0.0")
    return text


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65_536):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port; give a number from 1 to 65535, or 0 for any free port"
        )
    return int(text)


def _key_name(text: str) -> str:
    from app.access.key_file import check_name

    return _checked(check_name, text)


def _key_rate(text: str) -> str:
    from app.access.key_file import parse_rate

    return f"{_checked(parse_rate, text):g}"


def _checked(check: Callable[[str], T], text: str) -> T:
    try:
        return check(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {error}") from None


def _serve(options: argparse.Namespace, settings: "Settings") -> int:
    """Serve; after SIGHUP, replace this program by a new one, which inherits its sockets and processes."""
    from app.access.startup import access_problem
    from app.monitoring.logs import configure_logging
    from app.monitoring.traces import traces_problem
    from app.process.shared_directory import shared_directory
    from app.process.shutdown import HANDLED
    from app.process.supervisor import Place

    host = settings.bind_host if options.host is None else options.host
    places = [Place(**place) for place in options.inherited]
    if not places and (problem := access_problem(settings, host) or traces_problem(settings)):
        print(f"error: {problem}", file=sys.stderr)
        return INVALID
    configure_logging(settings.log_level)
    with shared_directory(settings.metrics_directory, inherited=bool(places)) as directory:
        from app.server import serve  # imports prometheus_client, which reads the directory from the environment

        settings = settings.model_copy(update={"metrics_directory": directory})
        ended = serve(settings, host, settings.bind_port, places)
        if not isinstance(ended, int):
            arguments = ["--host", host, "--port", str(settings.bind_port)]
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the new program handles them
            inherited = json.dumps(ended, default=asdict)
            os.execv(sys.executable, [sys.executable, "-m", "app", "serve", *arguments, "--inherited", inherited])
        return ended


def _work(options: argparse.Namespace, settings: "Settings") -> int:
    from app.monitoring.logs import configure_logging
    from app.versions.loading import Skipped

    configure_logging(settings.log_level)
    from app.server import work

    return work(settings, options.listeners, tuple(Skipped(*pair) for pair in json.loads(options.skipped)))


def _key(options: argparse.Namespace, settings: "Settings") -> int:
    """Print a new key on stdout, and what to do with it on stderr."""
    from app.access.key_file import KeysError, append_key, make_key

    try:
        if options.file:
            key = append_key(options.file, options.name, options.rate)
            note = f"{options.file} has the key's hash; services that use the file know it within 2 seconds"
        else:
            key, line = make_key(options.name, options.rate)
            note = f"add this line to the file that CIFAR10_KEYS_FILE names:\n{line}"
    except KeysError as error:
        print(f"error: {error}", file=sys.stderr)
        return INVALID
    print(note, "the key on stdout is shown this once; give it to the client", sep="\n", file=sys.stderr)
    print(key)
    return 0


def _classify(options: argparse.Namespace, settings: "Settings") -> int:
    if problem := _classify_problem(options):
        print(f"error: {problem}", file=sys.stderr)
        return INVALID
    if options.to:
        return _classify_bulk(options, settings)
    with _interruptible():
        from app.offline.classify import classify
    try:
        return classify([Path(image) for image in options.images], settings, options.format, options.top_k)
    except KeyboardInterrupt:
        return INTERRUPTED


def _classify_problem(options: argparse.Namespace) -> str | None:
    """Say what is wrong with the arguments of `classify`, if anything."""
    if options.to:
        return (
            "--format and --top-k are for output without --to; leave them away"
            if options.format or options.top_k
            else None
        )
    if any(getattr(options, name) for name in ("column", "id_column", "shard", "workers", "ray", "overwrite")):
        return "--column, --id-column, --shard, --workers, --ray and --overwrite need --to FILE.parquet"
    sources = [image for image in options.images if _BULK_SOURCE.search(image)]
    return f"{sources[0]} needs --to FILE.parquet, which its answers are written to" if sources else None


def _classify_bulk(options: argparse.Namespace, settings: "Settings") -> int:
    try:
        with _interruptible():
            from app.bulk.command import run_bulk
            from app.bulk.job import Bulk
            from app.bulk.selection import Shard
    except ModuleNotFoundError as error:
        print(f"error: --to needs {error.name}; `make bulk` installs it for .venv/bin/python", file=sys.stderr)
        return 1
    if options.ray and not find_spec("ray"):
        print(
            f"error: --ray needs Ray, which {sys.executable} does not have; install requirements/ray.txt into an "
            "environment of its own (docs/scale.md)",
            file=sys.stderr,
        )
        return 1
    shard = Shard(*options.shard) if options.shard else Shard()
    files = options.to, options.column, options.id_column
    return run_bulk(Bulk(options.images, *files, shard, options.workers, options.overwrite, options.ray), settings)


def _check(options: argparse.Namespace, settings: "Settings") -> int:
    from app.access.startup import access_problem
    from app.monitoring.traces import traces_problem
    from app.settings import variables
    from app.versions.loading import choose
    from model_store.errors import ModelError

    for field, value in settings.model_dump(mode="json").items():
        print(f"{variables()[field]}={'' if value is None else value}")
    if problem := access_problem(settings, settings.bind_host) or traces_problem(settings):
        print(f"error: {problem}", file=sys.stderr)
        return INVALID
    try:
        choice = choose(settings)
    except ModelError as error:
        print(f"error: the model cannot be served: {error}", file=sys.stderr)
        return 1
    for version, reason in choice.errors.items():
        print(f"warning: version {version} is skipped: {reason}", file=sys.stderr)
    if choice.hidden:
        print(f"warning: {choice.hidden}", file=sys.stderr)
    loaded = choice.loaded
    manifest, classifier = loaded.manifest, loaded.classifier
    print(
        f"ok: {manifest.name} version {manifest.version}, {len(manifest.files)} files verified, "
        f"{classifier.engine} in {classifier.precision}, golden images within {loaded.golden_difference:.1e}"
    )
    return 0


def _end(sig: int, frame: FrameType | None) -> NoReturn:
    """End at once, as without a handler, which process 1 of a container must have: the kernel ignores its signals else.

    `serve` replaces it once it can finish requests.
    """
    os._exit(128 + sig)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
