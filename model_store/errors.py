"""What can be wrong with a model or an image: one exception per cause, each with a stable code and a public text."""


class ModelError(Exception):
    """A version cannot be read, verified or served. The text names the file or layer and what to do."""


class ImageError(Exception):
    """An uploaded image cannot be used. The text is written for the person who sent it."""

    code = "image"


class UnsupportedImage(ImageError):
    """The bytes are not an image of an accepted type."""

    code = "unsupported_image"


class UnusableImage(ImageError):
    """The bytes are of an accepted type but cannot be used: truncated, too many pixels, too many frames."""

    code = "unusable_image"
