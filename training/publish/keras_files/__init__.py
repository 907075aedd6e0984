"""Convert files saved by Keras 2 and 3 to a network of `model_store`. No code from a file runs."""
