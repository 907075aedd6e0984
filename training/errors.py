"""What stops a training job: one exception, whose text says what was wrong, what was received and what to do."""


class TrainingError(Exception):
    """A job cannot go on. The command line prints the text and exits with status 1."""
