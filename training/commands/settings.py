"""Settings of a new run, from options or a recorded run, and those that a run must be resumed with."""

import argparse
import dataclasses

from training.errors import TrainingError
from training.fit.run.directory import Run, RunInfo
from training.fit.sources import read_record
from training.recipe_values import recipe_from_values, set_options
from training.recipes import Recipe, get_recipe


def choose_settings(options: argparse.Namespace, record: RunInfo | None) -> tuple[str, Recipe, bool]:
    """Return the recipe's name, the recipe with all options applied, and whether to hold out the validation images.

    Args:
        record: of --like.
    """
    name = record.recipe if record else options.recipe
    settings = recipe_from_values(name, record.recipe_values) if record else get_recipe(name)
    settings = dataclasses.replace(settings, epochs=options.epochs or settings.epochs)
    settings = settings.with_batch_size(options.batch_size or settings.batch_size)
    settings = set_options(name, settings, options.set)
    return name, settings, options.hold_out or bool(record and record.hold_out)


def check_settings(run: Run, options: argparse.Namespace) -> None:
    """Raise TrainingError unless a new run with these options would have the settings of this one, but for the seed."""
    name, settings, hold_out = choose_settings(options, read_record(options.like) if options.like else None)
    info = run.info
    expected = dataclasses.asdict(settings) | {"recipe": name, "hold_out": hold_out or settings.keep_best}
    recorded = dataclasses.asdict(recipe_from_values(info.recipe, info.recipe_values))
    recorded |= {"recipe": info.recipe, "hold_out": info.hold_out}
    differing = [key for key, value in expected.items() if recorded[key] != value]
    if differing:
        listed = ", ".join(f"{key} {recorded[key]!r}, now {expected[key]!r}" for key in differing)
        raise TrainingError(
            f"{run.folder} began with other settings ({listed}); repeat the options that it began with, or choose "
            "another --out"
        )


def check_resumed_settings(run: Run, options: argparse.Namespace) -> None:
    """Raise TrainingError if a setting on the command line is not the run's."""
    info = run.info
    if options.recipe and info.recipe != options.recipe:
        raise TrainingError(
            f"{run.folder} is a run of {info.recipe!r}, not of {options.recipe!r}; pass --recipe {info.recipe}"
        )
    for name in ("epochs", "batch_size", "seed"):
        requested, recorded = getattr(options, name), getattr(info, name)
        if requested is not None and requested != recorded:
            option = f"--{name.replace('_', '-')}"
            raise TrainingError(
                f"{run.folder} began with {option} {recorded}, received {requested}; a run resumes with its "
                f"original settings: leave out {option}, or start a new run with another --out"
            )
    if options.set:
        raise TrainingError("a run resumes with its original settings: leave out --set")
    if options.hold_out and not info.hold_out:
        raise TrainingError(
            f"{run.folder} began without --hold-out and was trained on the validation images; "
            "leave out --hold-out, or start a new run with another --out"
        )
