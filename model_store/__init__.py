"""The contract between training and serving: what a published model is, and how its answers are computed.

Nothing here knows HTTP, and nothing here imports `app` or `training`.
"""

import sys

# OpenVINO reports every import over the network when this package can be imported. Nothing in this project dials out.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
