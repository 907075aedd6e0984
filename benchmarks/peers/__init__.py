"""Benchmarks against other servers that users might choose, with the same network, images and load."""
