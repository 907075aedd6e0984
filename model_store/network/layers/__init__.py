"""Layers that can be served: a closed list of stock Keras layers, each with its shapes, weights and cost.

An attribute that is not declared is refused, because it might change the result. A `TrainingOnly` attribute has no
effect at inference.
"""

from model_store.network.layers.activation import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from model_store.network.layers.convolution import Conv2D, Dense, DepthwiseConv2D, SeparableConv2D
from model_store.network.layers.identity import IDENTITIES, Dropout, Identity
from model_store.network.layers.layer import ActivationName, Layer, Padding, Shape
from model_store.network.layers.merging import Add, Average, Concatenate, Maximum, Merge, Minimum, Multiply, Subtract
from model_store.network.layers.normalization import BatchNormalization, Normalization, Rescaling
from model_store.network.layers.pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)
from model_store.network.layers.shaping import Flatten, InputLayer, Reshape, ZeroPadding2D

__all__ = [
    "ELU",
    "LAYERS",
    "Activation",
    "ActivationName",
    "Add",
    "Average",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Identity",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "MaxPooling2D",
    "Maximum",
    "Merge",
    "Minimum",
    "Multiply",
    "Normalization",
    "PReLU",
    "Padding",
    "ReLU",
    "Rescaling",
    "Reshape",
    "SeparableConv2D",
    "Shape",
    "Softmax",
    "Subtract",
    "ZeroPadding2D",
]

CLASSES: tuple[type[Layer], ...] = (
    InputLayer,
    Conv2D,
    DepthwiseConv2D,
    SeparableConv2D,
    Dense,
    BatchNormalization,
    Normalization,
    Rescaling,
    Activation,
    ReLU,
    LeakyReLU,
    PReLU,
    ELU,
    Softmax,
    MaxPooling2D,
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    ZeroPadding2D,
    Flatten,
    Reshape,
    Add,
    Subtract,
    Multiply,
    Average,
    Maximum,
    Minimum,
    Concatenate,
    Dropout,
    *IDENTITIES,
)
LAYERS = {cls.__name__: cls for cls in CLASSES}
