"""A bare ASGI application on uvicorn that only reads, decodes, batches, infers and writes JSON. `bare.py PORT`."""

import multiprocessing
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import uvicorn
from ours import PROCESSES, decode, load

from app.batcher import Batcher
from app.prediction import predict_each
from app.process.connection import Connection
from app.process.cores import give_way
from app.process.open_connections import OpenConnections

Receive, Send = Callable[[], Awaitable[dict[str, Any]]], Callable[[dict[str, Any]], Awaitable[None]]


class Application:
    """One process with one network. Every request's body is an encoded image; its path is ignored."""

    def __init__(self) -> None:
        self.loaded = load()
        self.labels = list(self.loaded.manifest.labels)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or uvicorn's lifespan events."""
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = await self.predict(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def lifespan(self, receive: Receive, send: Send) -> None:
        """Start the batcher, which needs the running event loop."""
        await receive()
        self.batcher = Batcher(
            lambda batch: predict_each(self.loaded.classifier, batch),
            max_batch=32,
            capacity=2_048,
            initializer=give_way,
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.batcher.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def predict(self, data: bytes) -> bytes:
        """Return our service's answer, without the model's name."""
        row = (await self.batcher.submit(decode(data, self.loaded))).row
        values, best = row.probabilities.tolist(), int(row.probabilities.argmax())
        answer = {"label": self.labels[best], "confidence": values[best], "verdict": row.verdict}
        answer |= {"novelty": row.rounded_novelty, "probabilities": dict(zip(self.labels, values, strict=True))}
        return orjson.dumps(answer)


def serve(port: int) -> None:
    """Listen with uvicorn; the kernel spreads connections over all processes."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(Application(), loop="uvloop", http=Connection, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    server.server_state = OpenConnections(limit=1_024, keep_alive_seconds=75.0)
    server.run([listener])


if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=serve, args=(int(sys.argv[1]),)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
