"""Errors in a model or an uploaded image, with texts for the public."""


class ModelError(Exception):
    """A version cannot be read, verified or served. The text names the file or layer and what to do."""


class ImageError(Exception):
    """An uploaded image cannot be used. The text is written for the person who sent it."""


class UnsupportedImage(ImageError):
    """The bytes are not an image of an accepted type."""


class UnusableImage(ImageError):
    """The bytes are of an accepted type but cannot be used: truncated, too many pixels, too many frames."""
