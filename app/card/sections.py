"""A version's model card: what it is for and not for, what it learned from, how good it is, where it fails.

Made from the manifest and the report's evaluation alone, for any version: what a version does not say, its card says is
missing, or leaves out. Pure; knows neither HTTP nor files. What was measured stands in `results.py`.
"""

from datetime import datetime
from typing import Any

from app.card.captions import FOLDER
from app.card.markup import Html, bullets, facts, links, page, paragraph, section
from app.card.results import Served, classes, quality, robustness, verdicts
from app.card.values import duration, number, words

ROOT = "../"  # from /model/card, behind any prefix
EVALUATION = FOLDER + "evaluation.json"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_SHA256 = "a0181da372c0d63a5920fdbea2ec3f83ecbc552d378218e1cb473cf634941a3b"  # of its training images
FITS = {"stretch": "its proportions ignored", "crop": "its centre square kept", "pad": "black bars added"}


def card(served: Served) -> str:
    """The card as an HTML document."""
    manifest = served.manifest
    parts = (
        _opening,
        _use,
        _misuse,
        _data,
        _training,
        quality,
        verdicts,
        classes,
        robustness,
        _limits,
        _privacy,
        _credit,
    )
    sections = [part(served) for part in parts]
    styles = ("page/css/page.css", "page/css/card.css")
    return page(f"Model card: {manifest.name}, version {manifest.version}", ROOT, styles, sections)


def _opening(served: Served) -> Html:
    manifest = served.manifest
    targets = [(ROOT, "try it"), (ROOT + "docs", "API"), (ROOT + "model", "manifest")]
    report = [(EVALUATION, "all figures (JSON)")] if EVALUATION in manifest.files else []
    costs = [("parameters", "Weights"), ("multiply_adds", "Multiply-adds")]
    rows = [(name, f"{value:,.0f}") for key, name in costs if (value := served.metric("test", key)) is not None]
    rows += [("Published", _day(manifest.created)), ("Computed here by", f"{served.engine} in {served.precision}")]
    said = "Every figure here is read from the version's manifest and report whenever this page is asked for."
    return Html(links("Elsewhere", targets + report) + paragraph(said) + facts("This version", rows))


def _day(created: str) -> str:
    try:
        return f"{datetime.fromisoformat(created):%Y-%m-%d}"
    except ValueError:
        return created


def _use(served: Served) -> Html:
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


def _misuse(served: Served) -> Html:
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


def _data(served: Served) -> Html:
    training = served.manifest.training
    digest, start = words(training, "data_sha256"), words(training, "started_from")
    if digest == CIFAR10_SHA256:
        said = (
            "CIFAR-10's training images: 32×32 pixels, collected from the web by search terms for the Tiny Images set "
            "and sorted by students. Tiny Images was withdrawn by its makers in 2020 for offensive labels, which "
            "CIFAR-10's ten are not. About 3 % of the test images have near copies among the training images "
            "(Barz and Denzler 2020), so the figures below are somewhat too good."
        )
    elif digest:
        said = (
            "Images of the publisher's own, of which the manifest says how many they are and no more. Ask who made it."
        )
    else:
        said = "The manifest does not say which images it learned from. Ask who made it."
    before = (
        paragraph(f"It went on from {start}: what that one had learned from is part of this one.") if start else None
    )
    rows = [("Training images", _images(served)), ("SHA-256 of the data", digest)]
    known = [(name, value) for name, value in rows if value]
    return section("What it learned from", paragraph(said), before, facts("Its data", known) if known else None)


def _images(served: Served) -> str | None:
    count = number(served.manifest.training, "images")
    if count is None:
        return None
    held = served.manifest.training.get("hold_out") is True
    return f"{count:,.0f}" + ("; others were held out, for choices such as the temperature" if held else "")


def _training(served: Served) -> Html:
    training = served.manifest.training
    teachers = training.get("teachers")
    text = {
        "Recipe": _joined(": ", words(training, "recipe"), words(training, "recipe_values", "description")),
        "Started from": words(training, "started_from") or ("random weights" if "started_from" in training else None),
        "Teachers": f"{len(teachers)} other runs" if isinstance(teachers, list) and teachers else None,
        "Hardware": _hardware(training),
        "Software": _software(training),
        "Code version": words(training, "environment", "code"),
        "Saved by Keras": words(training, "saved_by_keras"),
        "Published from": words(training, "published_from"),
    }
    counted = {"Epochs": "epochs", "Images in a step": "batch_size", "Seed": "seed"}
    if number(training, "epochs") != 0:  # a mean of others was made without
        text |= {name: f"{n:,.0f}" for name, key in counted.items() if (n := number(training, key)) is not None}
        text |= {"Took": duration(seconds)} if (seconds := number(training, "seconds")) is not None else {}
    rows = [(name, value) for name, value in text.items() if value]
    silent = paragraph("The manifest does not say how it was trained.")
    return section("How it was trained", facts("As recorded", rows) if rows else silent, served.plot("curves.png"))


def _joined(between: str, *parts: str | None) -> str | None:
    return between.join(part for part in parts if part) or None


def _hardware(training: dict[str, Any]) -> str | None:
    cores = words(training, "environment", "cores")
    processor, device = (words(training, "environment", key) for key in ("processor", "device"))
    return _joined(", ", processor, f"{cores} cores" if cores else None, device)


def _software(training: dict[str, Any]) -> str | None:
    names = "keras", words(training, "environment", "backend") or "", "python"
    found = [(name, words(training, "environment", name)) for name in names]
    return _joined(", ", *(f"{name} {version}" for name, version in found if version))


def _limits(served: Served) -> Html:
    manifest, resize = served.manifest, served.manifest.preprocessing.resize
    fitted = served.metric("calibration", "fitted_on_images")
    said = [
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
    return section("Limits", bullets(said))


def _privacy(served: Served) -> Html:
    return section(
        "What happens to a picture sent here",
        paragraph(
            "It is read into memory, classified, and gone with the answer: it is not written to disk, logged, kept or "
            "used for training, and the service calls nobody. It has no accounts and no encryption of its own: a proxy "
            "in front of it has them. Send no picture that you may not share with whoever runs this service."
        ),
    )


def _credit(served: Served) -> Html:
    training = served.manifest.training
    cifar10 = words(training, "data_sha256") == CIFAR10_SHA256 or served.manifest.labels == CIFAR10
    credit = "CIFAR-10: Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009."
    people = "People's accuracy: CIFAR-10H, Peterson, Battleday, Griffiths and Russakovsky, 2019."
    return section(
        "Licence and credit",
        paragraph(
            "The service, and the versions published with it, are under the Apache License 2.0. A version's manifest "
            "states no licence: for one that somebody else published, ask them, for the network and for its data."
        ),
        paragraph(credit) if cifar10 else None,
        paragraph(people) if words(served.evaluation, "human_source") else None,
    )
