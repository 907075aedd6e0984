"""The servers that users would pick instead, with the same network, images and load."""
