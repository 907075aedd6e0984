"""Metrics, logs and drift of the running service."""
