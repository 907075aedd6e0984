"""Offline jobs: fetch the data, train, evaluate and publish versions into a store. Knows nothing of the service."""

import os

from training.quiet import silence_tensorflow

silence_tensorflow()
# Read by TensorFlow on its first import: enables oneDNN on processors without AVX-512, where other kernels take twice
# the time in float32 and a hundred times in bfloat16.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
