"""Measurement of a network as it is served, and all that is fitted on validation images."""
