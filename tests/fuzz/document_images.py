"""Tells schemathesis what an image is. Its command imports this, as `schemathesis.toml` says."""

import schemathesis

from model_store.images.decode import ACCEPTED
from tests.fuzz.images import uploads

for kind in ACCEPTED:
    schemathesis.openapi.media_type(f"image/{kind.lower()}", uploads)
schemathesis.openapi.format("binary", uploads)  # the files of forms
