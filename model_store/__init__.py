"""Published models: the contract between training and serving, and the only code that computes predictions."""

import sys

# OpenVINO reports its import over the network if this package can be imported. This project sends no telemetry.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
