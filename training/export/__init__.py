"""A version in other servers' formats."""
