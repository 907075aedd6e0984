"""Which images a run still has to answer: those of its shard, after those that are already answered."""

from dataclasses import dataclass
from zlib import crc32

from app.bulk.errors import BulkError

BLOCK = 256  # consecutive images of one shard: a row group without any is not read, and shards stay even


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts, numbered from 0."""

    index: int = 0
    count: int = 1

    def has(self, image: int) -> bool:
        """Tell if the image of this number, counted over all sources, is in the shard."""
        return image // BLOCK % self.count == self.index

    def size(self, images: int) -> int:
        """Count the shard's images if the sources have `images`."""
        rounds, rest = divmod(images, BLOCK * self.count)
        return rounds * BLOCK + min(BLOCK, max(0, rest - self.index * BLOCK))


@dataclass(frozen=True)
class Cursor:
    """How many images of the shard are done, and the CRC-32 of their ids."""

    done: int = 0
    checksum: int = 0

    def after(self, ids: list[str]) -> "Cursor":
        """Return the cursor behind these images."""
        return Cursor(self.done + len(ids), _extend(self.checksum, ids))


class Selection:
    """Called with every id, in order; tells if the image is to be read."""

    def __init__(self, shard: Shard, start: Cursor) -> None:
        self._shard, self._start = shard, start
        self._seen, self._passed = 0, Cursor()

    def __call__(self, name: str) -> bool:
        """Return True for an image that is still to be answered.

        Raises:
            BulkError: the images before it are not the ones that were answered.
        """
        index, self._seen = self._seen, self._seen + 1
        if not self._shard.has(index):
            return False
        if self._passed.done == self._start.done:
            return True
        self._passed = self._passed.after([name])
        if self._passed.done == self._start.done:
            self._check()
        return False

    def close(self) -> None:
        """Check at the end of the sources that none of the answered images is missing."""
        self._check()

    def _check(self) -> None:
        if self._passed != self._start:
            raise BulkError(
                f"the sources have changed since the run began: their first {self._start.done:,} images are not those "
                "that are answered; restore them, or begin anew with --overwrite"
            )


def _extend(checksum: int, ids: list[str]) -> int:
    for name in ids:
        checksum = crc32(b"\0", crc32(name.encode(), checksum))
    return checksum
