"""Explanations: the pixels of an image that support a class, as a map and as a picture."""
