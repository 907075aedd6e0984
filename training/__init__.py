"""Offline jobs: fetch the data, train, evaluate and publish versions into a store. Knows nothing of the service."""
