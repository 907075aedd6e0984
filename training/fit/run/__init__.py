"""The run directory: settings, checkpoints, history, environment and logs of one training."""
