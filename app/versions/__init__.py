"""Which version is served: choose it, load it, follow the store, and say what it holds."""
