"""Drives `/predict` of the checkout in the current folder, in this process; run by `benchmarks.traces`.

For each line on stdin it sends so many requests, one after the other, and prints the processor time of one in seconds:
that of all threads since the last line, so the export of spans counts even if it takes place between turns. The network
is asked once and its answer repeated: its time varies by more than all that is measured here.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


async def take_turns(image: bytes) -> None:
    """Load the model, then measure for each line."""
    from app.main import create_app
    from app.settings import Settings

    settings = Settings()
    try:
        from app.monitoring.traces import start_traces
    except ModuleNotFoundError:  # an earlier checkout
        app = create_app(settings)
    else:
        app = create_app(settings, spans=start_traces(settings))
    async with app.router.lifespan_context(app):
        while app.state.pipeline.serving is None:
            await asyncio.sleep(0.05)
        batcher = app.state.pipeline.serving._batcher
        (answer,) = batcher._predict(np.zeros((1, 32, 32, 3), np.uint8))
        batcher._predict = lambda images: [answer] * len(images)
        began = time.process_time()
        for line in sys.stdin:
            for _ in range(int(line)):
                await _ask(app, image)
            ended = time.process_time()
            print((ended - began) / int(line), flush=True)
            began = ended


async def _ask(app: Any, image: bytes) -> None:
    headers = [(b"host", b"localhost"), (b"content-type", b"image/png"), (b"content-length", b"%d" % len(image))]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/predict", "root_path": "", "scheme": "http"}
    scope |= {"headers": headers, "query_string": b"", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    statuses = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": image, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status"))

    await app(scope, receive, send)
    await asyncio.sleep(0)  # the request is counted, logged and traced in the loop's next turns
    await asyncio.sleep(0)
    if statuses[:1] != [200]:
        raise SystemExit(f"answered {statuses[:1]}, not 200")


def main() -> None:
    """Measure until stdin ends."""
    from app.monitoring.logs import configure_logging

    configure_logging("info")
    asyncio.run(take_turns(Path(sys.argv[1]).read_bytes()))


if __name__ == "__main__":
    main()
