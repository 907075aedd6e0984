"""Tests on real Ray clusters, in an environment of their own: `make cluster`."""
