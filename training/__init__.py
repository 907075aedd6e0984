"""Offline jobs: fetch the data, train, evaluate and publish versions into a store. Knows nothing of the service."""

import os

# TensorFlow reads these on its first import. The first suppresses ten lines about GPUs. The second enables oneDNN on
# processors without AVX-512, where other kernels take twice the time in float32 and a hundred times in bfloat16.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
