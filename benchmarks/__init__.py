"""Speed of the service, alone and beside an earlier checkout or other servers, and of training beside PyTorch."""


class BenchmarkError(Exception):
    """A requirement is missing or a measurement failed; the text says what to do."""
