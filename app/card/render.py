"""Render a version's model card: intended use, training data, quality and limits.

Needs only manifest and report; missing facts are left out or named as missing. Knows no HTTP.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.card.plots import Picture, Plot, draw_plots, list_pictures
from app.card.results import (
    ClassResults,
    Fact,
    Quality,
    RobustnessResults,
    ServedVersion,
    class_results,
    measure_quality,
    robustness_results,
    verdict_shares,
)
from app.card.training import TrainingData, mentions_cifar10, training_data, training_facts
from app.card.values import percent
from model_store.manifest import Manifest
from model_store.report import REPORT_FILE, REPORT_FOLDER

if TYPE_CHECKING:
    from jinja2 import Template

BASE_ADDRESS = "../"  # from /model/card, behind any prefix
EVALUATION = REPORT_FOLDER + REPORT_FILE


@dataclass(frozen=True)
class Card:
    """The facts that `card.html` shows."""

    manifest: Manifest
    overview: list[Fact]
    data: TrainingData
    training: list[Fact]
    quality: Quality | None
    verdict_shares: list[Fact]
    classes: ClassResults | None
    robustness: RobustnessResults | None
    fitted_on: str | None  # number of images that the temperature was fitted on
    plots: dict[str, Plot]
    pictures: dict[str, Picture]
    mentions_cifar10: bool


def render_card(served: ServedVersion, page_address: str = "page/") -> str:
    """Render the card as an HTML document; `page_address` is the folder of the page's files, relative to /."""
    return _template().render(
        card=make_card(served),
        precision=served.precision,
        base=BASE_ADDRESS,
        page=BASE_ADDRESS + page_address,
        evaluation=EVALUATION if EVALUATION in served.manifest.files else None,
    )


def make_card(served: ServedVersion) -> Card:
    """Collect the facts; a version without a report has no figures by class and no plots."""
    manifest, report = served.manifest, served.report
    fitted_on = served.metric("calibration", "fitted_on_images")
    return Card(
        manifest=manifest,
        overview=_overview(served),
        data=training_data(manifest),
        training=training_facts(manifest, report),
        quality=measure_quality(served),
        verdict_shares=verdict_shares(served),
        classes=class_results(report) if report else None,
        robustness=robustness_results(served),
        fitted_on=f"{fitted_on:,.0f}" if fitted_on else None,
        plots=draw_plots(report) if report else {},
        pictures=list_pictures(manifest, report) if report else {},
        mentions_cifar10=mentions_cifar10(manifest),
    )


def _overview(served: ServedVersion) -> list[Fact]:
    costs = {"Weights": served.metric("test", "parameters"), "Multiply-adds": served.metric("test", "multiply_adds")}
    facts = [(name, f"{cost:,.0f}") for name, cost in costs.items() if cost is not None]
    published, computed = _day(served.manifest.created), f"{served.engine} in {served.precision}"
    return [*facts, ("Published", published), ("Computed here by", computed)]


def _day(created: str) -> str:
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d}"
    except ValueError:
        return created


@cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # not at start: 150 ms with compiling

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template("card.html")
