"""A version's `report/evaluation.json`: the figures of its network on the test images, class by class.

Defines the JSON schema and opens no file. `training` builds a report and the model card reads it.
"""

import json
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field, ValidationError, model_validator

from model_store.errors import ModelError
from model_store.manifest import Frozen, Share, first_error
from model_store.reading import parse_json

REPORT_FOLDER = "report/"  # in a version's folder, also holds the plots
REPORT_FILE = "evaluation.json"

Count = Annotated[int, Field(ge=0)]


class ReportPart(Frozen):
    """Immutable; an unknown field is ignored, because newer versions may add some."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class ClassReport(ReportPart):
    """Figures of one class; people's accuracy where it is known."""

    precision: Share
    recall: Share
    human_accuracy: Share | None = None


class ReliabilityBin(NamedTuple):
    """A bin of confidence that is not empty: its mean confidence, its accuracy and its number of images."""

    confidence: float
    accuracy: Share
    images: Count


class MistakeReport(ReportPart):
    """A misclassified image; `index` counts the measured images."""

    index: Count
    label: str = Field(alias="is")
    called: str
    confidence: Share


class CorruptionReport(ReportPart):
    """Accuracy under one corruption, at each strength and on average."""

    parameter: str
    strengths: tuple[int | float, ...]
    accuracy: tuple[Share, ...]
    mean: Share


class PhotoReport(ReportPart):
    """Accuracy on images enlarged to a size in pixels and saved as a kind of file."""

    width: Count
    height: Count
    file: str
    accuracy: Share


class RobustnessReport(ReportPart):
    """Accuracy on corrupted images and on photo-sized files; differences are from the untouched images' accuracy.

    Reports of earlier versions have no figures for CIFAR-10-C's corruptions.
    """

    images: Count
    accuracy: Share
    corruption_accuracy: Share
    photo_accuracy: Share
    corruption_standard_error: float
    corruptions: dict[str, CorruptionReport] = Field(min_length=1)
    corruptions_note: str
    cifar10_c_accuracy: Share | None = None
    cifar10_c_standard_error: float | None = None
    cifar10_c_corruptions: dict[str, CorruptionReport] | None = None
    cifar10_c_note: str | None = None
    photo_difference: float
    photo_difference_standard_error: float
    photos: tuple[PhotoReport, ...] = Field(min_length=1)


class EpochReport(ReportPart):
    """An epoch of the training. Accuracy is of the training images; a distilled network has agreement instead.

    `kept` is set where the best epoch was kept: True for that one, False for all if the linear probe was better.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # the loss of a run that diverged

    agreement: float | None = None
    accuracy: float | None = None
    loss: float
    epoch: int
    seconds: float | None = None
    val_loss: float | None = Field(default=None, alias="watched_loss")
    val_accuracy: float | None = Field(default=None, alias="watched_accuracy")
    kept: bool | None = None


class Report(ReportPart):
    """All of `evaluation.json`. `confusion[i][j]` counts images of class i called class j.

    A field with a default is absent from a file whose report does not have it: the first reports had no mistakes and
    did not name the worst class, a network need not be measured for robustness, and an imported one has no history.
    """

    images: Count
    accuracy: Share
    mirror_accuracy: Share
    negative_log_likelihood: float
    expected_calibration_error: Share
    worst_class: str | None = None
    worst_class_recall: Share
    engine: str
    precision: str
    class_gap: Share | None = None
    classes: dict[str, ClassReport] = Field(min_length=2)
    human_source: str | None = None
    confusion: tuple[tuple[Count, ...], ...]
    reliability: tuple[ReliabilityBin, ...]
    mistakes: tuple[MistakeReport, ...] = ()
    images_per_second: Count
    robustness: RobustnessReport | None = None
    history: tuple[EpochReport, ...] = ()

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights were kept, 0 if none was; None if that is not recorded."""
        kept = [epoch for epoch in self.history if epoch.kept is not None]
        return next((epoch.epoch for epoch in kept if epoch.kept), 0) if kept else None

    @model_validator(mode="after")
    def _square(self) -> "Report":
        if [len(row) for row in self.confusion] != [len(self.classes)] * len(self.classes):
            raise ValueError(f"confusion must have {len(self.classes)} rows and columns, one for each class")
        return self


def read_report(content: bytes) -> Report:
    """Parse `evaluation.json`.

    Raises:
        ModelError: it is not JSON or does not fit the schema; the text names the field.
    """
    try:
        parse_json(content)
        return Report.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise ModelError(f"{REPORT_FILE}: {first_error(error)}; publish the version again") from None
    except ValueError as error:
        raise ModelError(f"{REPORT_FILE}: the document cannot be parsed: {error}; publish the version again") from None


def report_to_json(report: Report) -> bytes:
    """Format `evaluation.json` for people to read: indented, without the fields that were not set."""
    document = report.model_dump(by_alias=True, exclude_unset=True)
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
