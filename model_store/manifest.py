"""`manifest.json`: a version's files, preprocessing, thresholds and training record.

Defines its schema, reads it and writes it.
"""

import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_store.errors import FileError
from model_store.reading import MAX_JSON_BYTES, parse_json, read_regular

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
# The newest schema that this release reads. A manifest says the oldest one that has all its fields, so that older
# releases skip a version only if they could not serve it. 2 added the input's sides, channels and their order.
SCHEMA = 2
FILE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?$"  # at most one folder down, never up


class Frozen(BaseModel):
    """Immutable model that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resize(Frozen):
    """Settings for resizing a decoded image to the network's input.

    `filter` is Pillow's resampling filter. `fit` is for images of other proportions than the input, which is mostly
    square: `stretch` ignores the proportions, `crop` keeps the centre, `pad` adds black bars. A JPEG may be decoded at
    1/2, 1/4 or 1/8 of its size if its sides keep at least `jpeg_margin` × those of the input.
    """

    filter: Literal["box", "bilinear", "hamming", "bicubic", "lanczos"] = "lanczos"
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    jpeg_margin: int = Field(default=2, ge=1, le=64)


Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: frozenset[Precision] = frozenset(get_args(Precision))
Side = Annotated[int, Field(ge=16, le=256)]
ChannelOrder = Literal["RGB", "BGR"]
Positive = Annotated[float, Field(gt=0)]


class Preprocessing(Frozen):
    """uint8 pixels (H, W, C) from `resize`, in the network's channel order → float32 `(pixel / 255 - mean) / std`.

    Mean and standard deviation have one number for each channel: three, in the order of `channel_order`, or one for
    grey.
    """

    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    resize: Resize = Resize()
    height: Side = Field(default=32, exclude_if=lambda height: height == 32)  # left out, as before there were others
    width: Side = Field(default=32, exclude_if=lambda width: width == 32)
    channel_order: ChannelOrder = Field(default="RGB", exclude_if=lambda order: order == "RGB")

    @model_validator(mode="after")
    def _consistent(self) -> "Preprocessing":
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std must both have 3 numbers, or 1 for grey; they have {len(self.mean)} and {len(self.std)}"
            )
        if len(self.mean) == 1 and self.channel_order != "RGB":
            raise ValueError("grey has one channel and so no channel_order; leave it out")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        return self.height, self.width, len(self.mean)

    def describe(self) -> str:
        """Return the network's input in words, such as "224×224 RGB pixels", width first."""
        return f"{self.width}×{self.height} {self.channel_order if len(self.mean) == 3 else 'grey'} pixels"

    @property
    def as_rgb(self) -> "Preprocessing":
        """The same size and resizing in RGB, not normalised: how images are held that people look at, too."""
        return self.model_copy(update={"mean": (0, 0, 0), "std": (1, 1, 1), "channel_order": "RGB"})

    @property
    def schema_version(self) -> int:
        """The oldest schema of a manifest that has all the fields in use."""
        return 1 if (*self.shape, self.channel_order) == (32, 32, 3, "RGB") else 2

    def scale_and_shift(self, white: float = 255) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the float32 (C,) by which `pixel * scale + shift` normalises pixels in 0..`white`."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.asarray(1 / (np.float32(white) * std), np.float32), np.asarray(-mean / std, np.float32)


UNNORMALISED = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))  # to decode 32×32 RGB pixels before there is a network


class File(Frozen):
    """Size in bytes and SHA-256 (hexadecimal) of one file of the version."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


Share = Annotated[float, Field(ge=0, le=1)]


class Verdicts(Frozen):
    """Thresholds of the verdicts; see `novelty.py`.

    `scores` are quantiles at equal steps, ascending, of the validation images' out-of-distribution scores. Without
    `novelty.npz` these are energies; older manifests call the field `energies`. The verdict is `none_of_these` if the
    rejection score exceeds `rejection_above`, or in older manifests, which lack it, if the novelty exceeds
    `novelty_above`; else `unsure` if the confidence is less than `confidence_below`.
    """

    novelty_above: Share
    rejection_above: float | None = None
    confidence_below: Share
    scores: tuple[float, ...] = Field(
        validation_alias=AliasChoices("scores", "energies"), min_length=2, max_length=1001
    )

    @model_validator(mode="after")
    def _ascending(self) -> "Verdicts":
        if any(later < earlier for earlier, later in pairwise(self.scores)):
            raise ValueError("scores must ascend")
        return self


Feature = Literal["class", "confidence", "verdict", "brightness", "sharpness"]
FEATURE_BINS: dict[Feature, int] = {
    "confidence": 10,
    "verdict": 3,
    "brightness": 16,
    "sharpness": 16,
}  # class: one bin per label


class Reference(Frozen):
    """Counts of the version's test images in each bin of each feature; see `drift.py`."""

    counts: dict[Feature, tuple[Annotated[int, Field(ge=0)], ...]]

    @model_validator(mode="after")
    def _whole(self) -> "Reference":
        if missing := set(get_args(Feature)) - set(self.counts):
            raise ValueError(f"counts lack {', '.join(sorted(missing))}")
        for feature, bins in FEATURE_BINS.items():
            if len(self.counts[feature]) != bins:
                raise ValueError(f"{feature} has {bins} bins, not {len(self.counts[feature])}")
        if len(images := {sum(counts) for counts in self.counts.values()}) != 1 or 0 in images:
            raise ValueError("every feature must count the same number of images, at least one")
        return self


class Manifest(Frozen):
    """Contents of `manifest.json`. `metrics` and `training` have no fixed keys."""

    schema_version: int = Field(default=1, ge=1, le=SCHEMA)
    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1)
    created: str
    labels: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(min_length=2, max_length=1000)
    preprocessing: Preprocessing
    output: Literal["logits", "probabilities"]
    temperature: float = Field(default=1.0, gt=0)
    verdicts: Verdicts | None = None
    reference: Reference | None = None
    golden_tolerance: dict[Precision, Annotated[float, Field(gt=0, lt=1)]]
    files: dict[Annotated[str, Field(pattern=FILE_PATTERN)], File]
    metrics: dict[str, Any] = {}
    training: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if self.schema_version < (needed := self.preprocessing.schema_version):
            raise ValueError(f"schema_version must be {needed}, for the fields of this preprocessing")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct")
        if self.output == "probabilities" and self.temperature != 1.0:
            raise ValueError("temperature divides logits; a network that ends in softmax must have temperature 1")
        if self.output == "probabilities" and self.verdicts:
            raise ValueError("verdicts need the energy of logits; a network that ends in softmax has none")
        if self.reference and not self.verdicts:
            raise ValueError("the reference counts verdicts, but this version has no verdicts")
        if self.reference and len(self.reference.counts["class"]) != len(self.labels):
            raise ValueError(f"the reference must count {len(self.labels)} classes, as many as there are labels")
        return self


def read_manifest(path: Path) -> Manifest:
    """Read and validate `manifest.json`.

    Raises:
        FileError: the file is missing, is not JSON, or does not fit the schema; the text names the field.
    """
    if not os.path.lexists(path):
        raise FileError(path, " is missing; a version without a manifest was never published")
    content = read_regular(path, MAX_JSON_BYTES, path.parent)
    try:
        _check_schema(parse_json(content), path)
        return Manifest.model_validate_json(content, strict=True)  # strict: `true` and "7" are not integers
    except ValidationError as error:
        raise FileError(path, f": {first_error(error)}") from None
    except ValueError as error:
        raise FileError(path, f": the document cannot be parsed: {error}") from None


def _check_schema(document: Any, path: Path) -> None:
    schema = document.get("schema_version") if isinstance(document, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise FileError(
            path,
            f" has schema_version {schema}, but this release reads up to {SCHEMA}; serve it with a newer release",
        )


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest.json`, indented, with keys in the schema's order."""
    path.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def first_error(error: ValidationError) -> str:
    """Describe the first field that does not fit a schema: where it is, why, and what was received."""
    first = error.errors()[0]
    location = ".".join(map(str, first["loc"])) or "the document"
    return f"{location}: {first['msg']} (received {str(first['input'])[:80]!r})"
