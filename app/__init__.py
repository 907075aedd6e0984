"""The web service: classifies uploaded images with a model from `model_store`, its only source of models."""

__version__ = "0.1.0"
