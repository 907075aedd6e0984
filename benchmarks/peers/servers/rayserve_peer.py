"""Ray Serve with its own batching: `rayserve_peer.py PORT`."""

import sys
import time
from typing import Any

import numpy as np
import ray
from common import PROCESSES, answer, decode, load
from fastapi import FastAPI, UploadFile
from numpy.typing import NDArray
from ray import serve

app = FastAPI()


@serve.deployment(max_ongoing_requests=256, num_replicas=PROCESSES)
@serve.ingress(app)
class Cifar:
    """A replica with one network."""

    def __init__(self) -> None:
        self.run = load()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def batched(self, images: list[NDArray[np.uint8]]) -> list[dict[str, Any]]:
        """Call the network once for a batch."""
        return [answer(row) for row in self.run(np.stack(images))]

    @app.post("/predict")
    async def route(self, file: UploadFile) -> Any:
        """Classify the image in the form field `file`."""
        return await self.batched(decode(await file.read()))


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False)
    serve.start(http_options={"port": int(sys.argv[1])})
    serve.run(Cifar.bind())
    while True:
        time.sleep(60)
