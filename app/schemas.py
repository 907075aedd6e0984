"""What goes over the wire, as documented at /docs and in docs/api.md."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from model_store.drift import Status
from model_store.manifest import Feature
from model_store.novelty import Verdict

PREDICTION_EXAMPLE: dict[str, Any] = {
    "label": "cat",
    "confidence": 0.93,
    "verdict": "confident",
    "novelty": 0.12,
    "probabilities": {
        "airplane": 0.001,
        "automobile": 0.001,
        "bird": 0.004,
        "cat": 0.93,
        "deer": 0.006,
        "dog": 0.045,
        "frog": 0.008,
        "horse": 0.003,
        "ship": 0.001,
        "truck": 0.001,
    },
    "model": {"name": "cifar10", "version": "1"},
}
EXPLANATION_EXAMPLE: dict[str, Any] = {
    "label": "cat",
    "confidence": 0.93,
    "saliency": [[0.0, 0.125, 1.0], [0.0, 0.062, 0.482]],
    "seen": "data:image/png;base64,iVBORw0KGgo=",
    "overlay": "data:image/png;base64,iVBORw0KGgo=",
    "method": {
        "name": "ridge regression on random masks",
        "source": "after RISE: Petsiuk, Das and Saenko, 2018, arXiv:1806.07421",
    },
    "model": {"name": "cifar10", "version": "1"},
}
DRIFT_EXAMPLE: dict[str, Any] = {
    "model": {"name": "cifar10", "version": "4"},
    "window_seconds": 3600,
    "images": 2048,
    "status": "drifted",
    "features": {
        "verdict": {
            "psi": 0.3926,
            "status": "drifted",
            "bins": ["confident", "unsure", "none_of_these"],
            "recent": [0.5308, 0.2856, 0.1836],
            "reference": [0.8092, 0.1408, 0.05],
        }
    },
}
PROBLEM_EXAMPLE: dict[str, Any] = {
    "type": "about:blank",
    "title": "Unsupported Media Type",
    "status": 415,
    "code": "unsupported_image",
    "detail": "12 bytes cannot be read: this is JSON; send the bytes of the image file themselves",
    "request_id": "5f2b0c8f6c0f4c0e9d0c9f3d2a1b7e64",
}


class ModelName(BaseModel):
    """Which model and version answered."""

    name: str
    version: str


class PredictionAnswer(BaseModel):
    """The most probable label, its probability, what to make of them, and all probabilities or the `top_k` largest.

    `verdict` says whether to rely on the label: `none_of_these` when the image is stranger than nearly all that the
    network was tested on, `unsure` when it is not but the confidence is low. `novelty` is the share of those images
    that are less strange. Both are null where the version has no fitted thresholds.
    """

    model_config = ConfigDict(json_schema_extra={"example": PREDICTION_EXAMPLE})

    label: str
    confidence: float = Field(ge=0, le=1)
    verdict: Verdict | None
    novelty: float | None = Field(ge=0, le=1)
    probabilities: dict[str, float]
    model: ModelName


class ProblemAnswer(BaseModel):
    """An error, as RFC 9457 has it, with a stable `code`."""

    model_config = ConfigDict(json_schema_extra={"example": PROBLEM_EXAMPLE})

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class BatchResult(BaseModel):
    """One image's prediction, or what is wrong with it."""

    prediction: PredictionAnswer | None = None
    problem: ProblemAnswer | None = None


class BatchAnswer(BaseModel):
    """One result for each file, in the order they were sent."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"results": [{"prediction": PREDICTION_EXAMPLE}, {"problem": PROBLEM_EXAMPLE}]}}
    )

    results: list[BatchResult]


class Method(BaseModel):
    """How an explanation was found, and where that is described."""

    name: str
    source: str


class ExplanationAnswer(BaseModel):
    """Which pixels speak for a class: a map of 32 rows from 0 to 1, and pictures of it as `data:` addresses."""

    model_config = ConfigDict(json_schema_extra={"example": EXPLANATION_EXAMPLE})

    label: str
    confidence: float = Field(ge=0, le=1)
    saliency: list[list[Annotated[float, Field(ge=0, le=1)]]]
    seen: str
    overlay: str
    method: Method
    model: ModelName


class HealthAnswer(BaseModel):
    """The model that is ready to answer, and on what."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "ready",
                "model": {"name": "cifar10", "version": "1"},
                "engine": "openvino",
                "precision": "bfloat16",
            }
        }
    )

    status: str
    model: ModelName
    engine: str
    precision: str


class FeatureDrift(BaseModel):
    """One watched feature: the shares of recent images in its bins beside those of the images it was tested on.

    `bins` are names, or edges, one more than there are shares; the first and last bin of `sharpness` are open outwards.
    `psi` is the population stability index, null like `recent` before there are 500 images.
    """

    psi: float | None = Field(ge=0)
    status: Status
    bins: list[str] | list[float]
    recent: list[float] | None
    reference: list[float]


class DriftAnswer(BaseModel):
    """How far the last hour's images are from those that the version was tested on. `status` is the worst feature's.

    `ok` up to an index of 0.1 or what chance explains, `watch` above, `drifted` above 0.25. `no_reference`: the version
    does not say what it was tested on, and has no features.
    """

    model_config = ConfigDict(json_schema_extra={"example": DRIFT_EXAMPLE})

    model: ModelName
    window_seconds: int
    images: int
    status: Status
    features: dict[Feature, FeatureDrift]


class ModelAnswer(BaseModel):
    """The served version's manifest, whole, and what computes it here."""

    manifest: dict[str, Any]
    engine: str
    precision: str
    golden_difference: float
