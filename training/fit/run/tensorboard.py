"""Logs for TensorBoard, written by TensorFlow on every backend."""

from pathlib import Path

from training.errors import TrainingError


class TensorBoard:
    """Writes event files into a folder; `tensorboard --logdir FOLDER` shows them."""

    def __init__(self, folder: Path) -> None:
        """Open the folder.

        Raises:
            TrainingError: TensorFlow is not installed, or cannot write there.
        """
        try:
            import tensorflow as tf
        except ImportError:
            raise TrainingError(
                "--tensorboard needs TensorFlow, which is not installed; install it or leave out --tensorboard"
            ) from None
        self._summary = tf.compat.v1.Summary
        try:
            with tf.Graph().as_default():  # the only writer that works without TensorBoard rejects eager mode
                self._writer = tf.compat.v1.summary.FileWriter(str(folder))
        except tf.errors.OpError as error:
            raise TrainingError(
                f"--tensorboard {folder} cannot be written: {error.message}; choose another folder"
            ) from None

    def write(self, record: dict[str, float]) -> None:
        """Write one epoch's record, with its `epoch` as the step."""
        values = [
            self._summary.Value(tag=name, simple_value=value) for name, value in record.items() if name != "epoch"
        ]
        self._writer.add_summary(self._summary(value=values), int(record["epoch"]))
        self._writer.flush()
