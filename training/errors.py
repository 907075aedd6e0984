"""The one exception of the training jobs. Its text says what was wrong, what was received and what to do."""


class TrainingError(Exception):
    """The job cannot continue. The command line prints the text and exits with status 1."""
