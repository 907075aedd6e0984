"""Layers that return their input unchanged at inference."""

from typing import Any

from pydantic import ConfigDict, create_model

from model_store.network.layers.layer import Layer, TrainingOnly


class Identity(Layer):
    """Identity; its subclasses only change images during training, so all their attributes matter in training only."""

    model_config = ConfigDict(extra="ignore")

    is_identity = True


class Dropout(Layer):
    """Dropout, which does nothing at inference."""

    is_identity = True

    rate: TrainingOnly = None
    seed: TrainingOnly = None
    noise_shape: TrainingOnly = None

    def training_config(self) -> dict[str, Any]:
        """The rate."""
        return {"rate": self.rate}


NAMES = (
    "ActivityRegularization",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout2D",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
)
IDENTITIES: tuple[type[Layer], ...] = (
    Identity,
    *(create_model(name, __base__=Identity, __module__=__name__) for name in NAMES),
)
