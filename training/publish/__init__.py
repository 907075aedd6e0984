"""A run, a version or files of Keras → the next version of a store."""
