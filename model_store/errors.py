"""Errors about a model or an uploaded image. Clients see their texts."""

from pathlib import Path


class ModelError(Exception):
    """A version cannot be read, verified or served. The text names the file or layer and says what to do.

    Logs and commands show the text; clients see `public`, which has no path of the server.
    """

    def __init__(self, text: str, public: str | None = None) -> None:
        super().__init__(text)
        self.public = text if public is None else public


class FileError(ModelError):
    """A file of the store cannot be used; `problem` follows the file's path, or its name for clients."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}{problem}", f"{path.name}{problem}")


class ImageError(Exception):
    """An uploaded image cannot be used. The text addresses its sender."""


class UnsupportedImage(ImageError):
    """The bytes are not an image of an accepted type."""


class UnusableImage(ImageError):
    """The bytes are of an accepted type but cannot be used: truncated, too many pixels, too many frames."""


class OutOfMemory(ImageError):
    """Decoding an image takes more memory than the process gets. The image may be fine."""
