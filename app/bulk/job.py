"""`python -m app classify --to`: reads sources, classifies on every core, writes one Parquet file; can be continued."""

import signal
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa

from app.bulk.answers import answer_schema
from app.bulk.errors import BulkError
from app.bulk.items import Chunk, Item, Reading
from app.bulk.parts import Description, Parts, discard, is_finished
from app.bulk.places import Place, find_place
from app.bulk.progress import BulkProgress
from app.bulk.selection import BLOCK, Selection, Shard
from app.bulk.sources import check_sources, count_images, read_sources
from app.bulk.worker import Answered, answer_chunk, start_worker
from app.process.cores import available_cores
from app.settings import Settings
from app.versions.loading import choose
from model_store.manifest import Manifest

CHUNK_IMAGES, CHUNK_BYTES = BLOCK, 8_000_000
CHUNKS_AHEAD = 2  # of each worker, read or answered but not yet written
PART_IMAGES, PART_SECONDS = 20_000, 30.0  # what a kill may lose


ALL = Shard()


@dataclass(frozen=True)
class Bulk:
    """What to classify and how."""

    sources: Sequence[str]
    to: Path
    column: str | None = None
    id_column: str | None = None
    shard: Shard = ALL
    workers: int | None = None  # processes; None for one per core
    overwrite: bool = False
    ray: str | None = None  # address of the cluster whose processes classify; None for this machine's


def classify_bulk(bulk: Bulk, settings: Settings) -> str:
    """Classify all images of the sources, or those that are left, and return a summary.

    Raises:
        BulkError: the run cannot start or continue.
        ModelError: no version can be served.
        OSError: the answers cannot be written.
        KeyboardInterrupt: Ctrl-C; what is answered is written.
    """
    places = [find_place(source) for source in bulk.sources]
    reading = Reading(settings.max_body_bytes, bulk.column, bulk.id_column)
    manifest, run = _describe(bulk, settings)
    if not bulk.overwrite and is_finished(bulk.to, run):
        return f"{bulk.to} has the answers already"
    check_sources(places, reading)
    if bulk.overwrite:
        discard(bulk.to)
    with closing(Parts(bulk.to, answer_schema(manifest.labels), run)) as parts:
        selection = Selection(bulk.shard, parts.cursor)
        with BulkProgress(parts.cursor.done, count_images(places), bulk.shard.size) as progress:
            items = read_sources(places, reading, selection)
            pinned = settings.model_copy(update={"model_version": manifest.version})
            with _answering(bulk, pinned, places, _chunks(items)) as answers:
                _write(answers, parts, progress)
            selection.close()
        parts.finish()
    return f"{bulk.to}: {progress.summary()}"


def _describe(bulk: Bulk, settings: Settings) -> tuple[Manifest, Description]:
    """Return the model to use, and all that determines the answers."""
    loaded = choose(settings, threads=1).loaded
    manifest, shard = loaded.manifest, bulk.shard
    return manifest, {
        "sources": list(bulk.sources),
        "--column": bulk.column,
        "--id-column": bulk.id_column,
        "--shard": f"{shard.index}/{shard.count}",
        "model": f"{manifest.name} {manifest.version}",
        "precision": loaded.classifier.precision,
        "CIFAR10_MAX_BODY_BYTES": settings.max_body_bytes,
    }


@contextmanager
def _answering(
    bulk: Bulk, settings: Settings, places: Sequence[Place], chunks: Iterator[Chunk]
) -> Iterator[Iterator[Answered]]:
    """Let processes of this machine or a cluster answer the chunks, and stop them at the end of the block.

    Raises:
        BulkError: the cluster cannot be used.
    """
    if bulk.ray is None:
        with closing(_answers(chunks, settings, bulk.workers or available_cores())) as answers:
            yield answers
        return
    from app.bulk.cluster import Pool, cluster_cores, connected

    with connected(bulk.ray):
        pool = Pool(settings, places, bulk.workers or cluster_cores(), CHUNKS_AHEAD)
        yield pool.answers(chunks)


def _answers(chunks: Iterator[Chunk], settings: Settings, workers: int) -> Generator[Answered, None, None]:
    """Yield the answers of all chunks in order, computed in processes, with a bounded number of chunks in memory.

    Raises:
        BulkError: a process was killed.
    """
    pending = deque[tuple[str, Future[Answered]]]()  # and the id of their first image
    pool = ProcessPoolExecutor(workers, get_context("spawn"), start_worker, (settings,))
    try:
        for chunk in chunks:
            with _blocked_interrupt():  # a process that this starts leaves Ctrl-C to this one, from its first moment
                pending.append((chunk[0].id, pool.submit(answer_chunk, chunk)))
            if len(pending) > CHUNKS_AHEAD * workers:
                yield pending[0][1].result()
                pending.popleft()
        while pending:
            yield pending[0][1].result()
            pending.popleft()
    except BrokenProcessPool:
        raise BulkError(
            "a process was killed, probably because memory ran out: give this command more, or use fewer --workers; "
            f"if it always ends at the same place, look at the images from {pending[0][0]} on"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _blocked_interrupt() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _chunks(items: Iterator[Item]) -> Iterator[Chunk]:
    """Gather items until they are many or their bytes are."""
    chunk, size = list[Item](), 0
    for item in items:
        chunk.append(item)
        size += len(item.content) if isinstance(item.content, bytes) else 0
        if len(chunk) == CHUNK_IMAGES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _write(answers: Iterator[Answered], parts: Parts, progress: BulkProgress) -> None:
    """Write the answers in parts; the last one also when the run is interrupted or fails."""
    cursor, rows, written = parts.cursor, list[pa.RecordBatch](), time.monotonic()
    try:
        for answered in answers:
            cursor = cursor.after(answered.ids)
            rows.append(answered.rows)
            progress.show(len(answered.ids), answered.errors, answered.others)
            if cursor.done - parts.cursor.done >= PART_IMAGES or time.monotonic() - written >= PART_SECONDS:
                parts.write(rows, cursor)
                rows, written = [], time.monotonic()
    finally:
        if rows:
            parts.write(rows, cursor)
