"""Offline jobs: fetch the data, train, evaluate and publish versions into a store. Knows nothing of the service."""

import os

# TensorFlow reads these when it is first imported. It greets with ten lines about GPUs, and leaves oneDNN's kernels out
# on processors without AVX-512, where its own take twice the time in float32 and a hundred times that in bfloat16.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
