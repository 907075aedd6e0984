"""Requests of known content, sent as fast as they are answered or at a given rate, with their outcomes."""
