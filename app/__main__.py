"""Command line of the service: `python -m app serve | classify | check`."""

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from app.settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0, 1 for a failure, 2 for a wrong command line or setting."""
    options = _parser().parse_args(argv)
    try:
        settings = Settings()
    except ValidationError as error:
        for item in error.errors():
            name = f"CIFAR10_{item['loc'][0]}".upper()
            print(f"error: {name} is {item['input']!r}: {item['msg']}; see docs/configuration.md", file=sys.stderr)
        return 2
    return int(options.command(options, settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Serve or use a published model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="answer over HTTP until told to stop")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.set_defaults(command=_serve)
    worker = commands.add_parser("worker")  # no help: `serve` starts these
    worker.add_argument("--host")
    worker.add_argument("--port", type=int)
    worker.set_defaults(command=_work)
    classify = commands.add_parser("classify", help="classify image files without a server; one JSON object a line")
    classify.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    classify.add_argument("--top-k", type=int, default=None)
    classify.set_defaults(command=_classify)
    check = commands.add_parser("check", help="test settings, store and model; exit code 0 or 1")
    check.set_defaults(command=_check)
    return parser


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from app.workers import shared_metrics

    with shared_metrics():
        from app.server import serve

        return serve(settings, options.host, options.port)


def _work(options: argparse.Namespace, settings: Settings) -> int:
    from app.server import work

    return work(settings, options.host, options.port)


def _classify(options: argparse.Namespace, settings: Settings) -> int:
    from app.pipeline import load_chosen, rows
    from app.routes import prediction, to_json
    from model_store import images
    from model_store.errors import ImageError, ModelError

    try:
        loaded = load_chosen(settings)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    failed = False
    for path in options.images:
        try:
            image = images.decode(path.read_bytes(), loaded.manifest.preprocessing.resize)
        except (OSError, ImageError) as error:
            failed = True
            print(f"error: {path}: {error}", file=sys.stderr)
            continue
        (row,) = rows(loaded.classifier, image[None])
        print(to_json({"file": str(path)} | prediction(loaded.manifest, row, options.top_k)).decode())
    return int(failed)


def _check(options: argparse.Namespace, settings: Settings) -> int:
    from app.pipeline import load_chosen
    from model_store.errors import ModelError

    for name, value in settings.model_dump(mode="json").items():
        print(f"CIFAR10_{name.upper()}={'' if value is None else value}")
    try:
        loaded = load_chosen(settings)
    except ModelError as error:
        print(f"not servable: {error}", file=sys.stderr)
        return 1
    manifest, classifier = loaded.manifest, loaded.classifier
    print(
        f"ok: {manifest.name} version {manifest.version}, {len(manifest.files)} files verified, "
        f"{classifier.engine} in {classifier.precision}, golden images within {loaded.golden_difference:.1e}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
