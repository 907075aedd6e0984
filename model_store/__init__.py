"""Published models: the format shared by training and serving, and the only code that computes predictions."""

import sys

# OpenVINO reports its import over the network if it can import this package. This project sends no telemetry.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
