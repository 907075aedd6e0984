"""Errors about a model or an uploaded image. Clients see their texts."""


class ModelError(Exception):
    """A version cannot be read, verified or served. The text names the file or layer and says what to do."""


class ImageError(Exception):
    """An uploaded image cannot be used. The text addresses its sender."""


class UnsupportedImage(ImageError):
    """The bytes are not an image of an accepted type."""


class UnusableImage(ImageError):
    """The bytes are of an accepted type but cannot be used: truncated, too many pixels, too many frames."""


class OutOfMemory(ImageError):
    """Decoding an image takes more memory than the process gets. The image may be fine."""
