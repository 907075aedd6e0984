"""Labelled images: CIFAR-10, and folders of users' own."""
