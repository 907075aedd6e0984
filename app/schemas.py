"""Response schemas for the OpenAPI document, which /docs shows. docs/api.md describes them too."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_store.drift import Status
from model_store.manifest import ChannelOrder, Feature
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
    """The model and version that answered."""

    name: str
    version: str


class PredictionAnswer(BaseModel):
    """The most probable label with its probability (`confidence`), a verdict, and the probabilities.

    `novelty` is the share of the validation images that are less unusual than this image. `verdict` is `none_of_these`
    if no class fits the image or it is very unlike the training images, otherwise `unsure` if the confidence is low,
    otherwise `confident`.
    Both are null if the version has no fitted thresholds. `probabilities` has all labels, or the `top_k` most probable.
    `seen` is the image as the network saw it, a PNG as `data:` URL, and absent unless asked for with `?seen=true`.
    """

    model_config = ConfigDict(json_schema_extra={"example": PREDICTION_EXAMPLE})

    label: str
    confidence: float = Field(ge=0, le=1)
    verdict: Verdict | None
    novelty: float | None = Field(ge=0, le=1)
    probabilities: dict[str, float]
    model: ModelName
    seen: str = ""


class ProblemAnswer(BaseModel):
    """An error as a problem document (RFC 9457) with a stable `code`."""

    model_config = ConfigDict(json_schema_extra={"example": PROBLEM_EXAMPLE})

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class BatchResult(BaseModel):
    """The prediction for one image, or the problem with it."""

    prediction: PredictionAnswer | None = None
    problem: ProblemAnswer | None = None


class BatchAnswer(BaseModel):
    """One result per file, in the order they were sent."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"results": [{"prediction": PREDICTION_EXAMPLE}, {"problem": PROBLEM_EXAMPLE}]}}
    )

    results: list[BatchResult]


class Method(BaseModel):
    """The method that computed an explanation, and its source."""

    name: str
    source: str


class ExplanationAnswer(BaseModel):
    """The pixels that support a class: `saliency` is a map of 32 rows of 32 values from 0 to 1, whatever their number.

    `seen` is the image as the network saw it, and `overlay` the heatmap to lay over it, both PNGs as `data:` URLs.
    """

    model_config = ConfigDict(json_schema_extra={"example": EXPLANATION_EXAMPLE})

    label: str
    confidence: float = Field(ge=0, le=1)
    saliency: list[list[Annotated[float, Field(ge=0, le=1)]]]
    seen: str
    overlay: str
    method: Method
    model: ModelName


class SkippedVersion(BaseModel):
    """A version that should be served but cannot be, and why."""

    version: str
    reason: str


class HealthAnswer(BaseModel):
    """The model that is ready, the engine and precision that run it, and better versions that cannot be served.

    `store_problem` says why the store cannot be followed; null if it can.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "ready",
                "model": {"name": "cifar10", "version": "1"},
                "engine": "openvino",
                "precision": "bfloat16",
                "skipped": [],
                "store_problem": None,
            }
        }
    )

    status: str
    model: ModelName
    engine: str
    precision: str
    skipped: list[SkippedVersion] = []
    store_problem: str | None = None


class StoredVersion(BaseModel):
    """A version in the store: `serving`, `available`, or `skipped` for the reason."""

    version: str
    state: Literal["serving", "available", "skipped"]
    reason: str | None = None


class VersionsAnswer(BaseModel):
    """The store's versions of the model, newest first.

    `serving` is the version that answers, `active` the one in the file ACTIVE, null without the file. `follows` is
    true if the service changes its version with the store. `store_problem` says why the store cannot be read.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "cifar10",
                "serving": "8",
                "active": None,
                "follows": True,
                "versions": [
                    {"version": "9", "state": "skipped", "reason": "golden.npz is missing; publish the version again"},
                    {"version": "8", "state": "serving", "reason": None},
                    {"version": "7", "state": "available", "reason": None},
                ],
                "store_problem": None,
            }
        }
    )

    model: str
    serving: str
    active: str | None
    follows: bool
    versions: list[StoredVersion]
    store_problem: str | None = None


class FeatureDrift(BaseModel):
    """One monitored feature: the share of recent images in each bin, and the share of test images (`reference`).

    `bins` are the bins' names, or their edges, one more than the shares; the first and last bin of `sharpness` are
    unbounded. `psi` is the population stability index. It and `recent` are null until 500 images are counted.
    """

    psi: float | None = Field(ge=0)
    status: Status
    bins: list[str] | list[float]
    recent: list[float] | None
    reference: list[float]


class DriftAnswer(BaseModel):
    """The difference between the last hour's images and the test images. `status` is that of the worst feature.

    A feature is `ok` up to an index of 0.1, or more if chance explains it; `watch` above; `drifted` above 0.25. A
    version without statistics of its test images has the status `no_reference` and no features.
    """

    model_config = ConfigDict(json_schema_extra={"example": DRIFT_EXAMPLE})

    model: ModelName
    window_seconds: int
    images: int
    status: Status
    features: dict[Feature, FeatureDrift]


class ModelInput(BaseModel):
    """Images as the network takes them: three channels in `channel_order`, or one of grey.

    Files are decoded and resized to that. Pixels that clients send themselves are RGB, or grey.
    """

    height: int = Field(ge=16, le=256)
    width: int = Field(ge=16, le=256)
    channels: Literal[1, 3]
    channel_order: ChannelOrder


class ModelAnswer(BaseModel):
    """The served version's complete manifest, its network's input, and the engine and precision that run it.

    `golden_difference` is the largest difference between probabilities computed at start-up and the published ones.
    """

    manifest: dict[str, Any]
    input: ModelInput
    engine: str
    precision: str
    golden_difference: float
