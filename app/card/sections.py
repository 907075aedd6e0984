"""A version's model card: intended use, training data, quality and limits.

Made from the manifest and the report's evaluation alone, for any version. Where a version lacks a fact, its card says
so or leaves it out. Pure; knows neither HTTP nor files. `results.py` has the sections of figures.
"""

from datetime import datetime
from typing import Any

from app.card.captions import REPORT_FOLDER
from app.card.markup import Html, bullets, facts, links, page, paragraph, section
from app.card.results import ServedVersion, classes_section, quality_section, robustness_section, verdicts_section
from app.card.values import duration, number, text

BASE_ADDRESS = "../"  # from /model/card, behind any prefix
EVALUATION = REPORT_FOLDER + "evaluation.json"
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_SHA256 = "a0181da372c0d63a5920fdbea2ec3f83ecbc552d378218e1cb473cf634941a3b"  # of its training images
FITS = {"stretch": "its proportions ignored", "crop": "its centre square kept", "pad": "black bars added"}


def render_card(served: ServedVersion) -> str:
    """Render the card as an HTML document."""
    manifest = served.manifest
    parts = (
        _opening,
        _use,
        _misuse,
        _data,
        _training,
        quality_section,
        verdicts_section,
        classes_section,
        robustness_section,
        _limits,
        _privacy,
        _credit,
    )
    sections = [part(served) for part in parts]
    styles = ("page/css/page.css", "page/css/card.css")
    return page(f"Model card: {manifest.name}, version {manifest.version}", BASE_ADDRESS, styles, sections)


def _opening(served: ServedVersion) -> Html:
    manifest = served.manifest
    targets = [(BASE_ADDRESS, "try it"), (BASE_ADDRESS + "docs", "API"), (BASE_ADDRESS + "model", "manifest")]
    report = [(EVALUATION, "all figures (JSON)")] if EVALUATION in manifest.files else []
    costs = [("parameters", "Weights"), ("multiply_adds", "Multiply-adds")]
    rows = [(name, f"{value:,.0f}") for key, name in costs if (value := served.metric("test", key)) is not None]
    rows += [("Published", _day(manifest.created)), ("Computed here by", f"{served.engine} in {served.precision}")]
    source = "Every figure here is read from the version's manifest and report whenever this page is asked for."
    return Html(links("Elsewhere", targets + report) + paragraph(source) + facts("This version", rows))


def _day(created: str) -> str:
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d}"
    except ValueError:
        return created


def _use(served: ServedVersion) -> Html:
    labels = served.manifest.labels
    return section(
        "What it is for",
        paragraph(f"It says how probable each of these {len(labels):,} kinds of things is to be what a photo shows:"),
        bullets(labels, "labels"),
        paragraph(
            "Use it where one of them fills most of the picture and a wrong answer costs little: for teaching, for "
            "demonstrations, for comparing methods, for sorting pictures of your own that somebody looks at afterwards."
        ),
    )


def _misuse(served: ServedVersion) -> Html:
    strange = (
        "Anything but its kinds of things: some of what is strange it calls “none of these”, the rest passes."
        if served.manifest.verdicts
        else "Anything but its kinds of things: it has no answer for “none of these” and picks one regardless."
    )
    return section(
        "What it is not for",
        bullets(
            [
                "Surveillance: not for watching places, nor for finding, following or counting anybody or their cars.",
                "People: not for their faces, identity, origin, health or mood, and not for decisions about anybody.",
                "Safety: not for steering, guarding, medicine or weapons, nor where no person checks the answer.",
                strange,
            ]
        ),
    )


def _data(served: ServedVersion) -> Html:
    training = served.manifest.training
    digest, start = text(training, "data_sha256"), text(training, "started_from")
    if digest == CIFAR10_SHA256:
        origin = (
            "CIFAR-10's training images: 32×32 pixels, collected from the web by search terms for the Tiny Images set "
            "and sorted by students. Tiny Images was withdrawn by its makers in 2020 for offensive labels, which "
            "CIFAR-10's ten are not. About 3 % of the test images have near copies among the training images "
            "(Barz and Denzler 2020), so the figures below are somewhat too good."
        )
    elif digest:
        origin = (
            "Images of the publisher's own, of which the manifest says how many they are and no more. Ask who made it."
        )
    else:
        origin = "The manifest does not say which images it learned from. Ask who made it."
    before = (
        paragraph(f"It went on from {start}: what that one had learned from is part of this one.") if start else None
    )
    rows = [("Training images", _images(served)), ("SHA-256 of the data", digest)]
    known = [(name, value) for name, value in rows if value]
    return section("What it learned from", paragraph(origin), before, facts("Its data", known) if known else None)


def _images(served: ServedVersion) -> str | None:
    count = number(served.manifest.training, "images")
    if count is None:
        return None
    held = served.manifest.training.get("hold_out") is True
    return f"{count:,.0f}" + ("; others were held out, for choices such as the temperature" if held else "")


def _training(served: ServedVersion) -> Html:
    training = served.manifest.training
    teachers = training.get("teachers")
    entries = {
        "Recipe": _joined(": ", text(training, "recipe"), text(training, "recipe_values", "description")),
        "Started from": text(training, "started_from") or ("random weights" if "started_from" in training else None),
        "Teachers": f"{len(teachers)} other runs" if isinstance(teachers, list) and teachers else None,
        "Hardware": _hardware(training),
        "Software": _software(training),
        "Code version": text(training, "environment", "code"),
        "Saved by Keras": text(training, "saved_by_keras"),
        "Published from": text(training, "published_from"),
    }
    counted = {"Epochs": "epochs", "Images in a step": "batch_size", "Seed": "seed"}
    if number(training, "epochs") != 0:  # a mean of others was made without
        entries |= {name: f"{n:,.0f}" for name, key in counted.items() if (n := number(training, key)) is not None}
        entries |= {"Took": duration(seconds)} if (seconds := number(training, "seconds")) is not None else {}
    rows = [(name, value) for name, value in entries.items() if value]
    silent = paragraph("The manifest does not say how it was trained.")
    return section("How it was trained", facts("As recorded", rows) if rows else silent, served.plot("curves.png"))


def _joined(between: str, *parts: str | None) -> str | None:
    return between.join(part for part in parts if part) or None


def _hardware(training: dict[str, Any]) -> str | None:
    cores = text(training, "environment", "cores")
    processor, device = (text(training, "environment", key) for key in ("processor", "device"))
    return _joined(", ", processor, f"{cores} cores" if cores else None, device)


def _software(training: dict[str, Any]) -> str | None:
    names = "keras", text(training, "environment", "backend") or "", "python"
    versions = [(name, text(training, "environment", name)) for name in names]
    return _joined(", ", *(f"{name} {version}" for name, version in versions if version))


def _limits(served: ServedVersion) -> Html:
    manifest, resize = served.manifest, served.manifest.preprocessing.resize
    fitted = served.metric("calibration", "fitted_on_images")
    limits = [
        f"It knows {len(manifest.labels):,} kinds of things: whatever a picture shows, its probabilities are of these.",
        f"It sees 32×32 pixels: a photo is reduced to them first ({resize.filter}, {FITS[resize.fit]}), and what "
        "cannot be told at that size, it cannot tell.",
        f"Its confidences were calibrated on {fitted:,.0f} images of the same source; on others they are too high."
        if fitted
        else "Its confidences were not calibrated: take them for an order, not for how often it is right.",
        "It is no better at a kind of thing than the pictures it learned that from: what they show rarely (an unusual "
        "angle, breed, place or light) it gets wrong more often, and no figure here says how much.",
        "It can be fooled on purpose by changes that nobody sees; nothing here defends against that.",
    ]
    return section("Limits", bullets(limits))


def _privacy(served: ServedVersion) -> Html:
    return section(
        "What happens to a picture sent here",
        paragraph(
            "It is read into memory, classified, and gone with the answer: it is not written to disk, logged, kept or "
            "used for training, and the service calls nobody. It has no accounts and no encryption of its own: a proxy "
            "in front of it has them. Send no picture that you may not share with whoever runs this service."
        ),
    )


def _credit(served: ServedVersion) -> Html:
    training = served.manifest.training
    cifar10 = text(training, "data_sha256") == CIFAR10_SHA256 or served.manifest.labels == CIFAR10_LABELS
    credit = "CIFAR-10: Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009."
    people = "People's accuracy: CIFAR-10H, Peterson, Battleday, Griffiths and Russakovsky, 2019."
    return section(
        "Licence and credit",
        paragraph(
            "The service, and the versions published with it, are under the Apache License 2.0. A version's manifest "
            "states no licence: for one that somebody else published, ask them, for the network and for its data."
        ),
        paragraph(credit) if cifar10 else None,
        paragraph(people) if text(served.evaluation, "human_source") else None,
    )
