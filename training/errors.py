"""The exception of the training jobs. Its text names the problem, the value received and the remedy."""


class TrainingError(Exception):
    """The job cannot continue. The command line prints the text and exits with status 1."""
