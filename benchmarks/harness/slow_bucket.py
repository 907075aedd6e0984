"""A read-only S3 server on this machine that answers after a delay, as storage across a network does.

Knows what Arrow asks for: HEAD and GET of an object, and the list of one prefix. Runs in a process of its own.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

LISTED = 1000  # objects in one answer


@contextmanager
def slow_bucket(objects: dict[str, bytes], seconds: float) -> Iterator[str]:
    """Serve objects, by their key, in a bucket of any name, and return the server's address."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(objects, seconds, sender), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(objects: dict[str, bytes], seconds: float, sender: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Bucket, objects, sorted(objects), seconds))
    server.daemon_threads = True
    sender.send(server.server_port)
    server.serve_forever()


class _Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, objects: dict[str, bytes], keys: list[str], seconds: float, *arguments: object) -> None:
        self._objects, self._keys, self._seconds = objects, keys, seconds
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def log_message(self, *_: object) -> None:
        """Write no log."""

    def _answer(self, head: bool) -> None:
        time.sleep(self._seconds)
        url = urlsplit(self.path)
        query, key = parse_qs(url.query), url.path.lstrip("/").partition("/")[2]
        if "list-type" in query:
            self._send(200, self._list(query))
        elif (content := self._objects.get(key)) is None:
            self._send(404, b"")
        elif head:
            self._send(200, content, head=True)
        else:
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            self._send(206, content[int(first) : int(last or len(content)) + 1])

    def _list(self, query: dict[str, list[str]]) -> bytes:
        prefix, start = query.get("prefix", [""])[0], int(query.get("continuation-token", ["0"])[0])
        keys = [key for key in self._keys if key.startswith(prefix)]
        page, end = keys[start : start + LISTED], start + LISTED
        token = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < len(keys) else ""
        contents = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self._objects[key])}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in page
        )
        truncated = str(bool(token)).lower()
        return (
            f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated><KeyCount>{len(page)}</KeyCount>{token}{contents}"
            "</ListBucketResult>"
        ).encode()

    def _send(self, status: int, content: bytes, head: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if not head:
            self.wfile.write(content)
