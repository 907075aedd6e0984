"""Compare the encodings of one 32×32 image: as /predict's body and in the protocols of other servers.

    python -m benchmarks.encodings [--seconds 3] [--rounds 3]

Prints medians of the rounds, in which the encodings take turns. docs/clients.md has the result. Needs wrk; Linux only.
"""

import argparse
import base64
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np
from PIL import Image

from benchmarks import BenchmarkError
from benchmarks.harness import machine
from benchmarks.harness.server import serving
from benchmarks.harness.tables import Row, table
from benchmarks.load import bodies
from benchmarks.load.bodies import HEADER_LENGTH, Body, Picture
from benchmarks.load.closed_loop import Load, closed_loop, require_wrk, whole_number

CONNECTIONS = (1, 32)
INFER, PREDICT = "/v2/models/{}/infer", "/v1/models/{}:predict"
JSON, OCTETS = "application/json", "application/octet-stream"


def main() -> int:
    """Measure and print. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encodings", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=whole_number, default=3, help="of each measurement (default: 3)")
    parser.add_argument("--rounds", type=whole_number, default=3, help="default: 3")
    options = parser.parse_args()
    try:
        require_wrk()
        print(machine.describe())
        with serving() as server:
            encodings = encode(bodies.pictures()[0], server.model.split()[0])
            loads = [
                closed_loop(server.pid, server.port, body, connections, options.seconds)
                for _ in range(options.rounds)
                for body in encodings
                for connections in CONNECTIONS
            ]
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table([row(body, [load for load in loads if load.body == body.name]) for body in encodings]))
    return 0


def encode(picture: Picture, model: str) -> list[Body]:
    """Make a request with the picture in each encoding."""
    pixels = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))[None]
    fractions = (pixels / 255).astype(np.float32)
    text = base64.b64encode(picture.data).decode()
    infer, predict = INFER.format(model), PREDICT.format(model)
    contents = {
        "v1, base64": (predict, {"instances": [{"b64": text}]}),
        "v1, JSON integers": (predict, {"instances": pixels.tolist()}),
        "v1, JSON floats": (predict, {"instances": fractions.tolist()}),
        "v2, JSON UINT8": (infer, tensor(pixels.shape, "UINT8", pixels.reshape(-1).tolist())),
        "v2, JSON FP32": (infer, tensor(fractions.shape, "FP32", fractions.reshape(-1).tolist())),
        "v2, JSON BYTES (base64)": (infer, tensor((1,), "BYTES", [text])),
    }
    binary = {
        "v2, binary UINT8": (pixels.shape, "UINT8", pixels.tobytes()),
        "v2, binary FP32": (fractions.shape, "FP32", fractions.tobytes()),
        "v2, binary BYTES": ((1,), "BYTES", len(picture.data).to_bytes(4, "little") + picture.data),
    }
    return [
        replace(bodies.raw(picture), name="/predict, the file as body"),
        replace(bodies.form(picture), name="/predict, the file in a form"),
        *(Body(name, path, JSON, json.dumps(content).encode(), picture) for name, (path, content) in contents.items()),
        *(with_tensor(name, infer, picture, *asked) for name, asked in binary.items()),
    ]


def tensor(shape: Sequence[int], datatype: str, data: Sequence[object]) -> dict[str, object]:
    """Describe an input of the Open Inference Protocol with its data."""
    return {"inputs": [{"name": "image", "shape": list(shape), "datatype": datatype, "data": data}]}


def with_tensor(name: str, path: str, picture: Picture, shape: Sequence[int], datatype: str, data: bytes) -> Body:
    """Make a request with a binary tensor after its description."""
    described = {
        "name": "image",
        "shape": list(shape),
        "datatype": datatype,
        "parameters": {"binary_data_size": len(data)},
    }
    header = json.dumps({"inputs": [described]}).encode()
    return Body(name, path, OCTETS, header + data, picture, header=(HEADER_LENGTH, str(len(header))))


def row(body: Body, loads: Sequence[Load]) -> Row:
    """Tabulate one encoding: medians of its loads."""
    if refused := sum(load.errors for load in loads):
        raise BenchmarkError(f"{body.name}: {refused} requests were not answered with 200")
    one, many = ([load for load in loads if load.connections == connections] for connections in CONNECTIONS)
    return {
        "encoding": body.name,
        "bytes": len(body.data),
        "p50 ms, 1 connection": median(load.p50_ms for load in one),
        f"requests/s, {CONNECTIONS[1]} connections": median(load.rate for load in many),
        "CPU ms a request": median(load.server_ms for load in many),
    }


if __name__ == "__main__":
    sys.exit(main())
