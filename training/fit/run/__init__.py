"""What a run leaves in its directory: settings, checkpoints, history, its environment and logs."""
