"""The rows of the answers: one for every image, as Arrow record batches.

Probabilities have a column a label, as in `--format csv`: a query names them, and a reader loads only those it needs.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from app.bulk.errors import Rejection
from app.prediction import Prediction
from model_store.manifest import Manifest


def answer_schema(labels: Sequence[str]) -> pa.Schema:
    """Build the schema. Columns of the prediction are null for a rejected image, those of the error for others."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            ("label", pa.string()),
            ("confidence", pa.float32()),
            ("verdict", pa.string()),
            ("novelty", pa.float32()),
            *((f"probability_{label}", pa.float32()) for label in labels),
            ("error_code", pa.string()),
            ("error_detail", pa.string()),
            ("model", pa.string()),
            ("model_version", pa.string()),
        ]
    )


def answer_batch(
    manifest: Manifest, schema: pa.Schema, ids: Sequence[str], outcomes: Sequence[Prediction | Rejection]
) -> pa.RecordBatch:
    """Build the rows of some images."""
    labels = manifest.labels
    absent = np.array([isinstance(outcome, Rejection) for outcome in outcomes], bool)
    probabilities = np.zeros((len(outcomes), len(labels)), np.float32)
    for row, outcome in enumerate(outcomes):
        if isinstance(outcome, Prediction):
            probabilities[row] = outcome.probabilities
    rejections = [outcome if isinstance(outcome, Rejection) else None for outcome in outcomes]
    predictions = [outcome if isinstance(outcome, Prediction) else None for outcome in outcomes]
    columns = [
        pa.array(ids, pa.string()),
        pa.array(np.array(labels, object)[probabilities.argmax(1)], pa.string(), mask=absent),
        pa.array(probabilities.max(1), pa.float32(), mask=absent),
        pa.array([item and item.verdict for item in predictions], pa.string()),
        pa.array([item and item.rounded_novelty for item in predictions], pa.float32()),
        *(pa.array(probabilities[:, index], pa.float32(), mask=absent) for index in range(len(labels))),
        pa.array([item and item.code for item in rejections], pa.string()),
        pa.array([item and item.detail for item in rejections], pa.string()),
        pa.array([manifest.name] * len(ids), pa.string()),
        pa.array([str(manifest.version)] * len(ids), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
