"""mosec, a Rust front end with Python workers and its own batching: `mosec_peer.py --address HOST --port PORT`."""

from typing import Any

import numpy as np
import orjson
from mosec import Server, Worker
from ours import PROCESSES, decode, load


class Classify(Worker):
    """A worker process with one network."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = load()

    def deserialize(self, data: bytes) -> bytes:
        """Return the body undecoded: this runs before batches are formed."""
        return data

    def serialize(self, data: dict[str, Any]) -> bytes:
        """Encode one answer as JSON."""
        return orjson.dumps(data)

    def forward(self, data: list[bytes]) -> list[dict[str, Any]]:
        """Call the network once for a batch."""
        batch = np.stack([decode(body, self.loaded) for body in data])
        labels = self.loaded.manifest.labels
        return [
            {"label": labels[int(row.argmax())], "probabilities": dict(zip(labels, row.tolist(), strict=True))}
            for row in self.loaded.classifier.predict(batch).probabilities
        ]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classify, num=PROCESSES, max_batch_size=32, max_wait_time=1)
    server.run()
