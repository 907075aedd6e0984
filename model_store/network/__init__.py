"""The network: from Keras JSON and HDF5 weights to a model of an inference engine."""
