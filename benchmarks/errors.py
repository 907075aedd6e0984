"""What stops a benchmark."""


class BenchmarkError(Exception):
    """Something is missing or did not work; the text says what to do."""
