"""The version in service is replaced by one that is measured and not worse, or by force."""

import json
from dataclasses import replace

import pytest

from model_store.store import Store
from tests.training import linear
from training.errors import TrainingError
from training.evaluate.accuracy import evaluate
from training.publish.target import Target

TEST = linear.images(200)
REMEDY = "keep old 1, choose another --name, or pass --force to publish it all the same"


@pytest.fixture
def target(tmp_path):
    return Target(Store(tmp_path), "old")


def evaluation(confused=0):
    return evaluate(linear.classifier(confused=confused), TEST)


def measured(accuracy=0.9, images=1_000, data="d" * 64):
    """Fields of a manifest that say so."""
    return {"metrics": {"test": {"accuracy": accuracy, "images": images}}, "training": {"data_sha256": data}}


def manifest_with(target, **fields):
    """A manifest that was published elsewhere."""
    other = Target(Store(target.store.root / "elsewhere"), "old")
    linear.publish(other.store, "old", **fields)
    return other.read_served().manifest


def test_the_first_version_of_a_name_replaces_none(target):
    assert target.read_served() is None
    target.check_unevaluated()
    target.check_evaluation(evaluation(confused=10), TEST)
    target.check_manifest(manifest_with(target))
    target.check_same_labels(tuple("abcdefghij"))


@pytest.mark.parametrize(("old", "new"), [(0, 0), (2, 2), (2, 0)], ids=["as good", "as bad", "better"])
def test_a_network_that_is_not_worse_replaces_the_version_in_service(target, old, new):
    linear.publish(target.store, "old", confused=old)
    target.check_evaluation(evaluation(confused=new), TEST)


def test_a_worse_network_is_refused_with_both_accuracies_and_the_standard_error(target):
    linear.publish(target.store, "old")
    good, bad = evaluation(), evaluation(confused=2)
    error = 100 * ((good.hits != bad.hits).sum() ** 0.5) / 200
    with pytest.raises(TrainingError) as refused:
        target.check_evaluation(bad, TEST)
    assert str(refused.value) == (
        f"the new network is worse than old 1: {bad.accuracy:.2%} against {good.accuracy:.2%} of 200 test images, "
        f"a difference of {100 * (bad.accuracy - good.accuracy):.2f} points with a standard error of {error:.2f}; "
        f"{REMEDY}"
    )
    replace(target, force=True).check_evaluation(bad, TEST)


def test_a_network_that_is_not_evaluated_is_refused(target):
    linear.publish(target.store, "old")
    with pytest.raises(TrainingError, match="is not evaluated, so it is unknown if it is as good as old 1") as refused:
        target.check_unevaluated()
    assert REMEDY in str(refused.value)
    replace(target, force=True).check_unevaluated()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(measured(), measured(), None, id="as good"),
        pytest.param(measured(), measured(0.888), None, id="within a standard error"),
        pytest.param(measured(), measured(0.88), "88.00% against 90.00% of 1,000 test images", id="worse"),
        pytest.param(measured(), measured(data="e" * 64), "measured on the same test images", id="other data"),
        pytest.param(measured(), measured(images=999), "measured on the same test images", id="other images"),
        pytest.param(measured(data=None), measured(data=None), "measured on the same", id="unknown data"),
        pytest.param({}, measured(), "measured on the same test images", id="the old one is not evaluated"),
        pytest.param(measured(), {}, "the new network is not evaluated", id="the new one is not evaluated"),
        pytest.param(measured(), measured("good"), "the new network is not evaluated", id="no number"),
    ],
)
def test_manifests_are_compared_where_they_are_of_the_same_data(target, old, new, message):
    linear.publish(target.store, "old", **old)
    manifest = manifest_with(target, **new)
    replace(target, force=True).check_manifest(manifest)
    if message is None:
        target.check_manifest(manifest)
    else:
        with pytest.raises(TrainingError, match=message) as refused:
            target.check_manifest(manifest)
        assert REMEDY in str(refused.value)


def test_the_version_that_active_names_is_the_one_to_compare_with(target):
    linear.publish(target.store, "old", confused=2)
    linear.publish(target.store, "old")
    with pytest.raises(TrainingError, match="worse than old 2"):
        target.check_evaluation(evaluation(confused=2), TEST)
    (target.store.root / "old" / "ACTIVE").write_text("1")
    target.check_evaluation(evaluation(confused=2), TEST)


def test_labels_stay_those_of_the_version_in_service(target):
    linear.publish(target.store, "old")
    target.check_same_labels(linear.LABELS)
    with pytest.raises(TrainingError, match="'airplane' there and 'a' here; give the new one a --name of its own"):
        replace(target, force=True).check_same_labels(tuple("abcdefghij"))


def test_a_damaged_version_is_protected_as_little_as_it_is_served(target):
    for confused in (2, 0):
        linear.publish(target.store, "old", confused=confused)
    (target.store.root / "old/2/model.weights.h5").write_bytes(b"damaged")
    assert target.read_served().manifest.version == 1
    target.check_evaluation(evaluation(confused=2), TEST)
    manifest = target.store.root / "old/1/manifest.json"
    manifest.write_text(json.dumps({}))
    assert target.read_served() is None
    target.check_evaluation(evaluation(confused=10), TEST)
