"""The tests. `training` comes first: it sets what TensorFlow reads when it is imported."""

import training  # noqa: F401
