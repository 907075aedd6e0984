"""An explanation as JSON: its numbers, and its pictures as `data:` URLs."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.explain import heatmap
from app.explain.explainer import Explanation
from app.explain.saliency import METHOD
from app.prediction import model_name
from model_store.manifest import Manifest


def explanation_json(manifest: Manifest, explanation: Explanation) -> dict[str, Any]:
    """Build the JSON object for one explanation. Drawing takes milliseconds, so call it in a thread."""
    height, width, _ = explanation.seen.shape
    return {
        "label": manifest.labels[explanation.index],
        "confidence": explanation.confidence,
        "saliency": [[round(value, 3) for value in row] for row in explanation.saliency.tolist()],
        "seen": seen_address(manifest, explanation.seen),
        "overlay": _data_address(heatmap.draw_heatmap(explanation.saliency, height, width)),
        "method": METHOD,
        "model": model_name(manifest),
    }


def seen_address(manifest: Manifest, seen: NDArray[np.uint8]) -> str:
    """Encode a network's input (H, W, C), which a PNG keeps exactly, as a `data:` URL; call it in a thread."""
    return _data_address(heatmap.draw_pixels(seen, manifest.preprocessing.channel_order))


def _data_address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
