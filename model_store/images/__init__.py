"""Untrusted image files, checked and decoded to 32×32 pixels."""
