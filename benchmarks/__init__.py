"""Benchmarks: the service alone, against an earlier checkout or other servers; training against PyTorch."""


class BenchmarkError(Exception):
    """A requirement is missing or a measurement failed. The text says what to do."""
