"""The last lines of a job that publishes: what is published, how good it is, and how to serve it."""

import shlex
import sys
from typing import TYPE_CHECKING

from model_store.command_line import python_command
from model_store.errors import ModelError
from model_store.manifest import Manifest
from model_store.network.layers import Shape
from model_store.report import REPORT_FOLDER
from model_store.store import Store
from model_store.version import load
from training.evaluate.intervals import accuracy_with_interval
from training.places import PACKAGED_STORE

if TYPE_CHECKING:
    from training.publish.target import Target

PICTURES = {
    "confusion.png": "confusion matrix",
    "mistakes.png": "mistakes",
    "reliability.png": "reliability",
    "curves.png": "learning curves",
}


def report_published(
    target: "Target", version: int, unevaluated: str = "its manifest has no accuracy", event: str = "published"
) -> Manifest:
    """Load a version as the service does; print its accuracy and how it compares with the one that was served.

    Args:
        unevaluated: the reason, if the version was not evaluated.
        event: begins the first line.
    """
    from training.publish.target import measured_accuracy, read_comparison

    folder = target.store.folder(target.name, version)
    loaded = load(folder)
    print(f"{event} {folder}; tested as it is served, in {loaded.classifier.precision}")
    if "bfloat16" not in loaded.manifest.golden_tolerance:
        print("it is not served in bfloat16, which changes some of its probabilities by more than 0.1")
    if measured := measured_accuracy(loaded.manifest):
        accuracy, images = measured
        print(f"accuracy on the test images: {accuracy_with_interval(round(accuracy * images), images)}")
    else:
        print(f"not evaluated: {unevaluated}", file=sys.stderr)
    if comparison := read_comparison(loaded.manifest):
        old, difference = comparison
        print(f"compared with {target.name} {old} on the same {difference.n:,} images: {difference.change}")
    return loaded.manifest


def report_fits(manifest: Manifest, val_images: int, of_run: bool = True) -> None:
    """Say which figures of a new version could not be fitted on so many validation images, and why.

    Args:
        val_images: 0 if nothing was fitted, because the network has seen them or they are not known.
        of_run: False for a version, which takes no calibration run.
    """
    from training.publish.fitting import missing_fits

    if missing := missing_fits(val_images) if val_images else None:
        print(missing, file=sys.stderr)
    elif manifest.temperature == 1 and manifest.output == "logits":
        remedy = "pass --calibration-run RUN, a run of the same recipe with --hold-out"
        if manifest.reference:  # there were validation images
            remedy = "the validation images do not limit the confidence, usually because all are right; add more images"
        elif not of_run:
            remedy = "publish its run with a --calibration-run, a run of the same recipe with --hold-out"
        print(f"not calibrated: {remedy}", file=sys.stderr)


def report_imported(manifest: Manifest, shape: Shape, said: bool) -> None:
    """Say what an imported network is given, what was left out of it, how it compares with Keras, and doubts.

    Args:
        shape: (height, width, channels) of its images.
        said: whether options say what was done with the pixels before the network.
    """
    training, preprocessing = manifest.training, manifest.preprocessing
    height, width, channels = shape
    own = training["own_scaling"]
    source = f"from its own layers {', '.join(own)}" if own else "as you said" if said else "by default"
    order = "grey" if channels == 1 else getattr(preprocessing, "channel_order", "RGB")
    mean, std = (" ".join(f"{value:.6g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    print(f"its images: {width}×{height}, {order}, (pixel / 255 - mean) / std with mean {mean}, std {std}, {source}")
    if training["left_out"]:
        print(f"left out, without effect at inference: {', '.join(training['left_out'])}")
    if training["matched_by_order"]:
        print("the two files name their layers differently; matched in order, which Keras's own answers confirm")
    compared = training["compared_with_original"]
    if isinstance(compared, float):
        print(f"compared with Keras on the file itself: probabilities differ by up to {compared:.1g}")
    else:
        print(f"compared with Keras on the rebuilt network only; Keras could not be asked about the file: {compared}")
    if not own and not said:
        print(
            "no layer of the network scales the pixels, so it gets pixel / 255; if it was trained on other numbers, "
            "pass --mean and --std, or --preprocess-input",
            file=sys.stderr,
        )
    for doubt in training["doubts"]:
        print(f"warning: {doubt}", file=sys.stderr)


def print_next_steps(store: Store, manifest: Manifest) -> None:
    """Print where the report is and how to serve the version, or how to activate it if another one is served."""
    name, version = manifest.name, manifest.version
    pictures = [text for file, text in PICTURES.items() if REPORT_FOLDER + file in manifest.files]
    lines = []
    if any(file.startswith(REPORT_FOLDER) for file in manifest.files):
        listed = f": {', '.join(pictures)}" if pictures else ""
        lines.append(("look at it", f"{store.folder(name, version) / REPORT_FOLDER}{listed}"))
    lines += _serving(store, name, version)
    print("\n" + "\n".join(f"{head:<12} {text}" for head, text in lines))


def _serving(store: Store, name: str, version: int) -> list[tuple[str, str]]:
    try:
        served, active = store.choose_version(name), store.active_version(name)
    except ModelError as error:
        print(f"no version of {name} can be served: {error}", file=sys.stderr)
        return []
    settings, lines = f"CIFAR10_MODEL_NAME={name}", []
    option = ""
    if store.root.resolve() != PACKAGED_STORE.resolve():
        path = shlex.quote(str(store.root.absolute()))
        settings, option = f"CIFAR10_STORE={path} {settings}", f" --store {path}"
    if served == version:
        lines.append(("served", f"within seconds by services with CIFAR10_MODEL_NAME={name}"))
    else:
        reason = f"you chose {served} with `activate`" if active else f"{served} is the newest"
        command = python_command(f"training activate {version} --name {name}{option}")
        lines.append(("not served", f"{reason}; to serve {version}: {command}"))
    return [
        *lines,
        (f"serve {served}", f"{settings} {python_command('app serve')}"),
        ("or", f"{settings} make run"),
        ("ask it", "curl -F file=@photo.jpg http://127.0.0.1:8000/predict"),
    ]
