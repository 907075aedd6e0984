"""Keras's layers that only change images during training."""

from keras import layers

# Arguments of the layers that only change images during training, where they have no defaults.
ARGUMENTS = {
    "GaussianDropout": (0.5,),
    "GaussianNoise": (0.5,),
    "AlphaDropout": (0.5,),
    "SpatialDropout2D": (0.5,),
    "ActivityRegularization": (0.1,),
    "RandomBrightness": (0.5,),
    "RandomColorDegeneration": (0.5,),
    "RandomContrast": (0.5,),
    "RandomHue": (0.5,),
    "RandomPosterization": (4,),
    "RandomRotation": (0.5,),
    "RandomSaturation": (0.5,),
    "RandomSharpness": (0.5,),
    "RandomTranslation": (0.5, 0.5),
    "RandomZoom": (0.5,),
}


def inert(kind: str) -> layers.Layer:
    """One of them, by the name of its class."""
    return getattr(layers, kind)(*ARGUMENTS.get(kind, ()))
