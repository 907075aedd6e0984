"""What became of each seed, and the mean and spread of all."""

import statistics
from collections.abc import Mapping, Sequence

from training.errors import TrainingError
from training.fit.run.checkpoints import VAL_ACCURACY
from training.fit.run.directory import Run, best_epoch
from training.pace import format_duration

COLUMNS = "seed>", "epochs>", "{figure}>", "training time>", "state"
VAL, LOSS = "val accuracy", "training loss"
NOT_IN_SPREAD = "this is the spread between seeds; all share the validation images, so it leaves out the luck of those"


def check_same_settings(runs: Sequence[Run]) -> None:
    """Raise TrainingError if runs that have begun differ in more than seed and machine: they have no common mean."""
    begun = [run for run in runs if run.begun]
    for run in begun[1:]:
        first, other = (each.info.model_dump(mode="json", exclude={"seed", "environment"}) for each in (begun[0], run))
        if differences := [name for name, value in first.items() if other[name] != value]:
            raise TrainingError(
                f"{begun[0].folder} and {run.folder} were trained with different settings ({', '.join(differences)} in "
                "run.json); repeat the command that they began with, or choose another --out"
            )


def table(runs: Mapping[int, Run], reasons: Mapping[int, str]) -> tuple[list[str], list[list[str]]]:
    """Return column names and a row for each seed.

    Args:
        reasons: why seeds failed.
    """
    figure = _figure([run for run in runs.values() if run.finished])
    rows = []
    for seed, run in runs.items():
        history = run.history
        epochs = f"{len(history)} of {run.info.epochs}" if run.begun else "0"
        value = _format(figure, _value(figure, run)) if run.finished else "-"
        state = "finished" if run.finished else f"failed: {reasons[seed]}"
        rows.append([str(seed), epochs, value, format_duration(sum(r["seconds"] for r in history)), state])
    return [name.format(figure=figure) for name in COLUMNS], rows


def summary(runs: Sequence[Run]) -> str:
    """Return mean, sample standard deviation and range of the finished runs; empty if there is none."""
    finished = [run for run in runs if run.finished]
    if not finished:
        return ""
    figure = _figure(finished)
    values = [_value(figure, run) for run in finished]
    seeds = "1 seed" if len(values) == 1 else f"{len(values)} seeds"
    text = f"{figure} of {seeds}: mean {_format(figure, statistics.mean(values))}"
    if len(values) > 1:
        spread = statistics.stdev(values)
        points = f"{100 * spread:.2f} points" if figure == VAL else f"{spread:.4f}"
        low, high = _format(figure, min(values)), _format(figure, max(values))
        text += f", standard deviation {points}, range {low} to {high}"
    if figure == LOSS:
        return f"{text}\nthe seeds have no validation images; --hold-out keeps some, for a val accuracy"
    return f"{text}\n{NOT_IN_SPREAD}" if len(values) > 1 else text


def _figure(finished: Sequence[Run]) -> str:
    """Name the figure that seeds are compared by: val accuracy, if they have validation images."""
    return VAL if finished and VAL_ACCURACY in finished[0].history[-1] else LOSS


def _value(figure: str, run: Run) -> float:
    """Return the figure of the weights that the run ends with."""
    history = run.history
    if figure == LOSS:
        return history[-1]["loss"]
    if not run.info.recipe_values.get("keep_best"):
        return history[-1][VAL_ACCURACY]
    baselines = run.baselines
    epoch = best_epoch(history, baselines)
    return baselines.probe if baselines and not epoch else history[epoch - 1][VAL_ACCURACY]


def _format(figure: str, value: float) -> str:
    return f"{value:.2%}" if figure == VAL else f"{value:.4f}"
