"""Publish a run, a version or Keras files as the next version in a store."""
