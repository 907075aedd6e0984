"""Explanations: which pixels of an image speak for a class, and pictures that show them."""
