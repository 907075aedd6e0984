"""A manifest survives the disk unchanged, and one that is not understood is refused by the name of the field."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.errors import ModelError
from model_store.manifest import File, Manifest, Preprocessing, Resize, read_manifest, write_manifest
from model_store.store import SHIPPED_STORE

DOCUMENT = {
    "schema_version": 1,
    "name": "cifar10",
    "version": 3,
    "created": "2026-11-23T10:00:00+00:00",
    "labels": ["cat", "dog"],
    "preprocessing": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "resize": {"filter": "box", "fit": "pad", "jpeg_margin": 2},
    },
    "output": "logits",
    "temperature": 1.5,
    "verdicts": {"novelty_above": 0.95, "rejection_above": None, "confidence_below": 0.8, "scores": [-7.5, -3.0, 1.25]},
    "reference": {
        "counts": {
            "class": [30, 20],
            "confidence": [0, 0, 0, 0, 0, 5, 5, 0, 0, 40],
            "verdict": [40, 5, 5],
            "brightness": [0] * 7 + [25, 25] + [0] * 7,
            "sharpness": [0] * 6 + [50] + [0] * 9,
        }
    },
    "golden_tolerance": {"float32": 1e-4, "bfloat16": 0.05},
    "files": {"model.weights.h5": {"size": 5, "sha256": "0" * 64}, "report/plot.png": {"size": 0, "sha256": "f" * 64}},
    "metrics": {"accuracy": 0.9},
    "training": {"recipe": "fast"},
}


def written(document, folder):
    path = folder / "manifest.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def changed(*place, to):
    document = json.loads(json.dumps(DOCUMENT))
    *above, key = place
    inner = document
    for step in above:
        inner = inner[step]
    inner[key] = to
    return document


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    manifest = read_manifest(written(DOCUMENT, tmp_path))
    assert manifest.model_dump(mode="json") == DOCUMENT


INPUTS = {
    "height": {"height": 96},
    "both sides": {"height": 224, "width": 160},
    "order": {"channel_order": "BGR"},
    "grey": {"mean": [0.5], "std": [0.5]},
}


@pytest.mark.parametrize("fields", INPUTS.values(), ids=INPUTS)
def test_another_input_needs_the_second_schema_and_says_only_what_differs(tmp_path, fields):
    document = DOCUMENT | {"schema_version": 2, "preprocessing": DOCUMENT["preprocessing"] | fields}
    manifest = read_manifest(written(document, tmp_path))
    assert manifest.preprocessing.schema_version == 2
    write_manifest(manifest, tmp_path / "manifest.json")
    assert json.loads((tmp_path / "manifest.json").read_text()) == document


@pytest.mark.parametrize("path", sorted(SHIPPED_STORE.glob("*/*/manifest.json")), ids=lambda path: path.parts[-3])
def test_shipped_manifests_stay_byte_for_byte(path, tmp_path):
    write_manifest(read_manifest(path), tmp_path / "manifest.json")
    assert json.loads((tmp_path / "manifest.json").read_bytes()) == json.loads(path.read_bytes())


def test_scores_are_also_read_by_the_name_that_they_had_when_all_were_energies(tmp_path):
    old = {"novelty_above": 0.95, "confidence_below": 0.8, "energies": [-7.5, -3.0, 1.25]}
    assert read_manifest(written(changed("verdicts", to=old), tmp_path)) == Manifest(**DOCUMENT)


def test_a_manifest_is_written_for_people_to_read(tmp_path):
    write_manifest(Manifest.model_validate(DOCUMENT | {"labels": ["chat", "鳥"]}), tmp_path / "manifest.json")
    lines = (tmp_path / "manifest.json").read_text(encoding="utf-8").splitlines()
    assert lines[1] == '  "schema_version": 1,'
    assert '    "鳥"' in lines


numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-6, max_value=1e6)
fractions = st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True)
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
free = st.dictionaries(
    words, st.recursive(st.none() | st.booleans() | st.integers() | numbers | words, st.lists, max_leaves=5), max_size=4
)
manifests = st.builds(
    Manifest,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    version=st.integers(1, 10**6),
    created=words,
    labels=st.lists(words, min_size=2, max_size=12, unique=True).map(tuple),
    preprocessing=st.builds(
        Preprocessing,
        mean=st.tuples(numbers, numbers, numbers),
        std=st.tuples(positive, positive, positive),
        resize=st.builds(
            Resize,
            filter=st.sampled_from(["box", "bilinear", "hamming", "bicubic", "lanczos"]),
            fit=st.sampled_from(["stretch", "crop", "pad"]),
            jpeg_margin=st.integers(1, 64),
        ),
    ),
    output=st.just("logits"),
    temperature=positive,
    golden_tolerance=st.dictionaries(st.sampled_from(["float32", "bfloat16"]), fractions),
    files=st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,20})?", fullmatch=True),
        st.builds(File, size=st.integers(0, 10**12), sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
        max_size=4,
    ),
    metrics=free,
    training=free,
)


@settings(deadline=None, max_examples=80)
@given(manifests)
def test_any_manifest_survives_the_disk(tmp_path_factory, manifest):
    path = tmp_path_factory.getbasetemp() / "manifest.json"
    write_manifest(manifest, path)
    assert read_manifest(path) == manifest


REFUSED = {
    "extra field": (changed("comment", to="hello"), "comment"),
    "extra field inside": (changed("preprocessing", "gamma", to=2.2), "preprocessing.gamma"),
    "newer schema": (changed("schema_version", to=3), "schema_version"),
    "name with a folder": (changed("name", to="../cifar10"), "name"),
    "version zero": (changed("version", to=0), "version"),
    "one label": (changed("labels", to=["cat"]), "labels"),
    "same labels": (changed("labels", to=["cat", "cat"]), "labels must be distinct"),
    "std of zero": (changed("preprocessing", "std", to=[0, 1, 1]), "preprocessing.std.0"),
    "two means": (changed("preprocessing", "mean", to=[0, 1]), "they have 2 and 3"),
    "one mean, three deviations": (changed("preprocessing", "mean", to=[0]), "they have 1 and 3"),
    "side of 15": (changed("preprocessing", "height", to=15), "preprocessing.height"),
    "side of 257": (changed("preprocessing", "width", to=257), "preprocessing.width"),
    "channel order": (changed("preprocessing", "channel_order", to="GBR"), "preprocessing.channel_order"),
    "channel order of grey": (
        changed("preprocessing", to={"mean": [0], "std": [1], "channel_order": "BGR"}),
        "grey has one channel",
    ),
    "new fields in an old schema": (changed("preprocessing", "height", to=96), "schema_version must be 2"),
    "filter": (changed("preprocessing", "resize", "filter", to="nearest"), "preprocessing.resize.filter"),
    "output": (changed("output", to="scores"), "output"),
    "temperature of zero": (changed("temperature", to=0), "temperature"),
    "temperature of probabilities": (changed("output", to="probabilities"), "temperature divides logits"),
    "precision": (changed("golden_tolerance", to={"int4": 0.1}), "golden_tolerance"),
    "tolerance of one": (changed("golden_tolerance", "float32", to=1), "golden_tolerance.float32"),
    "hash": (changed("files", "model.weights.h5", "sha256", to="0" * 63), "files.model.weights.h5.sha256"),
    "size": (changed("files", "model.weights.h5", "size", to=-1), "files.model.weights.h5.size"),
    "verdicts missing beside a reference": (changed("verdicts", to=None), "the reference counts verdicts"),
    "classes of a reference": (changed("reference", "counts", "class", to=[30, 10, 10]), "must count 2 classes"),
    "bins of a reference": (changed("reference", "counts", "verdict", to=[40, 10]), "verdict has 3 bins, not 2"),
    "feature of a reference": (changed("reference", "counts", "hue", to=[50]), "reference.counts.hue"),
    "a feature missing": (changed("reference", "counts", to={"class": [30, 20]}), "counts lack brightness, confidence"),
    "other images counted": (
        changed("reference", "counts", "verdict", to=[40, 5, 4]),
        "count the same number of images",
    ),
    "fewer than none": (changed("reference", "counts", "class", to=[60, -10]), "reference.counts.class.1"),
    "a later schema": (
        changed("schema_version", to=10**6) | {"colours": "many"},
        "reads up to 2; serve it",
    ),
    "schema true": (changed("schema_version", to=True), "schema_version"),
    "schema zero": (changed("schema_version", to=0), "schema_version"),
    "version true": (changed("version", to=True), "version: Input should be a valid integer (received 'True')"),
    "version 1.0": (changed("version", to=1.0), "version: Input should be a valid integer (received '1.0')"),
    "version in quotes": (changed("version", to="1"), "version: Input should be a valid integer"),
    "size true": (changed("files", "model.weights.h5", "size", to=True), "files.model.weights.h5.size"),
    "bins true": (changed("reference", "counts", "class", to=[True, 20]), "reference.counts.class.0"),
    "margin in quotes": (changed("preprocessing", "resize", "jpeg_margin", to="2"), "preprocessing.resize.jpeg_margin"),
    "a key twice": (json.dumps(DOCUMENT)[:-1] + ', "version": 4}', "the key 'version' appears twice"),
    "a key twice, inside": (
        json.dumps(DOCUMENT).replace('"recipe"', '"recipe": "best", "recipe"'),
        "the key 'recipe' appears twice",
    ),
    "too long": (json.dumps(DOCUMENT | {"created": "x" * 4_000_000}), "the limit is 4,000,000"),
    "a number that takes long to read": (
        json.dumps(DOCUMENT).replace('"version": 3', f'"version": {"9" * 5_001}'),
        "the document cannot be parsed: a number has 5,001 digits, the limit is 1,000",
    ),
    "not JSON": ("{", "the document"),
    "a list": ("[]", "the document"),
    "empty": ("", "the document"),
    "deep": ("[" * 100_000, "the document"),
}


@pytest.mark.parametrize(("document", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_and_names_the_field(tmp_path, document, field):
    with pytest.raises(ModelError) as refusal:
        read_manifest(written(document, tmp_path))
    assert str(tmp_path / "manifest.json") in str(refusal.value)
    assert field in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "a/../b", "a/b/c", "..", ".hidden", "report/.hidden", "a\\b", "a//b", "a\n", "", "ü"],
)
def test_a_file_outside_the_version_cannot_be_listed(tmp_path, name):
    with pytest.raises(ModelError, match="files"):
        read_manifest(written(changed("files", name, to={"size": 1, "sha256": "0" * 64}), tmp_path))


def test_a_folder_without_a_manifest_was_never_published(tmp_path):
    with pytest.raises(ModelError, match=r"manifest\.json is missing"):
        read_manifest(tmp_path / "manifest.json")


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: it is a folder, not a regular file"):
        read_manifest(tmp_path)


def test_a_manifest_cannot_be_changed_in_memory():
    manifest = Manifest.model_validate(DOCUMENT)
    with pytest.raises(ValueError, match="frozen"):
        manifest.temperature = 2.0


@pytest.mark.parametrize("white", [1, 255])
def test_scale_and_shift_normalise_pixels_as_documented(white):
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    scale, shift = Preprocessing(mean=mean, std=std).scale_and_shift(white)
    pixels = np.linspace(0, white, 256, dtype=np.float32)[:, None]
    normalised = pixels * scale + shift
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, (np.float64(pixels) / white - mean) / std, rtol=1e-5, atol=1e-6)
