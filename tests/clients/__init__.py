"""Clients of other people against the service: `make clients`."""
